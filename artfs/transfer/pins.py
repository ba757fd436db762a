"""Pinned versions: all of one is in the cache, and stays there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from artfs.errors import ArtfsError, UnavailableError, WaitTimeoutError
from artfs.model.manifest import Manifest
from artfs.model.tree import PageSource
from artfs.transfer.fetch import Fetcher
from artfs.transfer.prefetch import prefetch
from artfs.transfer.progress import OnProgress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pinning:
    """Pins of one server. `pages`: its trees; `timeout_s`: how long nothing may come, in seconds."""

    server: str
    fetcher: Fetcher
    pages: PageSource
    timeout_s: float = 30.0

    def pin(self, name: str, root: str, on_progress: OnProgress | None = None) -> tuple[int, int]:
        """Fetches the version whose root tree is `root` and keeps it, under the name that was asked for. A pin of that name
        goes over to it. Returns (files, bytes).

        An error or Ctrl-C leaves the pin as it was before, and in the cache what had come. Raises as `prefetch`, and
        StorageError.
        """
        cache = self.fetcher.cache
        before = next((pin for pin in cache.pins() if (pin.server, pin.name) == (self.server, name)), None)
        manifest = Manifest(self.pages, root)
        # First, so that nothing goes while the rest still comes.
        cache.pin(self.server, name, root, manifest.objects(read=self._read))
        try:
            return prefetch(manifest, self.fetcher, timeout_s=self.timeout_s, on_progress=on_progress)
        except BaseException:
            if before is None:
                cache.unpin(self.server, name)
            else:
                cache.pin(self.server, name, before.root, Manifest(self.pages, before.root).objects(read=self._read))
            raise

    def _read(self, digest: str) -> bytes:
        return self.fetcher.read_small(digest, 0, timeout_s=self.timeout_s)

    def follow(self, root_of: Callable[[str], str]) -> bool:
        """Has pins whose names mean other versions by now (`root_of` tells) go over to those. What cannot be found or fetched
        stays as it is, and is told in the log; False: for some, that may be better another time."""
        is_done = True
        for pin in self.fetcher.cache.pins():
            if pin.server != self.server:
                continue
            try:
                root = root_of(pin.name)
                if root != pin.root:
                    self.pin(pin.name, root)
                    log.info("the pin of %s went over to what it names now", pin.name)
            except ArtfsError as error:
                log.warning("the pin of %s stays as it is: %s", pin.name, error)
                is_done = is_done and not isinstance(error, (UnavailableError, WaitTimeoutError))
        return is_done
