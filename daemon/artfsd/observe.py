"""What a request says of itself: to the log when it fails, and to whoever reads the access log.

Knows neither pyfuse3 nor trio.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from typing import Any

from artfs.errors import ArtfsError
from artfsd.accesslog import AccessHandle, AccessLogFile, line, word
from artfsd.inodes import Later
from artfsd.vfs import Vfs

log = logging.getLogger(__name__)

_NAMED = frozenset({
    "lookup", "mkdir", "mknod", "create", "symlink", "unlink", "rmdir", "rename", "link", "getxattr", "setxattr", "removexattr",
})  # fmt: skip
"""Their arguments that are bytes are names, but for the value of an extended attribute; elsewhere they are people's data."""

_OF_DIRECTORY = frozenset({"readdir", "releasedir", "fsyncdir"})
_OF_FILE = frozenset({"read", "write", "flush", "fsync", "release"})


def brief(name: str, args: Sequence[Any]) -> str:
    """The arguments of a request, for people."""
    shown = []
    for arg in args[:2] if name == "setxattr" else args:
        if isinstance(arg, bytes):
            shown.append(os.fsdecode(arg[:255]) if name in _NAMED else f"{len(arg)} bytes")
        elif isinstance(arg, (int, str)):
            shown.append(str(arg))
    pid, _ = caller(args)
    if pid is not None:
        shown.append(f"pid={pid}")
    return " ".join(shown)


def caller(args: Sequence[Any]) -> tuple[int | None, int | None]:
    """Process and user that a request came from; None for the kinds of which the transport does not tell (read, write, readdir,
    release, fsync)."""
    found = next((arg for arg in args if hasattr(arg, "umask")), None)
    return (found.pid, found.uid) if found is not None else (None, None)


class Observer:
    """Tells the access log of `vfs`. Its methods raise nothing: they are called around a request that must be answered."""

    def __init__(self, vfs: Vfs) -> None:
        self._vfs = vfs
        self._directories: dict[int, str] = {}  # by handle, of those that were opened while somebody read

    def forget(self) -> None:
        self._directories.clear()

    def where(self, name: str, args: Sequence[Any]) -> str | None:
        """What a request is about; None: about the access log itself, of which a line would make another. To be asked before it
        is answered: it may be its end."""
        try:
            if name == "statfs":
                return "/"
            if name in _OF_DIRECTORY:
                return self._directories.get(args[0], f"handle-{args[0]}")
            if name in _OF_FILE:
                handle = self._vfs.files.get(args[0])
                if isinstance(handle, AccessHandle):
                    return None
                return handle.label() if handle is not None else f"handle-{args[0]}"
            node = self._vfs.table.get(args[0])
            return None if isinstance(node, AccessLogFile) else node.label()
        except (Later, OSError, ArtfsError):
            return f"#{args[0]}"  # what it is would have to be fetched, or it is nothing any more
        except BaseException:  # what leaves here would end the mount
            log.exception("%s has no label", args[0])
            return f"#{args[0]}"

    def tell(self, number: int, name: str, args: Sequence[Any], where: str, code: int, reply: Any, took_s: float) -> None:
        """A line for a request that was answered: with `reply`, or the errno `code`."""
        try:
            if not code and name == "opendir":
                self._directories[reply] = where
            elif name == "releasedir":
                self._directories.pop(args[0], None)
            result = errno.errorcode.get(code, str(code)) if code else "OK"
            if not code and name == "read":
                result = f"OK={len(reply)}"
            self._vfs.access.add(line(number, name, word(where), _what(name, args), *caller(args), result, took_s))
        except BaseException:  # what leaves here would end the mount
            log.exception("request %d (%s) has no line in the access log", number, name)


def _what(name: str, args: Sequence[Any]) -> list[str]:
    """More of a request than where it is: names, or size@offset."""
    if name in ("read", "write"):
        return [f"{args[2] if name == 'read' else len(args[2])}@{args[1]}"]
    if name not in _NAMED:
        return []
    names = [word(os.fsdecode(arg)) for arg in args[1:4] if isinstance(arg, bytes)]
    if name == "setxattr":
        return names[:1]
    if name == "rename":  # name, the other directory, new name
        return [names[0], f"#{args[2]}", names[1]]
    if name == "link":
        return [f"#{args[1]}", *names]
    return names
