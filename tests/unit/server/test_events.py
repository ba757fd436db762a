"""What is told to whom, from where on, and when it ends."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from artfs.client.events import parse_events
from artfs.errors import CatalogError
from artfs.model.access import COMMAND_LINE, Grant
from artfs.server import auth, events
from artfs.server.app import make_app
from artfs.server.calls import ServerParts
from artfs.testing.asgi import Asgi, Stream
from artfs.testing.catalog_contract.making import new

from .conftest import OPEN, OTHER, SECRET, E, World

Event = tuple[str, int | None, Any]


class Listener:
    def __init__(self, asgi: Asgi, token: str, query: str = "") -> None:
        self._asgi = asgi
        self.stream: Stream = asgi.open(f"/v1/events{query}", token=token)
        assert self.stream.answer.status == 200, self.stream.answer
        self._events = parse_events(iter(self.stream.next, None))  # type: ignore[arg-type]
        self.hello = self.next()
        assert self.hello[0] == "hello"

    def next(self) -> Event:
        kind, number, data = next(self._events)
        return kind, number, json.loads(data)

    def rest(self) -> list[Event]:
        return [(kind, number, json.loads(data)) for kind, number, data in self._events]

    def leave(self) -> None:
        self._asgi.leave(self.stream)


@pytest.fixture
def listen(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(events, "POLL_S", 0.01)
    opened: list[Listener] = []

    def make(token: str = "root", query: str = "") -> Listener:
        opened.append(Listener(world.asgi, world.tokens[token], query))
        return opened[-1]

    yield make
    for listener in opened:
        listener.leave()


def commit(world: World, project: str, content: object, entity: str = E) -> None:
    world.catalog.commit(new(content, "cars", entity=entity, project=project))


def test_a_change_is_told_with_its_place(world: World, listen: Callable[..., Listener]) -> None:
    listener = listen()
    newest = world.ledger.newest_change()
    assert listener.hello[2] == {"newest": newest}
    commit(world, OPEN, "x")
    assert listener.next() == ("message", newest + 1, {"entity": E, "project": OPEN, "collection": "cars"})
    world.catalog.create_project(E, "new")
    kind, number, data = listener.next()
    assert (kind, number, data) == ("message", newest + 2, {"entity": E, "project": None, "collection": None})


def test_headers_keep_proxies_from_collecting(world: World, listen: Callable[..., Listener]) -> None:
    headers = listen().stream.answer.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")


def test_only_what_may_be_read_is_told(world: World, listen: Callable[..., Listener]) -> None:
    world.token("reader", (E, OPEN, "reader"))
    listener = listen("reader")
    commit(world, SECRET, "x")
    commit(world, "private", "x", OTHER)
    world.catalog.create_project(OTHER, "new")
    commit(world, OPEN, "x")
    assert listener.next()[2] == {"entity": E, "project": OPEN, "collection": "cars"}


def test_who_comes_with_a_number_gets_what_was_missed(world: World, listen: Callable[..., Listener]) -> None:
    after = world.ledger.newest_change()
    for number in range(3):
        commit(world, OPEN, ("missed", number))
    listener = listen(query=f"?after={after}")
    assert listener.hello[2] == {"newest": after + 3}
    assert [listener.next()[1] for _ in range(3)] == [after + 1, after + 2, after + 3]
    commit(world, OPEN, "live")
    assert listener.next()[1] == after + 4


def test_many_missed_ones_come_in_pages(
    world: World, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_PAGE", 2)
    after = world.ledger.newest_change()
    for number in range(7):
        commit(world, OPEN, ("missed", number))
    listener = listen(query=f"?after={after}")
    assert [listener.next()[1] for _ in range(7)] == list(range(after + 1, after + 8))


def test_a_number_of_another_past_is_a_reset(world: World, listen: Callable[..., Listener]) -> None:
    newest = world.ledger.newest_change()
    listener = listen(query=f"?after={newest + 1000}")
    assert listener.next() == ("reset", None, {"newest": newest})
    commit(world, OPEN, "x")
    assert listener.next()[1] == newest + 1


def test_a_number_that_is_forgotten_is_a_reset(
    world: World, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.catalog.database.write() as tx:
        tx.conn.exec_driver_sql("DELETE FROM changes WHERE id <= 3")
    listener = listen(query="?after=1")
    newest = world.ledger.newest_change()
    assert listener.next() == ("reset", None, {"newest": newest})


def test_several_listeners_share_one_watcher(world: World, listen: Callable[..., Listener]) -> None:
    listeners = [listen() for _ in range(5)]
    commit(world, OPEN, "x")
    assert len({listener.next()[1] for listener in listeners}) == 1


def test_a_revoked_token_hears_no_more(
    world: World, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "KNOWN_S", 0.0)
    world.token("ann", (E, "*", "reader"))
    listener = listen("ann")
    commit(world, OPEN, "before")
    listener.next()
    world.ledger.revoke_token("ann", by=COMMAND_LINE)
    commit(world, OPEN, "after")
    assert listener.rest() == []


def test_a_role_that_was_taken_counts_at_once(
    world: World, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "KNOWN_S", 0.0)
    world.token("ann", (E, OPEN, "reader"), (E, SECRET, "reader"))
    listener = listen("ann")
    world.ledger.withdraw("ann", E, SECRET, by=COMMAND_LINE)
    world.ledger.grant("ann", Grant(OTHER, "private", "reader"), by=COMMAND_LINE)
    commit(world, SECRET, "x")
    commit(world, "private", "x", OTHER)
    assert listener.next()[2]["project"] == "private"


def test_a_comment_tells_that_the_connection_lives(
    world: World, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.02)
    listener = listen()
    for _ in range(3):
        assert listener.stream.next() == b": \n\n"


def test_listeners_have_a_limit(world: World, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_STREAMS", 1)
    first = listen()
    answer = world.get("/v1/events")
    assert (answer.status, answer.json["kind"]) == (429, "rate-limited")
    first.leave()
    listen()


@pytest.mark.parametrize("error", [CatalogError("away"), RuntimeError("can't start new thread")])
def test_a_database_that_is_away_for_a_while_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[..., None], error: Exception
) -> None:
    expect_log("the changes cannot be read", level=logging.WARNING if isinstance(error, CatalogError) else logging.ERROR, count=1)
    monkeypatch.setattr(events, "POLL_S", 0.01)

    class Flaky:
        broken = threading.Event()
        noticed = threading.Event()

        def change_token(self) -> int:
            if self.broken.is_set():
                self.noticed.set()
                raise error
            return world.catalog.change_token()

        def __getattr__(self, name: str) -> Any:
            return getattr(world.catalog, name)

    flaky = Flaky()
    with Asgi(make_app(ServerParts(flaky, world.ledger))) as asgi:  # type: ignore[arg-type]
        listener = Listener(asgi, world.tokens["root"])
        flaky.broken.set()
        assert flaky.noticed.wait(20)
        commit(world, OPEN, "x")
        flaky.broken.clear()
        assert listener.next()[2]["project"] == OPEN
        listener.leave()


@pytest.mark.parametrize("query", ["?after=-1", "?after=x", "?after=1&after=2", "?before=1", f"?after={2**63}"])
def test_bad_queries_are_refused(world: World, query: str) -> None:
    assert world.get(f"/v1/events{query}").status == 400
