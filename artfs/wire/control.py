"""The daemon's control socket: one JSON object a line, in both directions, over a Unix stream socket (mode 0600).

A client sends one request and reads lines until one holds "result" or "error"; lines with "progress" may come before.
Closing the connection cancels nothing that has begun.

A daemon goes on when its package is updated, so the two ends may be of different versions. Fields that one end does not know
are passed over, and what it lacks has a default; what cannot be understood all the same is an error that says so.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from artfs.errors import UsageError
from artfs.model.unreadable import UNREADABLE
from artfs.typed import convert

MAX_LINE = 4 * 1024 * 1024
"""Longest line in bytes; a longer one closes the connection."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """`op` and its arguments.

    ping                                    -> {"pid": int, "mountpoint": str}
    status                                  -> what MOUNT/.artfs/status shows
    commit  {project, draft, options, when_online}
                                            -> CommitReply as a dict; progress lines while it works. With `when_online`, when
                                               the server cannot be reached: {"pending": why}, and the daemon commits later
    abandon {project, draft}                -> {}
    refresh                                 -> {}      look at the catalog now
    umount                                  -> {}      then the daemon ends
    """

    op: Literal["ping", "status", "commit", "abandon", "refresh", "umount"]
    args: dict[str, Any] = {}


class CommitOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a commit of a draft may be told; None leaves what the draft itself says (its extended attributes)."""

    type: str | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    ttl: str = "inherit"
    """How long the version lives, as `model.ttl.parse_ttl` reads it."""
    allow_protected: bool = False
    """`aliases`, and those of the draft, may be protected ones."""
    force: bool = False
    """Commit on top of a `latest` that moved since the draft began, whatever it holds."""


_read_request = msgspec.json.Decoder(Request).decode


def read_request(line: bytes) -> Request:
    """What a client asks for. Raises UsageError."""
    try:
        return _read_request(line)
    except UNREADABLE as error:
        raise UsageError(f"that request makes no sense: {error}") from None


def read_options(value: Any) -> CommitOptions:
    """The `options` of a commit. Raises UsageError."""
    try:
        return convert(value, CommitOptions)
    except UNREADABLE as error:
        raise UsageError(f"that request makes no sense: {error}") from None


class CommitReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """`version`: "vN". `created` False: `latest` had this content already. `warnings`: one line each (names that differ only
    in case, ignored files, …). `moved_from`: the version that was latest when the draft began, when it no longer was."""

    entity: str
    project: str
    collection: str
    version: str
    created: bool
    digest: str
    size: int
    file_count: int
    aliases: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    moved_from: str | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far long work is: files and bytes done of a total (0: not known yet) in `phase`."""

    phase: str
    files: int
    files_total: int
    nbytes: int
    nbytes_total: int


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line from the daemon. `error`: {"kind": …, "message": …, and the error's own fields}."""

    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    progress: Progress | None = None


class MountRecord(msgspec.Struct, frozen=True):
    """`run/<id>.json`: one running daemon. `id`: first 16 hex digits of SHA-256 of the mountpoint. `device`: st_dev of the
    mount. `release`: the version of artfs that it is; "": one that did not say so."""

    id: str
    pid: int
    mountpoint: str
    socket: str
    entity: str
    started_at: str
    device: int
    release: str = ""
