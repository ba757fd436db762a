"""The watcher over a catalog that comes and goes."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from typing import Any

import trio

from artfs.errors import CatalogError
from artfsd.naming import Invalidation
from artfsd.notify import Watcher

POLL_S = 0.005


class Names:
    """A directory of names whose reading says what it read."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def reload(self) -> Callable[[], list[Invalidation]]:
        token = self._catalog.change_token()
        return lambda: [Invalidation(token, b"name")]


class Catalog:
    """Counts its changes; `broken` makes every reading fail."""

    def __init__(self) -> None:
        self.changes = 1
        self.broken = False

    def change_token(self) -> int:
        if self.broken:
            raise CatalogError("the disk is away")
        return self.changes


def test_a_catalog_that_cannot_be_read_is_watched_on(expect_log: Callable[..., None]) -> None:
    """It is said once; what changed meanwhile is read as soon as it can be."""
    expect_log("the catalog cannot be watched: the disk is away", level=logging.ERROR, count=1)
    catalog = Catalog()
    happened: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def main() -> None:
        watcher = Watcher(
            catalog,  # type: ignore[arg-type]
            POLL_S,
            trio.lowlevel.current_trio_token(),
            nodes=lambda: [Names(catalog)],
            apply=lambda applies: happened.put([found.parent for take in applies for found in take()]),
            failed=lambda: happened.put("failed"),
        )
        watcher.start()

        async def next_event() -> Any:
            return await trio.to_thread.run_sync(happened.get)

        with trio.fail_after(30):
            catalog.changes = 2
            assert await next_event() == [2]
            catalog.broken = True
            assert await next_event() == "failed"
            catalog.changes = 3
            await trio.sleep(10 * POLL_S)
            assert happened.empty()
            catalog.broken = False
            assert await next_event() == [3]
        watcher.close()

    trio.run(main)
