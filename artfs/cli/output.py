"""What the commands print: tables, JSON, sizes and times. Text is for people (local times, 1.2 MiB, control
characters of hostile names escaped), JSON for programs (UTC, bytes, names as they are)."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from unicodedata import combining, east_asian_width

import click

from artfs.errors import InvalidArgumentError, StorageError

UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def human_size(size: int) -> str:
    """`size` bytes as "17 B", "1.2 MiB": three figures at most before the unit grows."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in UNITS:
        value /= 1024
        if value < 999.95 or unit == UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def parse_size(text: str) -> int:
    """Bytes of "20G", "1.5 GiB", "300": units of 1,024, with or without "iB". Raises InvalidArgumentError."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([KMGTP]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise InvalidArgumentError(f"bad size {text!r}: write a number with a unit, such as 500M or 20G")
    return int(float(found[1]) * 1024 ** " KMGTP".index(found[2].upper() or " "))


def local_time(when: datetime) -> str:
    """`when` in this machine's time zone, to the minute: "2026-11-01 09:30"."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M")


def iso_time(when: datetime) -> str:
    """`when` as ISO 8601 in UTC: "2026-11-01T08:30:00.123456Z"."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def escape(text: str) -> str:
    """`text` on one line with nothing that a terminal acts on: control and format characters, line
    separators, and bytes that are not UTF-8 (lone surrogates of os.fsdecode) become backslash escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    if known:
        return known
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@contextlib.contextmanager
def to_stdout() -> Iterator[None]:
    """Around what writes to stdout. Raises StorageError when that cannot be (a full disk, a closed descriptor);
    BrokenPipeError stays what it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"writing to standard output failed: {error.strerror}", error.errno or errno.EIO) from error


def say(text: str = "") -> None:
    """Prints one line to stdout. `text` is trusted to be escaped already where it holds names. Raises StorageError."""
    with to_stdout():
        click.echo(text)


def note(text: str) -> None:
    """Prints one line to stderr: something a person should know that is not the result. Where it cannot be written, the work
    goes on nevertheless."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def emit_json(value: Any) -> None:
    """Prints `value` as indented JSON. Datetimes become ISO UTC; names that are not UTF-8 hold lone
    surrogates (`\\udc80`-`\\udcff`), as Python's os.fsencode takes them back. Raises StorageError."""
    say(json.dumps(value, indent=2, default=_encode))


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return iso_time(value)
    raise TypeError(f"cannot show a {type(value).__name__} as JSON")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Prints rows in columns two blanks apart; every cell is escaped. `right`: columns that are aligned to
    the right. Prints nothing when there are no rows."""
    cells = [[escape(cell) for cell in row] for row in rows]
    if not cells:
        return
    widths = [max(len(header[i]), *(cell_width(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = []
        for i, cell in enumerate(row):
            blanks = " " * (widths[i] - cell_width(cell))
            parts.append(blanks + cell if i in right else cell + blanks)
        return "  ".join(parts).rstrip()

    say(click.style(line(header), bold=True))  # click drops the style when stdout is not a terminal
    for row in cells:
        say(line(row))


def cell_width(text: str) -> int:
    """How many columns of a terminal `text` takes: two for a wide character, none for an accent that combines."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def fields(pairs: Iterable[tuple[str, str]]) -> None:
    """Prints `name: value` lines with the values aligned; values are escaped, empty ones left out."""
    shown = [(name, escape(value)) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0) + 1
    for name, value in shown:
        say(f"{name + ':':<{width}}  {value}")


def plural(count: int, noun: str) -> str:
    """ "1 file", "2 files", "20,000 entries"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def on_terminal() -> bool:
    """Whether a person can answer a question: stdin and stderr are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()
