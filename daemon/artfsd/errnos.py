"""What a system call returns for each kind of error: one total table (a test checks it against artfs.errors), and the
reading of an OSError. docs/semantics.md shows it to users."""

from __future__ import annotations

import errno

from artfs.errors import ArtfsError, StorageError

ERRNO_BY_KIND: dict[str, int] = {
    "error": errno.EIO,
    "usage": errno.EINVAL,
    "invalid-name": errno.EINVAL,
    "invalid-metadata": errno.EINVAL,
    "metadata-type": errno.EINVAL,
    "invalid-argument": errno.EINVAL,
    "reference-unsupported": errno.EOPNOTSUPP,
    "missing-extra": errno.EINVAL,
    "mountpoint": errno.EINVAL,
    "not-found": errno.ENOENT,
    "path-not-found": errno.ENOENT,
    "reference-missing": errno.EIO,
    "conflict": errno.EEXIST,
    "type-conflict": errno.EEXIST,
    "alias-in-use": errno.EBUSY,
    "alias-protected": errno.EPERM,
    "draft-busy": errno.EBUSY,
    "draft-invalid": errno.EINVAL,
    "latest-moved": errno.EBUSY,
    "already-mounted": errno.EBUSY,
    "artifact-status": errno.EINVAL,
    "not-logged": errno.EINVAL,
    "finalized": errno.EROFS,
    "corrupt": errno.EIO,
    "bad-object": errno.EIO,
    "bad-blob": errno.EIO,
    "verification-failed": errno.EIO,
    "blob-missing": errno.EIO,
    "source-changed": errno.EBUSY,
    "reference-changed": errno.EIO,
    "reference-refused": errno.EACCES,
    "storage": errno.EIO,  # its own errno counts
    "state-version": errno.EIO,
    "catalog": errno.EIO,
    "catalog-version": errno.EIO,
    "quota": errno.EDQUOT,
    "access": errno.EACCES,
    "unauthorized": errno.EACCES,
    "forbidden": errno.EACCES,
    "unavailable": errno.EHOSTUNREACH,
    "offline": errno.EHOSTUNREACH,
    "rate-limited": errno.EHOSTUNREACH,
    "wait-timeout": errno.ETIMEDOUT,
}


def errno_of(error: BaseException) -> int | None:
    """The errno that a caller gets for `error`; None for one that nobody foresaw (a defect: EIO and a traceback)."""
    if isinstance(error, StorageError):
        return error.errno
    if isinstance(error, ArtfsError):
        return ERRNO_BY_KIND.get(error.kind, errno.EIO)
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return None
