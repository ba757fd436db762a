"""The cache: a store that may forget. Blobs of servers, kept on this machine, shared by all processes of a user.

    packs/<16 hex digits>      complete blobs of at most 1 MiB, many to a file (see packs.py)
    blobs/ab/<digest>          other complete blobs, plain files, 0444 (while one is being written: 0200)
    partial/<digest>           large blobs of which some blocks are here, sparse
    partial/<digest>.map       which blocks (see partial.py)
    index.db                   sizes, last uses, pins (see index.py); made anew from the files when it is lost or damaged

Nothing here is synced: after a power cut any file may be torn. That is why no byte is handed out before this process, or
the one that it has fetch for it, has checked it (blocks against their block lists, small blobs against their digests), and
why what fails is dropped and fetched again. Whoever has a file of `blobs` or `partial` open holds a shared flock on it, and
whoever writes to a pack an exclusive one; eviction takes only files that it can lock.
"""

from artfs.store.cache.cache import Cache, CacheStatus
from artfs.store.cache.packs import CheckedBlob, Spot, check_blob
from artfs.store.cache.partial import Complete, Partial

__all__ = ["Cache", "CacheStatus", "CheckedBlob", "Complete", "Partial", "Spot", "check_blob"]
