"""MOUNT/.artfs/accesslog: whoever has it open sees the requests of the mount as they are answered, one line each.

Nothing is kept, and nothing is done, while nobody has it open. Each reader has lines of its own, up to a bound; who reads too
slowly loses some, and is told how many. Knows neither pyfuse3 nor trio.

A read that finds nothing waits, but never for long (WAIT_S): until it is answered, its caller cannot even be killed, and a worker
is taken. Then it is interrupted (EINTR), upon which programs read again; `cat` shows what comes. A program that does not begin
at the start of the file, as `tail -f` does after a look at its size, is not made to wait: it gets what came, or the end of the
file, and looks again when the size changes. Therefore the size is that of all that was told so far, after a start that is
nobody's.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from artfsd.inodes import Attr, FileHandle, InodeTable, Node, Wait, refuse

WAIT_S = 1.0
"""The longest wait of one read."""

LIMIT = 1024 * 1024
"""Bytes that wait for one reader at the most."""

MAX_READERS = 8
"""Each may have a worker wait for it; there must be many more of those."""

START = 1024 * 1024
"""The size of the file before anything was told: more than what `tail` reads from the end of a file at once, so that it does not
begin at offset 0, as those do who want to wait."""


class AccessLog:
    """The readers, and what they are told.

    Attributes:
        on_change: called with whether there are readers, when that changes.
    """

    def __init__(self) -> None:
        self.on_change: Callable[[bool], None] = lambda is_read: None
        self.size = START
        self.changed_ns = time.time_ns()
        self._readers: list[AccessHandle] = []

    @property
    def readers(self) -> int:
        return len(self._readers)

    def open(self, *, waits: bool) -> AccessHandle:
        """Raises OSError (EBUSY) when there are enough. `waits` False: a read that finds nothing is EAGAIN."""
        if len(self._readers) >= MAX_READERS:
            refuse(errno.EBUSY)
        handle = AccessHandle(self, waits=waits)
        self._readers.append(handle)
        if len(self._readers) == 1:
            self.on_change(True)
        return handle

    def closed(self, handle: AccessHandle) -> None:
        self._readers.remove(handle)
        if not self._readers:
            self.on_change(False)

    def add(self, line: bytes) -> None:
        """One line, with its end."""
        self.size += len(line)
        self.changed_ns = time.time_ns()
        for reader in self._readers:
            reader.add(line)


class AccessHandle(FileHandle):
    """One reader."""

    __slots__ = ("_dropped", "_follows", "_lines", "_log", "_nbytes", "_notify", "_rest", "_was_told", "_waits")
    direct = True
    keep_cache = False

    def __init__(self, log: AccessLog, *, waits: bool) -> None:
        super().__init__()
        self._log = log
        self._waits = waits
        self._follows: bool | None = None
        self._lines: deque[bytes] = deque()
        self._nbytes = 0
        self._dropped = 0
        self._rest = b""
        self._notify: Callable[[], None] | None = None
        self._was_told = True

    def label(self) -> str:
        return ".artfs/accesslog"

    def add(self, line: bytes) -> None:
        if self._nbytes + len(line) > LIMIT:
            self._dropped += 1
        else:
            self._lines.append(line)
            self._nbytes += len(line)
        if self._notify is not None:
            notify, self._notify = self._notify, None
            notify()

    def read(self, offset: int, size: int) -> bytes:
        if self._follows is None:
            self._follows = offset == 0
        data = self._take(size)
        if data:
            self._was_told = True
            return data
        if not self._follows:
            return b""
        if not self._was_told:
            self._was_told = True
            refuse(errno.EINTR)
        if not self._waits or self._notify is not None:  # one wait a reader, whoever shares its descriptor
            refuse(errno.EAGAIN)
        raise Wait(self._start, self._give_up, for_s=WAIT_S)

    def _start(self, notify: Callable[[], None]) -> bool:
        if self._lines or self._dropped:
            return True
        self._notify = notify
        return False

    def _give_up(self) -> None:
        self._notify = None
        self._was_told = False

    def _take(self, size: int) -> bytes:
        taken = [self._rest] if self._rest else []
        got = len(self._rest)
        self._rest = b""
        while got < size and self._lines:
            line = self._lines.popleft()
            self._nbytes -= len(line)
            taken.append(line)
            got += len(line)
        if self._dropped and not self._lines and got < size:
            # After those that came before them.
            line = b"# %d lines are missing here: they came faster than they were read\n" % self._dropped
            self._dropped = 0
            taken.append(line)
            got += len(line)
        data = b"".join(taken)
        self._rest = data[size:]
        return data[:size]

    def close(self) -> None:
        self._log.closed(self)


class AccessLogFile(Node):
    """The file. Its size and time change with each line while somebody reads it."""

    __slots__ = ("_gid", "_log", "_uid")

    def __init__(self, log: AccessLog, table: InodeTable, uid: int, gid: int) -> None:
        super().__init__()
        self._log = log
        self._uid = uid
        self._gid = gid
        table.add(self)

    @property
    def lasting(self) -> bool:
        return True

    def label(self) -> str:
        return ".artfs/accesslog"

    def attr(self) -> Attr:
        log = self._log
        return Attr(self.ino, stat.S_IFREG | 0o400, log.size, log.changed_ns, self._uid, self._gid, attr_timeout=0.0)

    def open(self, flags: int) -> FileHandle:
        if flags & (os.O_WRONLY | os.O_RDWR):
            refuse(errno.EROFS)
        return self._log.open(waits=not flags & os.O_NONBLOCK)


def line(
    number: int, operation: str, where: str, what: Iterable[str], pid: int | None, uid: int | None, result: str, took_s: float
) -> bytes:
    """TIME NUMBER OPERATION WHERE [WHAT …] pid=PID uid=UID RESULT SECONDS. `where` and `what` have no spaces (see `word`)."""
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    who = f"pid={'-' if pid is None else pid} uid={'-' if uid is None else uid}"
    return f"{' '.join((when, str(number), operation, where, *what, who, result))} {took_s:.6f}\n".encode()


def word(text: str) -> str:
    """`text` without spaces and without what a terminal acts on, escaped as in /proc/mounts; never empty."""
    if text.isprintable() and " " not in text and "\\" not in text:
        return text or "-"
    return "".join(
        each if each.isprintable() and each not in " \\" else "".join(f"\\{byte:03o}" for byte in os.fsencode(each))
        for each in text
    )
