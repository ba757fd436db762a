"""What `artfs debug` gathers: each thing on its own, within a time, so that whatever hangs costs only itself.

What touches a mount or asks a daemon is done by a child, because whoever waits for a mount that hangs can be ended by nobody.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from artfs.cli.procs import is_running, mounts
from artfs.cli.redact import Redactor, url_secrets
from artfs.client.control import known_mounts
from artfs.client.credentials import Credentials
from artfs.errors import ArtfsError
from artfs.settings import Settings, config_path, secret_variables, settings_and_sources
from artfs.wire.control import MountRecord

ITEM_S = 25.0
"""The longest that one thing may take."""

CHILD_S = 20.0
DUMP_S = 8.0
ACCESS_S = 3.0
"""How long the access log is listened to."""

TAIL = 2 * 1024 * 1024
"""Bytes of the end of a log that are taken."""

JOURNAL_LINES = 5000


@dataclass(frozen=True, slots=True)
class Item:
    """One file of the archive. `get` raises OSError, ArtfsError or NotHadError for what cannot be had."""

    name: str
    get: Callable[[], str]


class NotHadError(Exception):
    """Why something could not be had, for people."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """`files`: name and text of each. `missing`: name of each that could not be had, and why."""

    files: list[tuple[str, str]]
    missing: list[tuple[str, str]]


def all_items(settings: Settings | None, overrides: dict[str, str]) -> Iterator[Item]:
    """Everything, in the order in which it is to be had: the dumps before the logs that have them. `settings` None: they cannot
    be read. `overrides`: of the command line."""
    yield Item("settings.txt", lambda: settings_text(overrides))
    yield Item("versions.txt", versions_text)
    yield Item("mounts.txt", mounts_text)
    if settings is not None:
        for record in known_mounts(settings.run_path):
            folder = f"mount-{record.id}"
            yield Item(f"{folder}/process.txt", lambda record=record: process_text(record))  # type: ignore[misc]
            yield Item(f"{folder}/dump.txt", lambda record=record: dump_text(settings, record))  # type: ignore[misc]
            yield Item(f"{folder}/accesslog.txt", lambda record=record: access_text(record))  # type: ignore[misc]
            yield Item(f"{folder}/output.txt", lambda record=record: output_text(record))  # type: ignore[misc]
    yield Item("status.json", lambda: artfs_text(overrides, "status", "--json"))
    yield Item("doctor.txt", lambda: artfs_text(overrides, "doctor"))
    yield Item("journal.txt", lambda: journal_text(settings))
    if settings is not None:
        for path in sorted([*settings.log_path.glob("*.log"), *settings.log_path.glob("*.log.1")]):
            yield Item(f"log/{path.name}", lambda path=path: tail_of(path))  # type: ignore[misc]


def gather(items: Iterable[Item], redact: Redactor, on_item: Callable[[str], None], limit_s: float = ITEM_S) -> Gathered:
    """Gets each, waits for none longer than `limit_s`, and takes secrets out."""
    done = Gathered([], [])
    for item in items:
        on_item(item.name)
        text, why = _within(item.get, limit_s)
        if why:
            done.missing.append((redact(item.name), redact(why)))
        if text:
            done.files.append((redact(item.name), redact(text)))
    return done


def _within(get: Callable[[], str], limit_s: float) -> tuple[str, str]:
    """(text, why there is none)."""
    result: list[tuple[str, str]] = []

    def run() -> None:
        try:
            text = get()
            result.append((text, "" if text else "there is nothing"))
        except NotHadError as error:
            result.append(("", str(error)))
        except (OSError, ArtfsError, subprocess.SubprocessError, UnicodeError) as error:
            result.append(("", f"{type(error).__name__}: {error}"))
        except Exception as error:  # a defect here must not cost the rest
            result.append(("", f"a defect of artfs debug: {error!r}"))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    return result[0] if result else ("", f"no answer within {limit_s:g} s")


def archive(gathered: Gathered, name: str) -> bytes:
    """A .tar.gz of it, below a folder called `name`, with a page that says what it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path, text in [("README.txt", _readme(gathered)), *gathered.files]:
            data = text.encode(errors="backslashreplace")
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _readme(gathered: Gathered) -> str:
    lines = [
        f"What `artfs debug` gathered at {datetime.now(UTC).isoformat(timespec='seconds')}, for a bug report.",
        "",
        "Tokens, passwords, keys and the queries of URLs were taken out. Names of files, projects, people, hosts and folders",
        "were not: look at it before you send it to anybody.",
        "",
        *(f"{path}: {len(text.encode(errors='backslashreplace'))} bytes" for path, text in gathered.files),
    ]
    if gathered.missing:
        lines += ["", "What could not be had:", *(f"{path}: {why}" for path, why in gathered.missing)]
    return "\n".join(lines) + "\n"


def known_secrets(settings: Settings | None) -> list[str]:
    """Every secret that artfs, this process or a daemon has, as far as we may know them."""
    found = secret_variables()
    found += Credentials().all_kept()
    if settings is not None:
        found += [settings.token, settings.proxy]
        with contextlib.suppress(ArtfsError):
            found.append(Credentials().find(settings))
        for record in known_mounts(settings.run_path):
            found += secret_variables(_environ_of(record.pid))
    return [secret for value in found if value for secret in (url_secrets(value) if "://" in value else [value])]


def _environ_of(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="surrogateescape")
    except OSError:
        return {}  # it ended, or is another user's
    return {name: value for name, _, value in (each.partition("=") for each in text.split("\0"))}


# the items ----------------------------------------------------------------------------------------------------------------------
def settings_text(overrides: dict[str, str]) -> str:
    settings, sources = settings_and_sources(None, **overrides)
    lines = [f"config file: {config_path()}{'' if config_path().exists() else ' (not there)'}"]
    for each in fields(settings):
        value = getattr(settings, each.name)
        shown = ("set" if value else "none") if each.name == "token" else repr(value) if isinstance(value, str) else str(value)
        lines.append(f"{each.name} is {shown} (from {sources.get(each.name, 'the default')})")
    return "\n".join(lines) + "\n"


_LIBFUSE = """
import ctypes
version = ctypes.CDLL("libfuse3.so.3").fuse_pkgversion
version.restype = ctypes.c_char_p
print(version().decode())
"""


def versions_text() -> str:
    lines = [f"python {sys.version.split()[0]} ({sys.executable})", f"kernel {' '.join(platform.uname())}"]
    with contextlib.suppress(OSError):
        lines.append(f"system {platform.freedesktop_os_release().get('PRETTY_NAME', 'unknown')}")
    lines.append(f"libfuse {_said([sys.executable, '-c', _LIBFUSE])}")
    lines.append(f"fusermount3 {_said(['fusermount3', '--version'])}")
    wanted = {"artfs"}
    try:
        for need in importlib.metadata.requires("artfs") or ():
            wanted.add(re.split(r"[^A-Za-z0-9._-]", need, maxsplit=1)[0])
    except importlib.metadata.PackageNotFoundError:
        lines.append("artfs is not installed: run from its source")
    for name in sorted(wanted, key=str.lower):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"{name} {importlib.metadata.version(name)}")
    return "\n".join(lines) + "\n"


def mounts_text() -> str:
    """The mount table, and what is set for each FUSE connection."""
    parts = [Path("/proc/self/mountinfo").read_text(errors="surrogateescape")]
    for mount in mounts():
        if not mount.fstype.startswith("fuse") or mount.fstype == "fusectl":
            continue
        parts.append(f"\n{mount.mountpoint} ({mount.fstype}, device {mount.device})\n")
        connection = Path("/sys/fs/fuse/connections") / mount.device.partition(":")[2]
        for path in (
            *(connection / name for name in ("waiting", "max_background", "congestion_threshold")),
            Path(f"/sys/class/bdi/{mount.device}/read_ahead_kb"),
        ):
            try:
                parts.append(f"{path}: {path.read_text().strip()}\n")
            except OSError as error:
                parts.append(f"{path}: {error.strerror}\n")
    return "".join(parts)


def process_text(record: MountRecord) -> str:
    """What Linux says of a daemon, and of each of its threads."""
    _check_runs(record)
    process = Path(f"/proc/{record.pid}")
    parts = [f"{record}\n"]
    for name in ("status", "limits", "wchan", "cgroup"):
        with contextlib.suppress(OSError):
            parts.append(f"\n-- {name}\n{(process / name).read_text(errors='replace')}\n")
    with contextlib.suppress(OSError):
        parts.append(f"\n-- descriptors\n{len(os.listdir(process / 'fd'))}\n\n-- threads\n")
    for task in sorted((process / "task").iterdir(), key=lambda task: int(task.name)):
        with contextlib.suppress(OSError):  # it ended
            state = (task / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            parts.append(f"{task.name} {(task / 'comm').read_text().strip()} {state} {(task / 'wchan').read_text()}\n")
    return "".join(parts)


def _check_runs(record: MountRecord) -> None:
    if not is_running(record.pid):
        raise NotHadError(f"process {record.pid}, which served {record.mountpoint}, has ended")
    if b"artfsd" not in Path(f"/proc/{record.pid}/cmdline").read_bytes():
        raise NotHadError(f"process {record.pid}, which served {record.mountpoint}, has ended; another one has its number")


def dump_text(settings: Settings, record: MountRecord) -> str:
    """Sends SIGUSR1, and waits for what the daemon and its process that fetches write."""
    _check_runs(record)
    if not record.release:
        raise NotHadError("it is of an artfs so old that the signal would end it")
    own = settings.run_path / f"{record.id}.dump"
    fetch = own.with_suffix(".fetch.dump")
    before = {path: _stamp(path) for path in (own, fetch)}
    os.kill(record.pid, signal.SIGUSR1)
    until = time.monotonic() + DUMP_S
    while _stamp(own) == before[own]:
        if time.monotonic() > until:
            os.kill(record.pid, signal.SIGUSR2)  # the bare stacks, without the interpreter's help
            raise NotHadError(f"process {record.pid} wrote no dump within {DUMP_S:g} s; its log may have bare stacks (SIGUSR2)")
        time.sleep(0.05)
    text = own.read_text(errors="replace")
    if "was asked, too" in text:
        while _stamp(fetch) == before[fetch] and time.monotonic() < until:
            time.sleep(0.05)
        text += "\n" + (
            fetch.read_text(errors="replace") if _stamp(fetch) != before[fetch] else "the process that fetches wrote no dump\n"
        )
    return text


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


_LISTEN = """
import os, sys, time
fd = os.open(sys.argv[1] + "/.artfs/accesslog", os.O_RDONLY | os.O_NONBLOCK)
os.statvfs(sys.argv[1])
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        time.sleep(0.05)
        continue
    os.write(1, data)
"""


def access_text(record: MountRecord) -> str:
    """What is asked of the mount while we listen."""
    _check_runs(record)
    return _said([sys.executable, "-I", "-S", "-c", _LISTEN, record.mountpoint, str(ACCESS_S)], ACCESS_S + 5) + "\n"


def output_text(record: MountRecord) -> str:
    """What a daemon writes to standard error, where that is a file."""
    _check_runs(record)
    path = Path(os.readlink(f"/proc/{record.pid}/fd/2"))
    if not path.is_file():
        raise NotHadError(f"standard error of process {record.pid} is no file: {path}")
    return tail_of(path)


def artfs_text(overrides: dict[str, str], *arguments: str) -> str:
    """What another command of ours says."""
    options = [
        word for name, value in overrides.items() for word in (f"--{name}", os.path.abspath(value) if name == "home" else value)
    ]
    # A server that is away shall not take all the time there is. And what is relative is so to the folder that we are in.
    environ = {**os.environ, "ARTFS_NETWORK_TIMEOUT_S": "8"}
    for name in ("ARTFS_HOME", "ARTFS_CONFIG", "ARTFS_CACHE_PATH"):
        if environ.get(name):
            environ[name] = os.path.abspath(environ[name])
    if "PYTHONPATH" in environ:
        environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, environ["PYTHONPATH"].split(os.pathsep)))
    return _said([sys.executable, "-m", "artfs.cli", *options, *arguments], CHILD_S, environ) + "\n"


def journal_text(settings: Settings | None) -> str:
    """What the journal has of running daemons, and of the units that are shipped."""
    if shutil.which("journalctl") is None:
        raise NotHadError("journalctl is not installed")
    queries = [["--user", "--unit=artfs.service"], ["--unit=artfs@*"], ["--unit=artfs-server.service"]]
    if settings is not None:
        queries += [[f"_PID={record.pid}"] for record in known_mounts(settings.run_path)]
    base = ["journalctl", "--quiet", "--no-pager", "--output=short-iso-precise", f"--lines={JOURNAL_LINES}"]
    parts = []
    for query in queries:
        with contextlib.suppress(NotHadError):
            said = _said([*base, *query], 8)
            if said and "No journal files" not in said:
                parts.append(f"-- {' '.join(query)}\n{said}\n")
    return "\n".join(parts)


def tail_of(path: Path) -> str:
    """The end of a log, from the beginning of a line on."""
    with path.open("rb") as file:
        start = max(0, os.fstat(file.fileno()).st_size - TAIL)
        file.seek(start)
        data = file.read(TAIL)
    if start:
        data = data.partition(b"\n")[2]
    return data.decode(errors="backslashreplace")


def _said(command: Sequence[str], limit_s: float = 10.0, environ: dict[str, str] | None = None) -> str:
    """What a child writes, without what is around it. One that does not end in time is killed, and left behind if it cannot be.
    Raises NotHadError."""
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, cwd="/",
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise NotHadError(f"{command[0]}: {error.strerror}") from error
    try:
        out, _ = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=1)
        child.returncode = -1 if child.returncode is None else child.returncode  # or its destructor warns
        raise NotHadError(f"`{' '.join(command[-3:])}` did not end within {limit_s:g} s") from None
    return out.decode(errors="backslashreplace").strip()


def as_json(gathered: Gathered, path: str, size: int) -> dict[str, object]:
    return {
        "path": path,
        "size": size,
        "files": [name for name, _ in gathered.files],
        "missing": [{"name": name, "why": why} for name, why in gathered.missing],
    }


