"""Every error that artfs raises on purpose: one tree, drawn here, with a stable `kind` per class.

A handler acts on the class or on `kind` (a short, stable word that also goes over the wire and into `--json` output).
Each edge has one total table from these classes to its own codes: the CLI's exit codes (artfs/cli/exits.py) and the
daemon's errno values (daemon/artfsd/errnos.py). Nothing here derives from AttributeError, so `hasattr` never hides one.

    ArtfsError
    ├── UsageError                      the caller asked for something that cannot mean anything
    │   ├── InvalidNameError            a name, alias, tag, type or path breaks its rule (also a ValueError)
    │   ├── InvalidMetadataError        metadata is not a JSON object within the limits (also a ValueError)
    │   │   └── MetadataTypeError       it is JSON text of something that is no object (also a TypeError)
    │   ├── InvalidArgumentError        an argument's value means nothing here (also a ValueError)
    │   ├── ReferenceUnsupportedError   nothing here can fetch such a reference (also a ValueError)
    │   ├── MissingExtraError           a library that is optional is not installed (also an ImportError)
    │   └── MountpointError             a mountpoint is missing, not a directory, not empty, or taken
    ├── NotFoundError                   no such project, collection, alias, version, draft or path
    │   ├── PathNotFoundError           no such path in an artifact (also a FileNotFoundError and a KeyError)
    │   └── ReferenceMissingError       what a reference names is gone (also a FileNotFoundError and a ValueError)
    ├── ConflictError                   the state of things forbids it (also a ValueError)
    │   ├── TypeConflictError           a collection has another type
    │   ├── AliasInUseError             aliases forbid a deletion
    │   ├── AliasProtectedError         a protected alias would be given, moved or removed
    │   ├── DraftBusyError              files of a draft are open for writing, or somebody commits it now
    │   ├── DraftInvalidError           a draft holds something that no version can hold (a socket, a link to outside)
    │   ├── LatestMovedError            `latest` moved since the draft began
    │   └── AlreadyMountedError         another daemon serves this mountpoint
    ├── ArtifactStatusError             not in this state of an artifact
    │   ├── ArtifactNotLoggedError      only a logged artifact can do this
    │   └── ArtifactFinalizedError      a finalised or logged artifact cannot be changed
    ├── CorruptError                    bytes are not what their name says
    │   ├── BadObjectError              a tree or block list is malformed; names the digest
    │   ├── BadBlobError                a blob's bytes do not match its digest
    │   └── VerificationError           a directory or version is not what its manifest says (also a ValueError)
    ├── BlobMissingError                a blob is not in the store although something names it
    ├── SourceChangedError              a file changed between adding (or staging) and saving
    │   └── ReferenceChangedError       what a reference names is not what it was when the reference was added
    ├── ReferenceRefusedError           a reference must not be followed here, or its source forbids it
    ├── StorageError                    the disk said no; `errno` tells which (ENOSPC, EDQUOT, EROFS, EIO …)
    │   ├── QuotaError                  the project's quota on the server is used up (EDQUOT)
    │   └── StateVersionError           a folder of artfs is of a newer program
    ├── CatalogError                    the catalog cannot be read or written
    │   └── CatalogVersionError         its schema is newer than this program
    ├── AccessError                     the server does not let this token do it
    │   ├── UnauthorizedError           no token, or one that is unknown, expired or revoked
    │   └── ForbiddenError              the token's role is not enough
    ├── UnavailableError                the daemon (or server) does not answer, or not in time
    │   ├── OfflineError                it has not answered for a while, so nothing was tried
    │   └── RateLimitedError            the server asks to wait; `retry_after_s`
    └── WaitTimeoutError                `Artifact.wait(timeout)` elapsed
"""

from __future__ import annotations

import copy
import errno as _errno
import os
from typing import Self


class ArtfsError(Exception):
    """Base of all errors of artfs.

    `str(error)` is one line that says what is wrong and, where there is something to do, what to type.
    """

    kind = "error"

    def again(self) -> Self:
        """The same, to be raised another time or kept: without what it was raised from, which would stay in memory."""
        return copy.copy(self)


class UsageError(ArtfsError):
    kind = "usage"


class InvalidNameError(UsageError, ValueError):
    kind = "invalid-name"


class InvalidMetadataError(UsageError, ValueError):
    kind = "invalid-metadata"


class MetadataTypeError(InvalidMetadataError, TypeError):
    """What a value of another type is to everybody, and a bad text to the command line."""

    kind = "metadata-type"


class InvalidArgumentError(UsageError, ValueError):
    kind = "invalid-argument"


class ReferenceUnsupportedError(UsageError, ValueError):
    kind = "reference-unsupported"


class MissingExtraError(UsageError, ImportError):
    kind = "missing-extra"


class MountpointError(UsageError):
    kind = "mountpoint"


class NotFoundError(ArtfsError):
    kind = "not-found"


class PathNotFoundError(NotFoundError, FileNotFoundError, KeyError):
    """The Artifact reference wants FileNotFoundError from `remove` and KeyError from `get_entry` for the same fact."""

    kind = "path-not-found"


class ReferenceMissingError(NotFoundError, FileNotFoundError, ValueError):
    kind = "reference-missing"


class ConflictError(ArtfsError, ValueError):
    kind = "conflict"


class TypeConflictError(ConflictError):
    kind = "type-conflict"


class AliasInUseError(ConflictError):
    kind = "alias-in-use"


class AliasProtectedError(ConflictError):
    kind = "alias-protected"


class DraftBusyError(ConflictError):
    """`paths`: the files that are still open for writing, relative to the draft's root, sorted."""

    kind = "draft-busy"

    def __init__(self, message: str, paths: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.paths = paths


class DraftInvalidError(ConflictError):
    """`paths`: what no version can hold, relative to the draft's root, sorted."""

    kind = "draft-invalid"

    def __init__(self, message: str, paths: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.paths = paths


class LatestMovedError(ConflictError):
    kind = "latest-moved"


class AlreadyMountedError(ConflictError):
    kind = "already-mounted"


class ArtifactStatusError(ArtfsError):
    """`name`: the property or method that was asked for."""

    kind = "artifact-status"

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class ArtifactNotLoggedError(ArtifactStatusError):
    kind = "not-logged"


class ArtifactFinalizedError(ArtifactStatusError):
    kind = "finalized"


class CorruptError(ArtfsError):
    """`digest`: the name whose bytes are wrong (64 hex digits)."""

    kind = "corrupt"

    def __init__(self, message: str, digest: str = "") -> None:
        super().__init__(message)
        self.digest = digest


class BadObjectError(CorruptError):
    kind = "bad-object"


class BadBlobError(CorruptError):
    kind = "bad-blob"


class VerificationError(CorruptError, ValueError):
    """`problems`: one line for each file that is missing, extra or changed, sorted."""

    kind = "verification-failed"

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class BlobMissingError(ArtfsError):
    """`digest`: the blob that is not there (64 hex digits). `digests`: all of which that was found out, where several were
    looked for at once; a thousand at most."""

    kind = "blob-missing"

    def __init__(self, message: str, digest: str = "", digests: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.digest = digest
        self.digests = digests or ((digest,) if digest else ())


class SourceChangedError(ArtfsError, ValueError):
    kind = "source-changed"


class ReferenceChangedError(SourceChangedError):
    kind = "reference-changed"


class ReferenceRefusedError(ArtfsError):
    kind = "reference-refused"


class StorageError(ArtfsError):
    """The operating system refused to store or read bytes. `errno` is its number, never 0."""

    kind = "storage"

    def __init__(self, message: str, errno: int = _errno.EIO) -> None:
        super().__init__(message)
        self.errno = errno

    @classmethod
    def wrap(cls, error: OSError, doing: str) -> StorageError:
        """The StorageError for `error`, met while `doing` (a verb phrase: "writing the blob …")."""
        number = error.errno or _errno.EIO
        advice = {
            _errno.ENOSPC: ": free some space (`artfs gc` removes what no version needs)",
            _errno.EDQUOT: ": your disk quota (`quota`) is used up; `artfs gc` removes what no version needs",
            _errno.EROFS: ": the state folder is on a read-only file system",
            _errno.EACCES: ": check the owner and mode of the state folder",
            _errno.EMFILE: ": too many open files (raise `ulimit -n`)",
        }.get(number, "")
        where = f" ({error.filename})" if error.filename else ""
        return cls(f"{doing} failed: {os.strerror(number)}{where}{advice}", number)


class QuotaError(StorageError):
    kind = "quota"

    def __init__(self, message: str, errno: int = _errno.EDQUOT) -> None:
        super().__init__(message, errno)


class StateVersionError(StorageError):
    """A newer artfs made the folder (the state folder, a store, drafts, a cache); nothing in it was touched."""

    kind = "state-version"


class CatalogError(ArtfsError):
    kind = "catalog"


class CatalogVersionError(CatalogError):
    kind = "catalog-version"


class UnavailableError(ArtfsError):
    """`may_be_done`: it came up so late that nobody knows whether what was asked for was done. Of this process only."""

    kind = "unavailable"
    may_be_done = False


class OfflineError(UnavailableError):
    kind = "offline"


class RateLimitedError(UnavailableError):
    """`retry_after_s`: how long to wait before another try, in seconds."""

    kind = "rate-limited"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AccessError(ArtfsError):
    kind = "access"


class UnauthorizedError(AccessError):
    kind = "unauthorized"


class ForbiddenError(AccessError):
    kind = "forbidden"


class WaitTimeoutError(ArtfsError):
    kind = "wait-timeout"


# Scripts that were written for wandb catch these.
Error = CommError = ArtfsError


def all_kinds() -> dict[str, type[ArtfsError]]:
    """Every error class by its kind; the tables at the edges are tested against it."""
    found: dict[str, type[ArtfsError]] = {}
    todo: list[type[ArtfsError]] = [ArtfsError]
    while todo:
        cls = todo.pop()
        found[cls.kind] = cls
        todo.extend(cls.__subclasses__())
    return found
