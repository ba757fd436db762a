"""fsx: does random things to one file, through several descriptors and a map at once, and holds it against its bytes in memory.

    python fsx.py FILE --operations N --seed S [--most BYTES] [--model FILE]

After each operation the size must be the model's; each read must be its bytes, whichever descriptor, call or map it goes
through. At the end the whole file is compared, and the model is written to `--model`. The first difference ends it with exit code
1, what differs, and the last operations. A file system may refuse fallocate and copy_file_range, if it then changes nothing.
Standard output is one line of JSON: how often each operation was done, and what was refused with which errno.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import mmap
import os
import random
import sys
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

PAGE = mmap.PAGESIZE
LAST = 60
"""How many operations the report of a difference shows."""

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16  # <linux/falloc.h>
REFUSALS = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
libc = ctypes.CDLL(None, use_errno=True)


WEIGHTS = {
    "read": 20,
    "write_cached": 14,
    "write_only": 14,
    "append": 6,
    "truncate": 6,
    "read_map": 14,
    "write_map": 14,
    "sync": 1,
    "forget_pages": 3,
    "reopen": 3,
    "read_all": 1,
    "fallocate": 2,
    "copy_range": 2,
}
"""How often each operation is done, among the sum of all."""

NEED_BYTES = {"read_map", "write_map", "fallocate", "copy_range"}


class DiffersError(Exception):
    """The file is not what the model is."""


class Fsx:
    """The file at `path`, and `model`, its bytes."""

    def __init__(self, path: Path, seed: int, most: int) -> None:
        self.path = path
        self.most = most
        self.model = bytearray()  # what the file has to begin with
        self.dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.refused: dict[str, str] = {}
        self.log: deque[str] = deque(maxlen=LAST)
        self.view: mmap.mmap | None = None
        self.both = self.writer = self.appender = -1
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
        self.model[:] = path.read_bytes()
        self.open()

    # descriptors: one for both, one that only writes, one that appends ------------------------------------------------
    def open(self) -> None:
        self.both = os.open(self.path, os.O_RDWR)
        self.writer = os.open(self.path, os.O_WRONLY)
        self.appender = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def close(self) -> None:
        self.unmap()
        for fd in (self.both, self.writer, self.appender):
            os.close(fd)

    def unmap(self) -> None:
        if self.view is not None:
            self.view.close()
            self.view = None

    # choices ----------------------------------------------------------------------------------------------------------
    def length(self) -> int:
        """Often small, sometimes a page, sometimes most of the file."""
        return 1 + self.dice.randrange(self.dice.choice((16, 600, PAGE, 3 * PAGE, self.most // 4)))

    def offset(self, end: int) -> int:
        """Below `end`; often at the border of a page, where mistakes are."""
        at = self.dice.randrange(end)
        if self.dice.random() < 0.3:
            at = max(0, min(end - 1, at // PAGE * PAGE + self.dice.choice((-1, 0, 1))))
        return at

    def span(self) -> tuple[int, int]:
        """A range inside the file, which is not empty."""
        at = self.offset(len(self.model))
        return at, min(self.length(), len(self.model) - at)

    def put(self, at: int, data: bytes) -> None:
        if at > len(self.model):
            self.model.extend(bytes(at - len(self.model)))
        self.model[at : at + len(data)] = data

    # checks -----------------------------------------------------------------------------------------------------------
    def same(self, at: int, got: bytes, size: int) -> None:
        wanted = self.model[at : at + size]
        if got == wanted:
            return
        if len(got) != len(wanted):
            raise DiffersError(f"{len(got)} bytes came instead of {len(wanted)}, from {at} on")
        wrong = [number for number in range(len(got)) if got[number] != wanted[number]]
        first = wrong[0]
        raise DiffersError(
            f"{len(wrong)} bytes differ between {at + first} and {at + wrong[-1]}: {got[first:first + 8].hex()} instead of"
            f" {bytes(wanted[first:first + 8]).hex()} at {at + first}"
        )

    def sized(self) -> None:
        for name, size in (("stat", os.stat(self.path).st_size), ("fstat", os.fstat(self.both).st_size)):
            if size != len(self.model):
                raise DiffersError(f"{name} shows {size} bytes instead of {len(self.model)}")

    def whole(self) -> None:
        self.same(0, self.path.read_bytes(), len(self.model))

    # operations: each does one thing, and says what ---------------------------------------------------------------------
    def read(self) -> str:
        at = self.dice.randrange(len(self.model) + PAGE)
        size = self.length()
        self.same(at, os.pread(self.both, size, at), size)
        return f"{size} at {at}"

    def write(self, fd: int) -> str:
        at = self.offset(self.most)
        data = self.dice.randbytes(min(self.length(), self.most - at))
        if os.pwrite(fd, data, at) != len(data):
            raise DiffersError("a short write")
        self.put(at, data)
        return f"{len(data)} at {at}"

    def write_cached(self) -> str:
        return self.write(self.both)

    def write_only(self) -> str:
        return self.write(self.writer)

    def append(self) -> str:
        data = self.dice.randbytes(min(self.length(), self.most - len(self.model)))
        os.write(self.appender, data)
        self.model.extend(data)
        return f"{len(data)}"

    def truncate(self) -> str:
        size = self.dice.choice((self.offset(self.most), len(self.model) // 2, self.offset(len(self.model) + 1)))
        if self.dice.random() < 0.5:
            os.ftruncate(self.dice.choice((self.both, self.writer)), size)
        else:
            os.truncate(self.path, size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))
        return f"to {size}"

    def map(self) -> mmap.mmap:
        """The map of the file; it lives until something makes another one necessary, while others write and read."""
        if self.view is None or len(self.view) < len(self.model) or self.dice.random() < 0.1:
            self.unmap()
            self.view = mmap.mmap(self.both, len(self.model))
        return self.view

    def read_map(self) -> str:
        at, size = self.span()
        self.same(at, self.map()[at : at + size], size)
        return f"{size} at {at}"

    def write_map(self) -> str:
        at, size = self.span()
        data = self.dice.randbytes(size)
        view = self.map()
        view[at : at + size] = data
        self.put(at, data)
        how = self.dice.choice(("", "", "msync of all", "msync", "unmap"))
        if how == "unmap":
            self.unmap()
        elif how == "msync of all":
            view.flush()
        elif how:
            start = at // PAGE * PAGE
            view.flush(start, at + size - start)
        return f"{size} at {at} {how}"

    def sync(self) -> str:
        call = self.dice.choice((os.fsync, os.fdatasync))
        call(self.dice.choice((self.both, self.writer)))
        return call.__name__

    def forget_pages(self) -> str:
        os.posix_fadvise(self.both, 0, 0, os.POSIX_FADV_DONTNEED)
        return ""

    def reopen(self) -> str:
        """All at once, so that the last writer is gone in between; the map may outlive its descriptor."""
        view, keep = self.view, self.dice.random() < 0.5
        if keep:
            self.view = None
        self.close()
        self.view = view if keep else None
        self.open()
        return "but the map" * keep

    def read_all(self) -> str:
        self.whole()
        return ""

    def fallocate(self) -> str:
        at, size = self.span()
        mode = self.dice.choice((0, KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE))

        def change() -> None:
            if libc.fallocate(self.both, mode, ctypes.c_longlong(at), ctypes.c_longlong(size)):
                raise OSError(ctypes.get_errno(), "fallocate")
            if mode:
                self.put(at, bytes(size))

        return f"{size} at {at} " + self.unless_refused(f"fallocate {mode}", change)

    def copy_range(self) -> str:
        at, size = self.span()
        to = self.offset(self.most)
        size = min(size, self.most - to)
        if at < to + size and to < at + size:
            return "would overlap"

        def change() -> None:
            data = bytes(self.model[at : at + size])
            copied = os.copy_file_range(self.both, self.writer, size, at, to)
            self.put(to, data[:copied])

        return f"{size} at {at} to {to} " + self.unless_refused("copy_file_range", change)

    def unless_refused(self, what: str, change: Callable[[], None]) -> str:
        try:
            change()
        except OSError as error:
            if error.errno not in REFUSALS:
                raise
            self.refused[what] = errno.errorcode[error.errno]
            return self.refused[what]
        return ""

    def run(self, operations: int) -> None:
        names = self.dice.choices(list(WEIGHTS), list(WEIGHTS.values()), k=operations)
        for number, name in enumerate(names):
            if (not self.model and name in NEED_BYTES) or (len(self.model) >= self.most and name == "append"):
                name = "truncate"
            self.log.append(f"{number:7} {name} …")
            said = getattr(self, name)()
            self.log[-1] = f"{number:7} {name} {said}, now {len(self.model)}"
            self.done[name] += 1
            self.sized()
        self.close()
        self.whole()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=256 * 1024, help="The longest that the file gets, in bytes.")
    parser.add_argument("--model", type=Path, help="Where the bytes are written that the file should have.")
    arguments = parser.parse_args()
    fsx = Fsx(arguments.file, arguments.seed, arguments.most)
    try:
        fsx.run(arguments.operations)
    except (DiffersError, OSError) as error:
        print(f"seed {arguments.seed}: {error}\n" + "\n".join(fsx.log), file=sys.stderr)
        return 1
    if arguments.model is not None:
        arguments.model.write_bytes(fsx.model)
    print(json.dumps({"done": fsx.done, "refused": fsx.refused}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
