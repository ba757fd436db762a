"""Large blobs that have come whole become complete ones of the cache, once their SHA-256 is found right; nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress

from artfs.errors import ArtfsError, StorageError
from artfs.store.cache import Cache, Partial


class _Ended(Exception):
    """The process ends; what was being checked is checked another time."""


class Promoter:
    """Thread-safe.

    Arguments:
        aside: runs it.
        tell: told of what goes wrong.
        has_ended: whether the process ends.
    """

    def __init__(
        self, cache: Cache, aside: ThreadPoolExecutor, tell: Callable[[ArtfsError, str], None], has_ended: Callable[[], bool]
    ) -> None:
        self._cache = cache
        self._aside = aside
        self._tell = tell
        self._has_ended = has_ended
        self._under_way: set[Future[None]] = set()

    def take(self, whole: Partial) -> None:
        """Checks and promotes it, some time; it is closed then."""
        with suppress(RuntimeError):  # the pool was closed
            future = self._aside.submit(self._promote, whole)
            self._under_way.add(future)
            future.add_done_callback(self._under_way.discard)
            return
        whole.close()

    def join(self, limit_s: float) -> None:
        wait(list(self._under_way), limit_s)

    def _promote(self, partial: Partial) -> None:
        doing = "checking a blob that is all there"
        try:
            self._cache.promote(partial, on_bytes=self._go_on)
        except _Ended:
            return
        except ArtfsError as error:
            self._tell(error, doing)
        except OSError as error:
            self._tell(StorageError.wrap(error, f"keeping blob {partial.digest}"), doing)
        finally:
            partial.close()

    def _go_on(self, nbytes: int) -> None:
        if self._has_ended():
            raise _Ended
