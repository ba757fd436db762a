"""A page source in memory that tells what was read: for tests of what a view over trees costs."""

from __future__ import annotations

from collections.abc import Iterable

from artfs.errors import BlobMissingError
from artfs.model.digests import Digest, digest_bytes
from artfs.model.tree import Page, decode_page


class PageShelf:
    """Holds encoded pages and decodes one at each reading (it caches nothing).

    Attributes:
        objects: what it holds, by digest.
        loads: the digest of every reading so far, oldest first; a test may clear it.
    """

    def __init__(self, objects: Iterable[tuple[Digest, bytes]] = ()) -> None:
        self.objects: dict[Digest, bytes] = dict(objects)
        self.loads: list[Digest] = []

    def add(self, objects: Iterable[tuple[Digest, bytes]]) -> None:
        self.objects.update(objects)

    def put(self, data: bytes) -> Digest:
        """Takes any bytes under their right digest, well-formed or not."""
        digest = digest_bytes(data)
        self.objects[digest] = data
        return digest

    def page(self, digest: Digest) -> Page:
        """Raises BlobMissingError, BadObjectError."""
        self.loads.append(digest)
        data = self.objects.get(digest)
        if data is None:
            raise BlobMissingError(f"no page {digest}", digest)
        return decode_page(digest, data)
