"""Garbage collection: marks what versions and drafts need, then sweeps the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import msgspec

from artfs.catalog.base import Catalog
from artfs.errors import ArtfsError, BadBlobError, BadObjectError, BlobMissingError
from artfs.model.digests import BLOCK_SIZE, RAW_LENGTH
from artfs.model.manifest import Manifest
from artfs.model.pages import MAX_PAGE_BYTES, decode_page
from artfs.model.tree import PageCache
from artfs.model.unreadable import UNREADABLE
from artfs.store.layout import ignore_wait
from artfs.store.sweep import Marks, SweepableStore, Swept, sweep
from artfs.transfer.progress import Meter, OnProgress

_PAGE_START = b"\x93\x01"
_BLOCK_LIST_START = b"\x94\x01"
_LARGEST_BLOCK_LIST = BLOCK_SIZE + 64
_block_list = msgspec.msgpack.Decoder(tuple[int, int, bytes, bytes], strict=True)


def collect_garbage(
    catalog: Catalog, store: SweepableStore, *, keep: Iterable[str] = (), dry_run: bool = False,
    on_progress: OnProgress | None = None, on_wait: Callable[[str], None] = ignore_wait,
) -> Swept:
    """Removes the blobs that no version and no draft needs, while no commit and no push is under way.

    Arguments:
        keep: digests that drafts refer to: blobs, block lists and trees; what is below a tree is kept, too. Iterated
            after all writers have ended.
        dry_run: only tells what would be removed.
        on_wait: told in one line what it waits for, when it does.
    Raises BlobMissingError or CorruptError, naming the digest, when a tree cannot be read: what it refers to is not
    known then, so nothing is removed. StorageError, CatalogError.
    """
    with store.exclusive(on_wait):
        marks = Marks()
        with Meter(on_progress, "mark") as meter:
            try:
                _mark(catalog.live_roots(), keep, store, marks, meter)
            except (BlobMissingError, BadBlobError, BadObjectError) as error:
                message = f"nothing was removed, as it is not known what is needed: {error}"
                raise type(error)(message, error.digest) from error
        with Meter(on_progress, "sweep") as meter:
            return sweep(store, marks, dry_run=dry_run, on_blob=lambda size: meter.advance(1, size))


def _mark(
    roots: Iterable[str], keep: Iterable[str], store: SweepableStore, marks: Marks, meter: Meter
) -> None:
    pages = PageCache(store.read_page, capacity=4096)
    seen: set[str] = set()

    def mark_tree(root: str) -> None:
        if root not in seen:
            for digest in Manifest(pages, root).objects(seen, store.read):
                marks.add(digest)
                meter.advance(1)

    for root in roots:
        mark_tree(root)
    for digest in dict.fromkeys(keep):
        marks.add(digest)
        start = _first_bytes(store, digest)
        # A file of the user's may look like one of these by chance. Then only too much is kept.
        if start == _PAGE_START:
            if _is_page(store, digest):
                mark_tree(digest)
        elif start == _BLOCK_LIST_START and (lower := _lower_list(store, digest)) is not None:
            marks.add(lower)


def _first_bytes(store: SweepableStore, digest: str) -> bytes:
    fd = store.open_blob(digest)
    try:
        return os.pread(fd, len(_PAGE_START), 0)
    finally:
        os.close(fd)


def _is_page(store: SweepableStore, digest: str) -> bool:
    if (store.try_size(digest) or 0) > MAX_PAGE_BYTES:
        return False
    data = store.read(digest)
    try:
        decode_page(digest, data)
    except ArtfsError:
        return False
    return True


def _lower_list(store: SweepableStore, digest: str) -> str | None:
    if (store.try_size(digest) or 0) > _LARGEST_BLOCK_LIST:
        return None
    try:
        lower = _block_list.decode(store.read(digest))[2]
    except UNREADABLE:
        return None
    return lower.hex() if len(lower) == RAW_LENGTH else None
