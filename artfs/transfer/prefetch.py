"""Fetching whole versions, or parts of them, into the cache: what `artfs prefetch` and `artfs pin` do."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from artfs.errors import UnavailableError
from artfs.model.digests import BLOCKS_ABOVE
from artfs.model.entry import DirEntry, FileEntry
from artfs.model.manifest import Manifest
from artfs.transfer.fetch import Fetcher
from artfs.transfer.progress import Meter, OnProgress

_GROUP = 2048
_GROUP_NBYTES = 64 * 1024 * 1024
_WINDOW = 256
"""Blocks (64 MiB) of a large blob that are asked for ahead."""
_STEP = 32


def prefetch(
    manifest: Manifest, fetcher: Fetcher, *, path_prefix: str = "", timeout_s: float = 30.0,
    on_progress: OnProgress | None = None,
) -> tuple[int, int]:
    """Has every file of the version (below the file or directory `path_prefix`; "": all) in the cache, as far as there is
    room. Returns (files, bytes) that it looked at; those that were here cost a look each.

    `timeout_s`: how long nothing may come, in seconds. `on_progress`: phase "fetch". Raises BlobMissingError, BadBlobError,
    UnavailableError; what came until then stays.
    """
    entry = manifest.get(path_prefix) if path_prefix else None
    if isinstance(entry, FileEntry):
        totals = 1, entry.size
    elif isinstance(entry, DirEntry):
        totals = entry.file_count, entry.size
    else:
        totals = manifest.totals.file_count, manifest.totals.size
    files = nbytes = 0
    with Meter(on_progress, "fetch", *totals) as meter:
        for group in _groups(item for _, item in manifest.walk(path_prefix) if isinstance(item, FileEntry)):
            if group[0].size > BLOCKS_ABOVE:
                _fetch_large(group[0], fetcher, timeout_s, meter)
            else:
                _fetch_small(group, fetcher, timeout_s)
                meter.advance(0, sum(item.size for item in group))
            files += len(group)
            nbytes += sum(item.size for item in group)
            meter.advance(len(group))
    return files, nbytes


def _groups(entries: Iterable[FileEntry]) -> Iterator[list[FileEntry]]:
    """Small files in groups, each large one alone."""
    group: list[FileEntry] = []
    nbytes = 0
    for entry in entries:
        if entry.size > BLOCKS_ABOVE:
            yield [entry]
            continue
        group.append(entry)
        nbytes += entry.size
        if len(group) == _GROUP or nbytes >= _GROUP_NBYTES:
            yield group
            group, nbytes = [], 0
    if group:
        yield group


def _fetch_small(group: list[FileEntry], fetcher: Fetcher, timeout_s: float) -> None:
    came = threading.Semaphore(0)
    waited_for = [
        entry for entry in group if not fetcher.need_small(entry.digest, entry.size, came.release)
    ]
    for _ in waited_for:
        if not came.acquire(timeout=timeout_s):
            raise UnavailableError(f"nothing came from the server for {timeout_s:.0f} s")
    for entry in waited_for:
        fetcher.raise_small_failure(entry.digest)


def _fetch_large(entry: FileEntry, fetcher: Fetcher, timeout_s: float, meter: Meter) -> None:
    if fetcher.cache.has(entry.digest):
        meter.advance(0, entry.size)
        return
    blob = fetcher.large(entry.digest, entry.size, entry.blocks.hex())
    try:
        for first in range(0, blob.count, _STEP):
            stop = min(first + _STEP, blob.count)
            blob.prefetch(stop, min(stop + _WINDOW, blob.count))
            blob.wait(first, stop, timeout_s)
            meter.advance(0, blob.span_of(first, stop)[1])
    finally:
        blob.close()

