"""The composition root of artfs with a server: its catalog, its store with this machine's cache before it."""

from __future__ import annotations

from collections.abc import Callable

from artfs.api.session import Remote
from artfs.catalog.base import Catalog
from artfs.client.credentials import Credentials
from artfs.client.http import Http
from artfs.client.memory import RememberingCatalog
from artfs.client.reach import Reach
from artfs.client.store import RemoteStore
from artfs.settings import Settings
from artfs.store.base import LocalStore, RangeSource
from artfs.store.cache import Cache
from artfs.transfer.cachedstore import CachedStore
from artfs.transfer.fetch import WORKERS, Fetcher
from artfs.transfer.fetchchild import MakeDumps, Surroundings
from artfs.transfer.fetchprocess import FetchProcess


def fork_fetch_process(settings: Settings, make_dumps: MakeDumps | None = None) -> FetchProcess:
    """A process that fetches for the one that calls this, which has one thread. `make_dumps`: see FetchProcess.fork. Raises
    OSError, UsageError."""
    import artfs.client.direct  # noqa: F401  (both processes share what is loaded before the fork)

    token = Credentials().find(settings)

    def make(surroundings: Surroundings) -> tuple[RangeSource, Cache]:
        http = Http.of(settings, token)
        http.on_contact = surroundings.contact
        http.gate = surroundings.gate
        return RemoteStore(http), _open_cache(settings)

    return FetchProcess.fork(make, limit_s=_limit_s(settings), workers=WORKERS, make_dumps=make_dumps)


def _also_expecting(contact: Callable[[bool, str], None], fetcher: Fetcher) -> Callable[[bool, str], None]:
    """Whoever asks the server for names is about to look into versions."""

    def heard(reached: bool, what: str) -> None:
        contact(reached, what)
        if reached:
            fetcher.expect()

    return heard


def _limit_s(settings: Settings) -> float:
    return min(settings.network_timeout_s, settings.deadline_s)


def _open_cache(settings: Settings) -> Cache:
    return Cache(settings.cache_path, size=settings.cache_size, floor=settings.cache_floor)


def open_remote(
    settings: Settings, *, listen: bool, process: FetchProcess | None = None
) -> tuple[Catalog, LocalStore, Remote]:
    """What a Session is made of. Asks the server nothing. `process`: fetches for it. Raises UsageError for settings that cannot
    be used, StorageError when the cache cannot be made."""
    http = Http.of(settings, Credentials().find(settings))
    try:
        reach = Reach(settings.server, patience_s=settings.network_timeout_s)
        http.on_contact = reach.contact
        if not listen:
            # A daemon goes on trying, as its callers come one after the other, and the network comes back; a command does not.
            http.on_give_up = reach.give_up
        http.gate = reach.gate
        if process is not None:
            process.gate = reach.gate
            process.on_contact = reach.contact
        cache = _open_cache(settings)
        catalog = RememberingCatalog(
            http, settings.state_path / "names.db", reach, poll_s=settings.alias_timeout_s
        )
        remote = RemoteStore(http)
        fetcher = Fetcher(remote, cache, limit_s=_limit_s(settings), process=process)
        http.on_contact = _also_expecting(reach.contact, fetcher)
        store = CachedStore(remote, fetcher, limit_s=settings.network_timeout_s)
        if listen:
            catalog.start_listening()
    except BaseException:
        http.close()
        raise
    return catalog, store, Remote(settings.server, fetcher, reach, catalog.ping, catalog.catch_up)
