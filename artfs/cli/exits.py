"""Exit codes of `artfs`: one total table from the kinds of artfs.errors to numbers a script can act on.

Codes are stable: a kind never moves to another number. docs/cli.md shows the same table.
"""

from __future__ import annotations

from artfs.errors import ArtfsError

OK = 0
"""It worked."""
NO = 1
"""The command worked, and the answer is no: `diff --exit-code` found changes, a folder differs, doctor found
something broken, the user said no. Also an ArtfsError of no narrower kind."""
USAGE = 2
NOT_FOUND = 3
CONFLICT = 4
BUSY = 5
LATEST_MOVED = 6
MOUNTPOINT = 7
CORRUPT = 8
STORAGE = 9
CATALOG = 10
UNAVAILABLE = 11
TIMEOUT = 12
DENIED = 13
INTERNAL = 70
"""A bug of artfs (sysexits' EX_SOFTWARE)."""
INTERRUPTED = 130
"""Ctrl-C: 128 + SIGINT."""
BROKEN_PIPE = 141
"""Whoever read our output went away: 128 + SIGPIPE, as for any Unix program. Nothing is printed."""

MEANINGS: dict[int, str] = {
    OK: "done",
    NO: "the answer is no (something differs or is broken), or another error",
    USAGE: "bad arguments, names or metadata",
    NOT_FOUND: "no such project, collection, version, alias, draft or path",
    CONFLICT: "the state of things forbids it",
    BUSY: "files of the draft are still open, or somebody commits it now",
    LATEST_MOVED: "latest moved since the draft began",
    MOUNTPOINT: "the mountpoint is missing, not empty, or taken",
    CORRUPT: "bytes are not what their name says, or missing",
    STORAGE: "the disk said no (full, quota, read-only …), or a newer artfs made the folder",
    CATALOG: "the catalog cannot be read or written",
    UNAVAILABLE: "the daemon or the server does not answer",
    TIMEOUT: "waiting took too long",
    DENIED: "the server does not allow it",
    INTERNAL: "a bug of artfs",
    INTERRUPTED: "interrupted (Ctrl-C)",
    BROKEN_PIPE: "the reader of the output went away",
}

BY_KIND: dict[str, int] = {
    "error": NO,
    "usage": USAGE,
    "invalid-name": USAGE,
    "invalid-metadata": USAGE,
    "metadata-type": USAGE,
    "invalid-argument": USAGE,
    "reference-unsupported": USAGE,
    "missing-extra": USAGE,
    "mountpoint": MOUNTPOINT,
    "not-found": NOT_FOUND,
    "path-not-found": NOT_FOUND,
    "reference-missing": NOT_FOUND,
    "conflict": CONFLICT,
    "type-conflict": CONFLICT,
    "alias-in-use": CONFLICT,
    "alias-protected": CONFLICT,
    "draft-busy": BUSY,
    "draft-invalid": CONFLICT,
    "latest-moved": LATEST_MOVED,
    "already-mounted": MOUNTPOINT,
    "artifact-status": CONFLICT,
    "not-logged": CONFLICT,
    "finalized": CONFLICT,
    "corrupt": CORRUPT,
    "bad-object": CORRUPT,
    "bad-blob": CORRUPT,
    "verification-failed": CORRUPT,
    "blob-missing": CORRUPT,
    "source-changed": CONFLICT,
    "reference-changed": CORRUPT,
    "reference-refused": CONFLICT,
    "storage": STORAGE,
    "catalog": CATALOG,
    "catalog-version": CATALOG,
    "quota": STORAGE,
    "state-version": STORAGE,
    "access": DENIED,
    "unauthorized": DENIED,
    "forbidden": DENIED,
    "unavailable": UNAVAILABLE,
    "offline": UNAVAILABLE,
    "rate-limited": UNAVAILABLE,
    "wait-timeout": TIMEOUT,
}


def exit_code(error: ArtfsError) -> int:
    """The exit code for `error`, by its kind."""
    return BY_KIND[error.kind]
