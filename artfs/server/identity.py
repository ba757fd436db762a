"""A database and its bucket know each other: the database has an identity, the bucket an object that is called like it.

Without that, a garbage collection with the database of one server and the bucket of another would find nothing in the one of all
that is in the other, and delete it.
"""

from __future__ import annotations

from artfs.catalog.blobledger import BlobLedger
from artfs.errors import UsageError
from artfs.store.bucket import Bucket

PREFIX = "catalog/"
_ABOUT = b"The blobs in this bucket belong to the artfs database with this identity. Leave this object here.\n"


def bind(ledger: BlobLedger, bucket: Bucket, *, make: bool) -> None:
    """Sees that both belong together; `make`: they do from now on, if neither belongs to anything yet.

    Raises UsageError when they do not; UnavailableError, StorageError when the bucket cannot be asked.
    """
    identity = ledger.identity()
    there = {each.key.removeprefix(PREFIX) for each in bucket.objects(PREFIX)}
    if identity is None and not there and make:
        identity = ledger.identity(make=True)
    elif identity is None:
        what = "is another database's" if there else "has no server's blobs yet"
        raise UsageError(f"the bucket {bucket.name} {what}, and this database has none of its own")
    elif there and identity not in there:
        raise UsageError(f"the bucket {bucket.name} is another database's: it has {PREFIX}{min(there)}, not {PREFIX}{identity}")
    elif not there and not make:
        raise UsageError(f"the bucket {bucket.name} is not this database's: it has no object {PREFIX}{identity}")
    if identity not in there:
        bucket.put(f"{PREFIX}{identity}", _ABOUT)
