"""The thread that listens: it connects again, and misses nothing."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.client.catalog import RemoteCatalog
from artfs.client.events import MAX_EVENT, parse_events
from artfs.client.http import Http
from artfs.errors import UnavailableError
from artfs.testing.scripted import Reply, ScriptedServer
from artfs.wire.bodies import EventData

HELLO = b'event: hello\ndata: {"newest": 5}\n\n'
PLACE = b'data: {"entity": "e", "project": "p", "collection": "c"}\n\n'
WHERE = EventData("e", "p", "c")


def stream(*events: bytes, cut: bool = True, hold: bool = False) -> Reply:
    """These events, and then the connection is cut; or it ends in order; or (`hold`) nothing more comes."""
    body = b"".join(events) + (b"x" if cut else b"")
    return Reply(200, body, {"Content-Type": "text/event-stream"}, cut=1 if cut else 0, hold=hold)


class Listening:
    def __init__(self, *replies: Reply) -> None:
        self.server = ScriptedServer(*replies)
        self.catalog = RemoteCatalog(Http(self.server.url, "artfs_secret", timeout_s=5))
        self.told: queue.Queue[EventData | None] = queue.Queue()
        self.thread = self.catalog.listen(self.told.put)

    def next(self) -> EventData | None:
        return self.told.get(timeout=20)


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Listening]]:
    made: list[Listening] = []

    def make(*replies: Reply) -> Listening:
        made.append(Listening(*replies, Reply(silent=True)))
        return made[-1]

    yield make
    for one in made:
        one.catalog.close()
        one.server.close()


def test_the_first_hello_means_that_anything_may_have_changed(listen: Callable[..., Listening]) -> None:
    one = listen(stream(HELLO, b"id: 6\n" + PLACE))
    assert one.next() is None
    assert one.next() == WHERE
    assert one.server.seen[0].target == "/v1/events"


def test_it_connects_again_and_asks_for_what_it_missed(listen: Callable[..., Listening]) -> None:
    again = b'event: hello\ndata: {"newest": 9}\n\n'
    one = listen(stream(HELLO, b"id: 6\n" + PLACE), stream(again, b"id: 8\n" + PLACE, b"id: 9\n" + PLACE))
    # Until what was missed is through, nothing that is known counts as new.
    assert [one.next() for _ in range(5)] == [None, WHERE, None, WHERE, WHERE]
    while len(one.server.seen) < 3:
        time.sleep(0.01)
    assert [seen.target for seen in one.server.seen] == ["/v1/events", "/v1/events?after=6", "/v1/events?after=9"]


def test_an_end_in_order_is_followed_at_once(listen: Callable[..., Listening]) -> None:
    one = listen(stream(HELLO, cut=False), stream(HELLO, b"id: 6\n" + PLACE))
    assert [one.next(), one.next()] == [None, WHERE]
    assert one.server.seen[1].target == "/v1/events?after=5"


def test_a_reset_means_that_anything_may_have_changed(listen: Callable[..., Listening]) -> None:
    reset = b'event: reset\ndata: {"newest": 2}\n\n'
    one = listen(stream(HELLO), stream(HELLO, reset, b"id: 3\n" + PLACE))
    assert [one.next() for _ in range(3)] == [None, None, WHERE]
    # Numbers begin anew from there.
    assert one.catalog._token == 3


def test_events_feed_the_token_of_changes(listen: Callable[..., Listening]) -> None:
    one = listen(stream(HELLO, b"id: 6\n" + PLACE, hold=True))
    assert [one.next(), one.next()] == [None, WHERE]
    assert one.catalog.change_token() == 6
    assert len(one.server.seen) == 1


@pytest.mark.parametrize(
    "bad", [Reply(503, b"away"), Reply(hang_up=True), Reply.of({"kind": "error", "message": "m"}, 500), stream(b"data: {\n\n")]
)
def test_it_tries_until_it_is_connected(listen: Callable[..., Listening], bad: Reply) -> None:
    one = listen(bad, bad, stream(HELLO))
    assert one.next() is None


def test_garbage_is_no_event(listen: Callable[..., Listening]) -> None:
    one = listen(stream(HELLO, b"id: 6\ndata: [1]\n\n"), stream(HELLO, b"id: 7\n" + PLACE))
    assert [one.next(), one.next()] == [None, WHERE]
    # What could not be understood was not taken for known.
    assert one.server.seen[1].target == "/v1/events?after=5"


def test_unknown_kinds_of_events_are_passed_over(listen: Callable[..., Listening]) -> None:
    one = listen(stream(HELLO, b'event: of-tomorrow\nid: 6\ndata: "x"\n\n', b"id: 7\n" + PLACE))
    assert [one.next(), one.next()] == [None, WHERE]


def test_it_ends_while_it_waits_for_an_event(listen: Callable[..., Listening]) -> None:
    one = listen(stream(HELLO, hold=True))
    assert one.next() is None
    one.catalog.close()
    assert not one.thread._thread.is_alive()


SAID = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1)
EVENTS = st.lists(st.tuples(st.sampled_from(["message", "hello"]), st.none() | st.integers(0, 99), SAID))


@given(events=EVENTS, sizes=st.lists(st.integers(1, 20), min_size=1), data=st.data())
def test_a_stream_is_read_wherever_it_is_cut(events: list[Any], sizes: list[int], data: st.DataObject) -> None:
    text = b": a comment\n\n"
    for kind, number, said in events:
        text += b"" if kind == "message" else b"event: %s\n" % kind.encode()
        text += b"" if number is None else b"id: %d\r\n" % number
        text += b"data: " + said.encode() + b"\n\n: \n\n"
    pieces = []
    while text:
        size = data.draw(st.sampled_from(sizes))
        pieces.append(text[:size])
        text = text[size:]
    assert list(parse_events(iter(pieces))) == [(kind, number, said.encode()) for kind, number, said in events]


def test_a_line_without_an_end_is_given_up() -> None:
    with pytest.raises(UnavailableError, match="too long"):
        list(parse_events(iter([b"data: x" * 1000] * (MAX_EVENT // 1000))))
