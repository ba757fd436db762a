"""Calls over a network that does what it likes."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artfs.client.catalog import RemoteCatalog
from artfs.client.http import Http
from artfs.errors import (
    AliasProtectedError,
    ArtfsError,
    CatalogError,
    DraftBusyError,
    ForbiddenError,
    InvalidMetadataError,
    InvalidNameError,
    NotFoundError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
    UsageError,
)
from artfs.model.records import HistoryRow
from artfs.testing.catalog_contract.making import new
from artfs.testing.scripted import Reply, ScriptedServer
from artfs.wire.routes import CALL_ID, ROUTES, SERVER_ROUTES, by_name

ENTITIES = Reply.of(["a", "b"])
CREATE_TOKEN = by_name(SERVER_ROUTES)["create_token"]
ERROR = {"kind": "conflict", "message": "no"}


class Client:
    """A catalog over a scripted server, whose waits are short."""

    def __init__(self, *replies: Reply, timeout_s: float = 20.0) -> None:
        self.server = ScriptedServer(*replies)
        self.http = Http(self.server.url, "artfs_secret", timeout_s=timeout_s)
        self.catalog = RemoteCatalog(self.http)

    @property
    def tries(self) -> int:
        return len(self.server.seen)


@pytest.fixture
def client() -> Iterator[Any]:
    made: list[Client] = []

    def make(*replies: Reply, **more: Any) -> Client:
        made.append(Client(*replies, **more))
        return made[-1]

    yield make
    for one in made:
        one.catalog.close()
        one.server.close()


def test_a_call_says_who_we_are(client: Any) -> None:
    one = client(ENTITIES)
    assert one.catalog.entities() == ["a", "b"]
    (seen,) = one.server.seen
    assert (seen.method, seen.target) == ("GET", "/v1/entities")
    assert seen.headers["authorization"] == "Bearer artfs_secret"


@pytest.mark.parametrize(
    "bad",
    [
        Reply(hang_up=True), Reply(200, b'["a"', cut=2), Reply(502, b"<html>bad gateway"), Reply(503, b""), Reply(500, b"x"),
        Reply(504), Reply(408), Reply(429, b"slow down"), Reply.of({"kind": "unavailable", "message": "m"}, 503, retry_after="0"),
        Reply.of({"kind": "error", "message": "m"}, 500),
    ],
)
def test_what_may_go_better_is_tried_again(client: Any, bad: Reply) -> None:
    one = client(bad, bad, ENTITIES)
    assert one.catalog.entities() == ["a", "b"]
    assert one.tries == 3


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (Reply.of({"kind": "unauthorized", "message": "no token"}, 401), UnauthorizedError, "http://127.0.0.1.*no token"),
        (Reply.of({"kind": "forbidden", "message": "m"}, 403), ForbiddenError, "m"),
        (Reply.of({"kind": "alias-protected", "message": "m"}, 409), AliasProtectedError, "m"),
        (Reply.of({"kind": "of tomorrow", "message": "m"}, 409), ArtfsError, "m"),
        (Reply(404, b"<html>\n  no page here"), UnavailableError, "answers 404: <html>"),
        (Reply(418, b""), UnavailableError, "answers 418"),
        (Reply(307, b"", {"Location": "https://other.example/"}), UnavailableError, "elsewhere .https://other.example/."),
        (Reply(200, b"<html>welcome", {"Content-Type": "text/html"}), UnavailableError, "text/html; does this network want a"),
    ],
)
def test_what_will_not_go_better_is_not_tried_again(client: Any, reply: Reply, error: type[Exception], words: str) -> None:
    one = client(reply)
    with pytest.raises(error, match=words) as caught:
        one.catalog.entities()
    assert type(caught.value) is error
    assert one.tries == 1


def test_an_answer_that_makes_no_sense_is_asked_for_once_more(client: Any) -> None:
    strange = Reply.of({"a": 1})
    assert client(strange, ENTITIES).catalog.entities() == ["a", "b"]
    one = client(strange)
    with pytest.raises(UnavailableError, match="is it an artfs server"):
        one.catalog.entities()
    assert one.tries == 2


def test_fields_of_errors_come_along(client: Any) -> None:
    one = client(Reply.of({"kind": "draft-busy", "message": "m", "paths": ["a"]}, 409))
    with pytest.raises(DraftBusyError) as caught:
        one.catalog.entities()
    assert caught.value.paths == ("a",)


def test_the_time_limit_is_for_all_tries_together(client: Any) -> None:
    one = client(Reply(503, b"away"), timeout_s=0.5)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="answers 503: away"):
        one.catalog.entities()
    assert time.monotonic() - began < 10
    assert one.tries > 1


def test_a_wait_that_is_too_long_is_not_begun(client: Any) -> None:
    one = client(Reply.of({"kind": "rate-limited", "message": "m", "retry_after_s": 3600.0}, 429, retry_after="3600"))
    with pytest.raises(RateLimitedError) as caught:
        one.catalog.entities()
    assert caught.value.retry_after_s == 3600
    assert one.tries == 1


def test_a_silent_server_is_asked_again_and_given_up(client: Any) -> None:
    one = client(Reply(silent=True), ENTITIES, timeout_s=4)
    assert one.catalog.entities() == ["a", "b"]
    one.server.replies = [Reply(silent=True)]
    one.http.timeout_s = 0.3
    with pytest.raises(UnavailableError, match="says nothing for too long"):
        one.catalog.entities()


def test_an_answer_in_drops_is_given_up(client: Any) -> None:
    # Each piece comes in time, and the whole never does.
    one = client(ENTITIES, timeout_s=0.6)
    one.server.replies = [Reply(200, b"[" + b" " * 200, ENTITIES.headers, drop_s=0.02)]
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="has not come to the end of its answer"):
        one.catalog.entities()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("status", [200, 404, 503])
def test_an_answer_that_is_too_long_is_not_kept(client: Any, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artfs.client.answer.ANSWER_NBYTES", 1 << 20)
    one = client(Reply(status, b" " * ((1 << 20) + 1), ENTITIES.headers), timeout_s=2.0)
    with pytest.raises(UnavailableError, match="more than 1 MiB"):
        one.catalog.entities()


def test_a_packed_answer_is_not_unpacked(client: Any) -> None:
    # A quarter of a megabyte of it may be 256 in memory.
    packed = gzip.compress(ENTITIES.body)
    one = client(Reply(200, packed, {**ENTITIES.headers, "Content-Encoding": "gzip"}), timeout_s=0.5)
    with pytest.raises(UnavailableError, match="gzip"):
        one.catalog.entities()
    assert one.server.seen[0].headers["accept-encoding"] == "identity"


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    catalog = RemoteCatalog(Http(f"http://127.0.0.1:{port}", "", timeout_s=0.3))
    with pytest.raises(UnavailableError, match=f"the server http://127.0.0.1:{port} does not answer"):
        catalog.entities()
    catalog.close()


def test_a_call_that_must_not_be_made_twice_is_not(client: Any) -> None:
    for bad in (Reply(hang_up=True), Reply(500, b"x"), Reply(504, b"x")):
        one = client(bad)
        with pytest.raises(UnavailableError):
            one.http.exchange(CREATE_TOKEN, content=b"{}")
        assert one.tries == 1


def test_it_is_made_again_when_it_was_not_begun(client: Any) -> None:
    one = client(Reply.of({"kind": "unavailable", "message": "m"}, 503, retry_after="0"), ENTITIES)
    one.http.exchange(CREATE_TOKEN, content=b"{}")
    assert one.tries == 2


class LateEvent(threading.Event):
    """Whose waits take longer than was meant, as on a busy machine."""

    def wait(self, timeout: float | None = None) -> bool:
        time.sleep((timeout or 0) + 1.0)
        return False


def test_a_wait_that_takes_too_long_leaves_a_moment_for_the_try_after_it(client: Any) -> None:
    one = client(Reply(hang_up=True), Reply(hang_up=True), timeout_s=1.0)
    with one.http.ending_with(LateEvent()), pytest.raises(UnavailableError):
        one.catalog.entities()
    assert one.tries == 2


def test_all_tries_of_a_change_have_one_id(client: Any) -> None:
    run = {
        "id": "r", "entity": "e", "project": "p", "name": "r", "job_type": None, "config": {}, "state": "running",
        "history_steps": 0, "created_at": "2026-11-01T00:00:00Z", "finished_at": None,
    }
    # The second answer is whole, but no JSON, which has the call made once more.
    one = client(Reply(hang_up=True), Reply(200, b"{", ENTITIES.headers), Reply.of(run), Reply.of(run), ENTITIES)
    for _ in range(2):
        assert one.catalog.create_run("e", "p").id == "r"
    ids = [seen.headers["artfs-call"] for seen in one.server.seen]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert all(CALL_ID.fullmatch(each) for each in ids)
    one.catalog.entities()
    assert "artfs-call" not in one.server.seen[-1].headers


def test_what_is_gone_after_a_lost_answer_was_deleted(client: Any) -> None:
    gone = Reply.of({"kind": "not-found", "message": "m"}, 404)
    one = client(Reply(hang_up=True), gone)
    one.catalog.delete_project("e", "p")
    assert one.tries == 2
    one = client(gone)
    with pytest.raises(NotFoundError):
        one.catalog.delete_project("e", "p")
    one = client(Reply.of({"kind": "unavailable", "message": "m"}, 503, retry_after="0"), gone)
    with pytest.raises(NotFoundError):
        one.catalog.delete_project("e", "p")


def test_names_that_nothing_can_have_are_not_asked_for(client: Any) -> None:
    one = client(ENTITIES)
    for name in ("a/b", "", "..", "a?b", "\udcff", "a\nb"):
        assert one.catalog.projects(name) == []
        assert one.catalog.try_project(name, "p") is None
        assert one.catalog.try_project("e", name) is None
        assert one.catalog.try_collection("e", "p", name) is None
        with pytest.raises(NotFoundError):
            one.catalog.resolve("e", "p", name, "latest")
        with pytest.raises(NotFoundError):
            one.catalog.runs("e", name)
        with pytest.raises(InvalidNameError):
            one.catalog.create_project("e", name)
        with pytest.raises(InvalidNameError):
            one.catalog.create_collection("e", "p", name)
        with pytest.raises(InvalidNameError):
            one.catalog.link(1, "e", name, "c")
    for name in ("", "..", "\udcff"):
        with pytest.raises(NotFoundError):
            one.catalog.run(name)
    assert one.tries == 0


def test_what_json_cannot_hold_is_not_sent(client: Any) -> None:
    one = client(ENTITIES)
    for error, act in (
        (UsageError, lambda: one.catalog.commit(new(1, description="\udcff"))),
        (InvalidMetadataError, lambda: one.catalog.commit(new(1, metadata={"a": float("inf")}))),
        (TypeError, lambda: one.catalog.commit(new(1, aliases="best"))),
        (TypeError, lambda: one.catalog.set_aliases(1, add="best")),
        (TypeError, lambda: one.catalog.update_version(1, ttl=3600)),
        (InvalidMetadataError, lambda: one.catalog.create_run("e", "p", config={"a": float("nan")})),
        (InvalidMetadataError, lambda: one.catalog.add_history("r", [HistoryRow(0, None, {"a": object()})])),
    ):
        with pytest.raises(error):
            act()
    assert one.tries == 0


def test_texts_are_sent_as_they_are(client: Any) -> None:
    one = client(Reply.of({"kind": "not-found", "message": "m"}, 404))
    with pytest.raises(NotFoundError):
        one.catalog.resolve("team é", "p p", "c", "a&b=\udcff#")
    assert one.server.seen[0].target == (
        "/v1/projects/team%20%C3%A9/p%20p/collections/c/resolve?alias=a%26b%3D%ED%B3%BF%23"
    )


def test_after_the_end_nothing_is_asked(client: Any) -> None:
    one = client(ENTITIES)
    one.catalog.close()
    one.catalog.close()
    with pytest.raises(CatalogError, match="closed by this program"):
        one.catalog.entities()


def test_the_end_wakes_up_who_waits_for_another_try(client: Any) -> None:
    asked = threading.Event()
    one = client(Reply.of({"kind": "unavailable", "message": "m"}, 503, retry_after="15"))
    one.server.replies[0].then = asked.set
    failures: list[ArtfsError] = []

    def call() -> None:
        try:
            one.catalog.entities()
        except ArtfsError as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert asked.wait(10)
    one.catalog.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(failures) == 1


def test_contact_is_told(client: Any) -> None:
    told: list[tuple[bool, str]] = []
    one = client(Reply(hang_up=True), ENTITIES)
    one.http.on_contact = lambda reached, what: told.append((reached, what))
    one.catalog.entities()
    assert [reached for reached, _ in told] == [False, True]
    assert told[0][1]


def test_giving_up_is_told() -> None:
    """Not when somebody wanted an answer sooner than the settings say, and not for what the server itself says."""
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with RemoteCatalog(Http(f"http://127.0.0.1:{port}", "", timeout_s=0.3)) as catalog:
        catalog.http.on_give_up = lambda: told.append("gave up")
        with catalog.http.within(0.1), pytest.raises(UnavailableError):
            catalog.entities()
        assert told == []
        with pytest.raises(UnavailableError):
            catalog.entities()
        assert told == ["gave up"]


def test_a_long_limit_is_for_slow_answers_only(client: Any) -> None:
    """A call that may take ten minutes does not look for its server for ten minutes."""
    one = client(*[Reply(hang_up=True)] * 30, ENTITIES, timeout_s=0.3)
    with pytest.raises(UnavailableError):
        one.http.call(by_name(ROUTES)["entities"], timeout_s=600.0)
    assert 1 < one.tries < 10


def test_the_token_of_changes_goes_up_only(client: Any) -> None:
    one = client(
        Reply.of({"newest": 5}), Reply(204, b"", {"artfs-change": "9"}), Reply(204, b"",
        {"artfs-change": "7"}), Reply.of({"newest": 10}),
    )
    assert one.catalog.change_token() == 5
    one.catalog.delete_project("e", "p")
    assert one.catalog._token == 9
    one.catalog.delete_project("e", "p")
    assert one.catalog._token == 9
    assert one.catalog.change_token() == 10


def test_a_bad_ca_bundle_or_proxy_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for bundle in (tmp_path / "ca.pem", tmp_path / "absent.pem"):
        with pytest.raises(UsageError, match="CA bundle"):
            Http("https://127.0.0.1", "", ca_bundle=bundle)
    with pytest.raises(UsageError, match="proxy"):
        Http("https://127.0.0.1", "", proxy="nonsense://x")


def test_calls_go_through_the_proxy_that_is_set(client: Any) -> None:
    with ScriptedServer(ENTITIES) as proxy:
        catalog = RemoteCatalog(Http("http://artfs.invalid", "t", proxy=proxy.url))
        assert catalog.entities() == ["a", "b"]
        assert proxy.seen[0].target == "http://artfs.invalid/v1/entities"
        catalog.close()


def test_a_server_on_this_machine_needs_no_proxy_of_the_environment(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    monkeypatch.setenv("ALL_PROXY", "http://proxy.invalid:1")
    assert client(ENTITIES).catalog.entities() == ["a", "b"]
    with ScriptedServer(ENTITIES) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        catalog = RemoteCatalog(Http("http://artfs.invalid", "t"))
        assert catalog.entities() == ["a", "b"]
        catalog.close()
