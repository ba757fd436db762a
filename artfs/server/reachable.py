"""All that a version needs, read page by page through the rows of a project."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from artfs.catalog.blobledger import BATCH
from artfs.errors import BlobMissingError
from artfs.model.blocklist import has_lower_list
from artfs.model.entry import FileEntry
from artfs.model.pages import LeafPage, decode_page
from artfs.model.shape import Outline
from artfs.server.blobservice import BlobService, lower_list


def reachable(service: BlobService, project_id: int, roots: Iterable[str], seen: set[str]) -> Iterator[str]:
    """Digests of pages, files and block lists below the trees `roots`, some of them several times.

    `seen`: pages that were read before: they, and all below them, are left out, and those that are read now are added. (If the
    iterator is not run to its end, it is worthless.) Raises BlobMissingError and CorruptError for a page that cannot be read.
    """
    level = [root for root in dict.fromkeys(roots) if root not in seen]
    while level:
        seen.update(level)
        below: dict[str, None] = {}
        long: dict[str, None] = {}
        for digest, data in read_all(service, project_id, level):
            page = decode_page(digest, data)
            yield digest
            below.update(dict.fromkeys(each for each in Outline(digest, page).below if each not in seen))
            if isinstance(page, LeafPage):
                for entry in page.entries:
                    if type(entry) is FileEntry:
                        yield entry.digest
                        if entry.blocks:
                            yield entry.blocks.hex()
                            if has_lower_list(entry.size):
                                long[entry.blocks.hex()] = None
        for _, data in read_all(service, project_id, long):
            if (lower := lower_list(data)) is not None:
                yield lower
        level = list(below)


def read_all(service: BlobService, project_id: int, digests: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Bytes of small blobs, unchecked, in the order of their places. Raises BlobMissingError."""
    for some in batches(digests, BATCH):
        found = service.ledger.find(None, some, project_id)
        for digest in some:
            if digest not in found:
                raise BlobMissingError(f"blob {digest} is not there", digest)
        for each, data in service.reader.read(sorted(found.values(), key=lambda each: (each.key, each.offset))):
            yield each.digest, data if isinstance(data, bytes) else bytes(data)


def batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    todo = iter(items)
    while some := list(islice(todo, size)):
        yield some
