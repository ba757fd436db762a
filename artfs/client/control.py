"""Speaks with a running daemon over its control socket (blocking)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from artfs.errors import UnavailableError
from artfs.model.unreadable import UNREADABLE
from artfs.release import release
from artfs.typed import read_json
from artfs.wire.control import MAX_LINE, MountRecord, Progress, Reply, Request
from artfs.wire.errors import error_from

CONNECT_TIMEOUT_S = 5.0
"""A daemon that lives accepts at once; a longer silence means that it hangs."""


def not_understood(place: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the daemon behind {place} gave an answer that this artfs ({release()}) does not understand ({error}): if it is of "
        f"another version, unmount and mount again"
    )


class DaemonClient:
    """One daemon's control socket. Each call makes a connection of its own; usable from any thread."""

    def __init__(self, socket_path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(socket_path)

    def call(
        self,
        op: str,
        args: dict[str, Any] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Asks the daemon for `op` (see wire.control.Request) and returns the result.

        `timeout_s` bounds the silence between two lines of the answer; None waits as long as it takes.
        Raises the error that the daemon replied, or UnavailableError when it does not answer.
        """
        request = msgspec.json.encode(Request(op=op, args=args or {}))  # type: ignore[arg-type]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(CONNECT_TIMEOUT_S)
                connection.connect(self._path)
                connection.settimeout(timeout_s)
                connection.sendall(request + b"\n")
                with connection.makefile("rb") as lines:
                    while line := lines.readline(MAX_LINE):
                        reply = read_json(line, Reply)
                        if reply.progress is not None:
                            if on_progress is not None:
                                on_progress(reply.progress)
                        elif reply.error is not None:
                            raise error_from(reply.error)
                        else:
                            return reply.result or {}
        except UNREADABLE as error:
            raise not_understood(self._path, error) from error
        except OSError as error:
            raise UnavailableError(
                f"the daemon behind {self._path} does not answer ({error}); see `artfs status`, or mount again"
            ) from error
        raise UnavailableError(f"the daemon behind {self._path} ended while it worked; look at its log, then try again")


def known_mounts(run_path: Path) -> list[MountRecord]:
    """The daemons of this state folder that wrote down that they serve, and have not taken it back: those that live, hang or were
    killed. Asks none of them."""
    found = []
    for path in sorted(run_path.glob("*.json")):
        try:
            found.append(read_json(path.read_bytes(), MountRecord))
        except (OSError, *UNREADABLE):
            continue  # written by another version, or removed between the listing and now
    return found


def _alive(record: MountRecord) -> bool:
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        probe.connect(record.socket)
        return True
    return False


def running_mounts(run_path: Path) -> list[MountRecord]:
    """The daemons of this state folder that live, by mountpoint. Records of dead ones are passed over."""
    return sorted((each for each in known_mounts(run_path) if _alive(each)), key=lambda record: record.mountpoint)
