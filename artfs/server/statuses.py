"""From the kinds of artfs.errors to HTTP statuses: one total table (a test compares)."""

from __future__ import annotations

from artfs.errors import ArtfsError

STATUS_BY_KIND: dict[str, int] = {
    "error": 500,
    "usage": 400,
    "invalid-name": 400,
    "invalid-metadata": 400,
    "invalid-argument": 400,
    "metadata-type": 400,
    "reference-unsupported": 400,
    "missing-extra": 500,
    "mountpoint": 400,
    "not-found": 404,
    "path-not-found": 404,
    "reference-missing": 404,
    "conflict": 409,
    "type-conflict": 409,
    "alias-in-use": 409,
    "alias-protected": 409,
    "draft-busy": 409,
    "draft-invalid": 409,
    "latest-moved": 409,
    "already-mounted": 409,
    "artifact-status": 409,
    "not-logged": 409,
    "finalized": 409,
    # What was sent is not what it is said to be. A client must not send it again.
    "corrupt": 422,
    "bad-object": 422,
    "bad-blob": 422,
    "verification-failed": 422,
    "blob-missing": 409,
    "source-changed": 409,
    "reference-changed": 409,
    "reference-refused": 403,
    "storage": 507,
    "state-version": 507,
    "quota": 507,
    # The database is away, or locked for long: another try may find it.
    "catalog": 503,
    "catalog-version": 503,
    "access": 403,
    "unauthorized": 401,
    "forbidden": 403,
    "unavailable": 503,
    "offline": 503,
    "rate-limited": 429,
    "wait-timeout": 504,
}


def status_of(error: ArtfsError) -> int:
    return STATUS_BY_KIND[error.kind]
