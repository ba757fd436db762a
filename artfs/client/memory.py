"""A server's catalog that remembers: names that were seen are there without a network, and are not asked for again as long
as nothing changed.

What is remembered are answers, by call and arguments, in memory and in a file. An answer is *fresh* until an event (or, without
events, a change of the server's token) says that its place changed; a fresh one is given without asking. Others are asked
for again, and given as they are when the server cannot be reached.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from artfs.client.catalog import RemoteCatalog
from artfs.client.http import PROBE_S
from artfs.client.reach import Reach
from artfs.errors import StateVersionError, StorageError, UnavailableError
from artfs.forks import Kept
from artfs.model.records import Collection, Member, Project
from artfs.model.unreadable import UNREADABLE
from artfs.typed import json_decoder
from artfs.wire.bodies import EventData
from artfs.wire.routes import ROUTES, by_name

log = logging.getLogger(__name__)

_PING = by_name(ROUTES)["change_token"]
_VERSION = 1
_KEPT = 100_000
"""Answers that the file keeps at the most; the oldest go."""

_IN_MEMORY = 20_000
"""Of these, and those that memory does: what goes from there is asked for again, or found in the file."""

Place = tuple[str | None, str | None, str | None]
"""(entity, project, collection) that an answer is about; None: it hangs on every one."""

_ANYWHERE: Place = (None, None, None)

_Named = TypeVar("_Named", Project, Collection)


@dataclass(slots=True)
class _Answer:
    value: Any
    place: Place
    fresh: bool
    names: dict[str, Any] | None = None
    """What is in a listing, by name; made when it is first wanted. All that a mount shows is looked up there after a change."""

    def named(self, name: str) -> Any:
        """Of a listing."""
        if self.names is None:
            self.names = {each.name: each for each in self.value}
        return self.names.get(name)


class RememberingCatalog(RemoteCatalog):
    """See artfs.catalog.base.Catalog, and the module.

    Arguments:
        path: the file of answers; made 0600 when missing, and made anew when it is damaged.
        poll_s: how old a fresh answer may be, in seconds, while no events come.
    Raises StorageError when the file cannot be made.
    """

    def __init__(self, http: Any, path: Path, reach: Reach, *, poll_s: float) -> None:
        super().__init__(http)
        http.on_change = self._own_change
        self.reach = reach
        self._poll_s = poll_s
        self._memory_lock = threading.Lock()
        self._answers: dict[bytes, _Answer] = {}
        self._changes = 0
        self._polled_at = 0.0
        self._polled: int | None = None
        self._file = _File(path)
        self._places: dict[int, Place] = {}  # of collections, by their ids
        self._told_stale = False

    def start_listening(self) -> None:
        """Has the server tell what changes, from now on. For a process that lives long."""
        events = self.listen(self._changed)
        self.reach.is_listening = lambda: events.is_connected
        self.reach.heard_at = lambda: events.heard_at
        self._polled_at = time.monotonic()  # whoever starts must not wait for a server that is away

    def ping(self) -> int:
        """A small call that asks the server, whatever is remembered."""
        newest: int = self.http.call(_PING, timeout_s=PROBE_S).newest
        return newest

    def catch_up(self) -> None:
        """Asks the server whether anything changed of which no event has told yet. Raises UnavailableError."""
        newest = self.ping()
        if newest != self._token:
            self._changed(None)
            self._saw(newest)

    def close(self) -> None:
        self.reach.close()
        super().close()
        self._file.close()

    # freshness --------------------------------------------------------------------------------------------------
    def change_token(self) -> int:
        """Never raises for want of a network: what cannot be asked for has not changed, as far as is known."""
        self._poll()
        return self._changes

    def _is_listening(self) -> bool:
        return self._events is not None and self._events.is_connected

    def _poll(self) -> None:
        """Without events: asks now and then whether anything changed."""
        if self._is_listening() or time.monotonic() - self._polled_at < self._poll_s:
            return
        self._polled_at = time.monotonic()
        try:
            with self.http.within(PROBE_S):
                token = super().change_token()
        except UnavailableError:
            return
        if token != self._polled:
            self._polled = token
            self._changed(None)

    def _own_change(self, number: int) -> None:
        """A call of ours changed something, and its event may come later than whoever made the call looks."""
        if number > self._token:
            self._changed(None)
        self._saw(number)

    def _changed(self, place: EventData | None) -> None:
        """Something changed there (None: anywhere)."""
        with self._memory_lock:
            self._changes += 1
            for answer in self._answers.values():
                if place is None or _touches(place, answer.place):
                    answer.fresh = False

    def _ask(self, method: str, given: tuple[object, ...], place: Place, call: Callable[[], Any]) -> Any:
        key = msgspec.msgpack.encode((method, *given))
        with self._memory_lock:
            known = self._answers.get(key)
            before = self._changes
        if known is not None and self._is_good(known):
            return known.value
        if known is None:
            known = self._remembered(key, method, place)
        if known is not None and self.reach.has_just_failed:
            self._tell_stale(self.reach.reason)
            return known.value
        try:
            if known is not None:
                # There is something to go on with, so nobody need wait long.
                with self.http.within(PROBE_S):
                    value = call()
            else:
                value = call()
        except UnavailableError as error:
            if known is None:
                raise
            self._tell_stale(str(error))
            return known.value
        self._told_stale = False
        with self._memory_lock:
            # What changed while the answer was on its way may not be in it.
            fresh = before == self._changes
            self._answers.pop(key, None)  # its place is behind the others then
            self._answers[key] = _Answer(value, place, fresh)
            self._forget_oldest()
        self._file.put(key, value)
        return value

    def _is_good(self, answer: _Answer) -> bool:
        """Whether it need not be asked for again."""
        return answer.fresh and (
            self._is_listening() or time.monotonic() - self._polled_at < self._poll_s or self.reach.is_away
        )

    def _listed(self, name: str, method: str, *given: object) -> Any:
        """What a listing has of that name: it need not be asked for as long as the listing need not be. None: nothing, or there
        is no such listing."""
        with self._memory_lock:
            known = self._answers.get(msgspec.msgpack.encode((method, *given)))
        return known.named(name) if known is not None and self._is_good(known) else None

    def _tell_stale(self, why: str) -> None:
        if not self._told_stale:
            self._told_stale = True
            log.info("names are as they were last seen: %s", why)
            self.reach.on_stale(why)

    def _remembered(self, key: bytes, method: str, place: Place) -> _Answer | None:
        """What an earlier process was told."""
        value = self._file.get(key, _TYPES[method])
        if value is _UNKNOWN:
            return None
        answer = _Answer(value, place, fresh=False)
        with self._memory_lock:
            answer = self._answers.setdefault(key, answer)
            self._forget_oldest()
        return answer

    def _forget_oldest(self) -> None:
        while len(self._answers) > _IN_MEMORY:
            del self._answers[next(iter(self._answers))]

    def _recall(self, method: str, *given: object) -> Any:
        """The answer to such a call, as it was last seen; None: there was none."""
        key = msgspec.msgpack.encode((method, *given))
        with self._memory_lock:
            known = self._answers.get(key)
        value = known.value if known is not None else self._file.get(key, _TYPES[method])
        return None if value is _UNKNOWN else value

    def _seen_collection(self, entity: str, project: str, name: str) -> Collection | None:
        """From a listing."""
        return _named(name, self._recall("collections", entity, project, None) or [])

    def _seen_member(self, entity: str, project: str, collection: str, alias: str) -> Member | None:
        """From what was seen of the collection's members."""
        found: Collection | None = self._recall("try_collection", entity, project, collection)
        found = found or self._seen_collection(entity, project, collection)
        members: list[Member] = [] if found is None else self._recall("members", found.id) or []
        return next((each for each in members if alias in each.aliases or alias == f"v{each.index}"), None)

    # what is remembered -----------------------------------------------------------------------------------------
    def projects(self, entity: str) -> list[Project]:
        found: list[Project] = self._ask(
            "projects", (entity,), (entity, None, None), lambda: super(RememberingCatalog, self).projects(entity)
        )
        return list(found)

    def entities(self) -> list[str]:
        found: list[str] = self._ask("entities", (), _ANYWHERE, super().entities)
        return list(found)

    def try_project(self, entity: str, name: str) -> Project | None:
        # One that is not listed may be there all the same, and be none that our token may read: the server says which.
        found: Project | None = self._listed(name, "projects", entity)
        if found is not None:
            return found
        try:
            found = self._ask(
                "try_project", (entity, name), (entity, None, None),
                lambda: super(RememberingCatalog, self).try_project(entity, name),
            )
        except UnavailableError:
            found = _named(name, self._recall("projects", entity) or [])
            if found is None:
                raise
        return found

    def collections(self, entity: str, project: str, *, type: str | None = None) -> list[Collection]:
        found: list[Collection] = self._ask(
            "collections", (entity, project, type), (entity, project, None),
            lambda: super(RememberingCatalog, self).collections(entity, project, type=type),
        )
        self._learn(found)
        return list(found)

    def try_collection(self, entity: str, project: str, name: str) -> Collection | None:
        found: Collection | None = self._listed(name, "collections", entity, project, None)
        if found is not None:
            return found
        try:
            found = self._ask(
                "try_collection", (entity, project, name), (entity, project, name),
                lambda: super(RememberingCatalog, self).try_collection(entity, project, name),
            )
        except UnavailableError:
            found = self._seen_collection(entity, project, name)
            if found is None:
                raise
        self._learn([] if found is None else [found])
        return found

    def _learn(self, collections: list[Collection]) -> None:
        for collection in collections:
            self._places[collection.id] = (collection.entity, collection.project, collection.name)

    def members(self, collection_id: int) -> list[Member]:
        found: list[Member] = self._ask(
            "members", (collection_id,), self._places.get(collection_id, _ANYWHERE),
            lambda: super(RememberingCatalog, self).members(collection_id),
        )
        return list(found)

    def resolve(self, entity: str, project: str, collection: str, alias: str) -> Member:
        try:
            found: Member = self._ask(
                "resolve", (entity, project, collection, alias), (entity, project, collection),
                lambda: super(RememberingCatalog, self).resolve(entity, project, collection, alias),
            )
        except UnavailableError:
            seen = self._seen_member(entity, project, collection, alias)
            if seen is None:
                raise
            self._tell_stale(self.reach.reason)
            return seen
        return found

    def memberships(self, version_id: int) -> list[Member]:
        found: list[Member] = self._ask(
            "memberships", (version_id,), _ANYWHERE,
            lambda: super(RememberingCatalog, self).memberships(version_id),
        )
        return list(found)

    def member(self, member_id: int) -> Member:
        found: Member = self._ask(
            "member", (member_id,), _ANYWHERE, lambda: super(RememberingCatalog, self).member(member_id)
        )
        return found

    def alias_history(self, collection_id: int) -> list[tuple[datetime, str, int | None]]:
        found: list[tuple[datetime, str, int | None]] = self._ask(
            "alias_history", (collection_id,), self._places.get(collection_id, _ANYWHERE),
            lambda: super(RememberingCatalog, self).alias_history(collection_id),
        )
        return list(found)


def _named(name: str, listed: Iterable[_Named]) -> _Named | None:
    return next((each for each in listed if each.name == name), None)


_TYPES: dict[str, Any] = {
    "projects": list[Project],
    "entities": list[str],
    "try_project": Project | None,
    "collections": list[Collection],
    "try_collection": Collection | None,
    "members": list[Member],
    "resolve": Member,
    "memberships": list[Member],
    "member": Member,
    "alias_history": list[tuple[datetime, str, int | None]],
}
_UNKNOWN = object()


def _touches(changed: EventData, place: Place) -> bool:
    """Whether an answer about `place` may be another one after `changed`: one of them is at, above or below the other."""
    for here, there in zip(place, (changed.entity, changed.project, changed.collection), strict=True):
        if here is None or there is None:
            return True
        if here != there:
            return False
    return True


class _File:
    """Answers on the disk. Losing them costs nothing but the offline names, so nothing waits for the disk.

    As JSON, as they came: MessagePack has no whole numbers of more than 64 bits, and metadata may hold them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._connection = Kept(self._open)
        try:
            self._connection.connect()
        except sqlite3.DatabaseError:
            with suppress(FileNotFoundError):
                path.unlink()
            try:
                self._connection.connect()
            except sqlite3.DatabaseError as error:
                raise StorageError(f"opening {path} failed: {error}") from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            self._path.chmod(0o600)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found > _VERSION:
                raise StateVersionError(
                    f"{self._path} was made by a newer artfs (its version is {found}, this program knows {_VERSION}): "
                    "update artfs"
                )
            if found != _VERSION:
                connection.execute("DROP TABLE IF EXISTS answers")
                connection.execute("CREATE TABLE answers (key BLOB PRIMARY KEY, value BLOB NOT NULL, at INTEGER NOT NULL)")
                connection.execute(f"PRAGMA user_version={_VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def put(self, key: bytes, value: Any) -> None:
        data = msgspec.json.encode(value)
        try:
            with self._connection as connection:
                connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, data, int(time.time())))
                self._count += 1
                if self._count % 10_000 == 0:
                    connection.execute(
                        "DELETE FROM answers WHERE at < (SELECT at FROM answers ORDER BY at DESC LIMIT 1 OFFSET ?)", (_KEPT,)
                    )
        except sqlite3.Error as error:
            self._tell(error)

    def get(self, key: bytes, kind: Any) -> Any:
        """_UNKNOWN: it is not there."""
        try:
            with self._connection as connection:
                row = connection.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._tell(error)
            return _UNKNOWN
        if row is not None:
            with suppress(*UNREADABLE):
                return json_decoder(kind)(row[0])
        return _UNKNOWN

    def _tell(self, error: sqlite3.Error) -> None:
        log.warning("the names that were seen cannot be kept in %s: %s", self._path, error)

    def close(self) -> None:
        self._connection.close()
