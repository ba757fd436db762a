"""What one request costs, says and leaves behind, whatever it holds."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.errors import CatalogError, UnavailableError
from artfs.server import dispatch
from artfs.server.app import AppOptions, make_app
from artfs.server.calls import Call, Endpoint, ServerParts
from artfs.server.dispatch import IN_DOUBT, HttpOptions
from artfs.server.peers import parse_networks
from artfs.testing.asgi import Asgi
from artfs.testing.catalog_contract.making import digest
from artfs.wire.backoff import AGAIN, NOT_BEGUN
from artfs.wire.routes import ROUTES, Place, Route

from .conftest import OPEN, E, World, new_body

COMMIT = "/v1/commit"


def test_a_change_tells_the_number_of_the_newest_change(world: World) -> None:
    answer = world.ask("PUT", f"/v1/projects/{E}/new")
    assert int(answer.headers["artfs-change"]) == world.ledger.newest_change()
    assert "artfs-change" not in world.get("/v1/entities").headers
    answer = world.ask("DELETE", f"/v1/projects/{E}/new")
    assert (answer.status, answer.body) == (204, b"")
    assert int(answer.headers["artfs-change"]) == world.ledger.newest_change()


ONCE = {route.name: route for route in ROUTES if route.once}
CHANGES: dict[str, dict[str, Any]] = {
    "update_collection": {"description": "new"},
    "protect_aliases": {"add": ["best"], "remove": []},
    "set_default_ttl": {"ttl": "P3D"},
    "set_default_entity_ttl": {"ttl": "P3D"},
    "commit": new_body(metadata={"a": 1.5}),
    "add_part": {
        "entity": E, "project": OPEN, "collection": "cars", "type": "dataset", "distributed_id": "d", "digest": digest("part")
    },
    "set_aliases": {"add": ["new"], "remove": []},
    "update_version": {"description": "new", "add_tags": ["t"]},
    "link": {"entity": E, "project": OPEN, "collection": "best", "aliases": []},
    "create_run": {},
    "update_run": {"summary": {"a": 1}},
}


@pytest.mark.parametrize("name", ONCE)
def test_a_change_that_is_asked_for_again_is_made_once(world: World, name: str) -> None:
    route, ids = ONCE[name], world.ids
    where = {
        "entity": E, "project": OPEN, "collection_id": ids[f"{OPEN}/collection"], "member_id": ids[f"{OPEN}/member"],
        "version_id": ids[f"{OPEN}/version"], "run_id": ids[f"{OPEN}/run"],
    }

    def ask(call: str, more: bytes = b"") -> Any:
        body, headers = json.dumps(CHANGES[name]).encode() + more, [("artfs-call", call)]
        return world.asgi.request(route.method, route.url(where), token=world.tokens["root"], body=body, headers=headers)

    first = ask("one")
    assert first.status in (200, 204), first.body
    newest = world.ledger.newest_change()
    again = ask("one")
    assert (again.status, again.body) == (first.status, first.body)
    assert world.ledger.newest_change() == newest
    other = ask("one", b" ")
    assert (other.status, other.json["kind"]) == (400, "usage")


@pytest.mark.parametrize("call", ["", "a b", "x" * 65, "é"])
def test_an_id_of_a_call_has_a_form(world: World, call: str) -> None:
    headers = [("artfs-call", call)]
    answer = world.asgi.request("POST", COMMIT, token=world.tokens["root"], body=json.dumps(new_body()).encode(), headers=headers)
    assert (answer.status, answer.json["kind"]) == (400, "usage")
    assert len(world.catalog.members(world.ids[f"{OPEN}/collection"])) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'{"entity": 1}', b'{"entity": "\\ud800"}', b"[" * 100_000, b"1" * 10_000,
        json.dumps(new_body(digest=7)).encode(), json.dumps(new_body(size="1")).encode(),
        json.dumps(new_body(ttl="P1X")).encode(),
        json.dumps(new_body(metadata=[1])).encode(), json.dumps({**new_body(), "entity": None}).encode(),
    ],
)
def test_a_bad_body_is_the_callers_mistake(world: World, body: bytes) -> None:
    answer = world.asgi.request("POST", COMMIT, token=world.tokens["root"], body=body)
    assert answer.status == 400
    assert answer.json["kind"] in ("usage", "invalid-name")
    assert len(answer.body) < 1000


def test_metadata_nested_deeply_is_refused(world: World) -> None:
    body = b'{"a":' * 500 + b"1" + b"}" * 500
    whole = json.dumps(new_body(metadata={})).encode().replace(b'"metadata": {}', b'"metadata": ' + body)
    answer = world.asgi.request("POST", COMMIT, token=world.tokens["root"], body=whole)
    assert (answer.status, answer.json["kind"]) == (400, "invalid-metadata")


def test_a_body_comes_in_pieces(world: World) -> None:
    whole = json.dumps(new_body()).encode()
    pieces = [whole[:10], b"", whole[10:]]
    assert world.asgi.request("POST", COMMIT, token=world.tokens["root"], body=pieces).status == 200


def test_a_body_has_a_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = world.tokens["root"]
    told = world.asgi.request("POST", COMMIT, token=token, body=b"{}", headers=[("content-length", str(2**40))])
    assert (told.status, told.headers["connection"]) == (413, "close")
    untold = world.asgi.request("POST", COMMIT, token=token, body=[b"x" * 2**20] * 17)
    assert (untold.status, untold.json["kind"]) == (413, "usage")


def test_a_body_that_does_not_come_is_waited_for_only_so_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BODY_SILENCE_S", 0.05)
    answer = world.asgi.request("POST", COMMIT, token=world.tokens["root"], body=[b"{", ])
    assert answer.status == 400
    answer = world.asgi.request("POST", COMMIT, token=world.tokens["root"], body=[])
    assert answer.status == 408


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_is_json(world: World, kind: str) -> None:
    answer = world.asgi.request(
        "POST", COMMIT, token=world.tokens["root"], body=json.dumps(new_body()).encode(), headers=[("content-type", kind)]
    )
    assert answer.status == 415
    assert world.catalog.resolve(E, OPEN, "cars", "latest").version.digest == digest(0)


def test_another_method_is_told_which_there_are(world: World) -> None:
    answer = world.ask("POST", f"/v1/projects/{E}/{OPEN}")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, PUT")
    assert world.get("/v1/nothing").status == 404
    assert world.get("/").status == 404


def test_errors_are_the_catalogs_own(world: World) -> None:
    answer = world.get(f"/v1/projects/{E}/{OPEN}/collections/cars/resolve?alias=prod")
    assert answer.json == {"kind": "not-found", "message": f"{OPEN}/cars has no alias 'prod'; it has best, latest; v0"}
    answer = world.ask("POST", COMMIT, "root", new_body(expect_latest=7))
    assert (answer.status, answer.json["kind"]) == (409, "latest-moved")
    answer = world.get(f"/v1/projects/{E}/{OPEN}/collections/cars/resolve?alias=%ED%B3%BF")
    assert answer.status == 404


def test_the_access_log_has_a_line_for_each_request(world: World) -> None:
    world.token("ann", (E, OPEN, "writer"))
    answer = world.ask("POST", COMMIT, "ann", new_body())
    line = world.lines[-1]
    assert line["id"] == answer.headers["x-request-id"]
    assert (line["method"], line["route"], line["place"], line["caller"]) == ("POST", "commit", f"{E}/{OPEN}", "ann")
    assert (line["status"], line["address"]) == (200, "127.0.0.1")
    assert line["received"] == len(json.dumps(new_body()).encode())
    assert line["sent"] == len(answer.body)
    assert "error" not in line
    world.get("/v1/members/77", "ann")
    assert (world.lines[-1]["error"], world.lines[-1]["status"]) == ("not-found", 404)


def test_no_secret_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.asgi.request("GET", "/v1/me?token=HUSH", token="HUSH")
    world.asgi.request("GET", "/v1/HUSH", token=world.tokens["root"])
    world.get(f"/v1/projects/{E}/{OPEN}/collections/cars/resolve?alias=HUSH")
    world.get("/v1/me")
    for text in (world.log.getvalue(), caplog.text):
        assert "HUSH" not in text
        assert world.tokens["root"] not in text


def test_a_request_id_is_believed_from_our_proxies_only(world: World) -> None:
    given = [("x-request-id", "abc-1"), ("x-forwarded-for", "198.51.100.7")]
    assert world.asgi.request("GET", "/v1/me", headers=given).headers["x-request-id"] != "abc-1"
    assert world.lines[-1]["address"] == "127.0.0.1"
    parts = ServerParts(world.catalog, world.ledger)
    options = AppOptions(http=HttpOptions(proxies=parse_networks(["127.0.0.1"])))
    with Asgi(make_app(parts, options)) as asgi:
        assert asgi.request("GET", "/v1/me", headers=given).headers["x-request-id"] == "abc-1"
        bad = [("x-request-id", "a b\n")]
        assert asgi.request("GET", "/v1/me", headers=bad).headers["x-request-id"].isalnum()


# endpoints that go wrong -------------------------------------------------------------------------------------------
def odd(run: Callable[[Call], Any], **more: Any) -> Endpoint:
    return Endpoint(Route("odd", "POST", "/v1/odd", "", "token", Place.NONE, result=dict[str, Any], **more), run=run)


def ask_odd(world: World, run: Callable[[Call], Any]) -> Any:
    with Asgi(make_app(ServerParts(world.catalog, world.ledger, [odd(run)]))) as asgi:
        return asgi.request("POST", "/v1/odd", token=world.tokens["root"])


def test_a_defect_is_a_500_that_says_nothing_of_the_inside(world: World, expect_log: Callable[..., None]) -> None:
    expect_log("a defect of the server", level=logging.ERROR)

    def fail(call: Call) -> Any:
        raise RuntimeError("the password is HUSH")

    answer = ask_odd(world, fail)
    assert (answer.status, answer.json["kind"]) == (500, "error")
    assert answer.headers["x-request-id"] in answer.json["message"]
    assert "HUSH" not in answer.body.decode()


@pytest.mark.parametrize("error", [CatalogError("locked"), UnavailableError("away")])
def test_a_database_that_is_away_is_a_503_to_try_again(
    world: World, expect_log: Callable[..., None], error: Exception
) -> None:
    expect_log("request .* (locked|away)")

    def fail(call: Call) -> Any:
        raise error

    answer = ask_odd(world, fail)
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0


def test_a_call_that_may_have_been_carried_out_is_no_503(world: World, expect_log: Callable[..., None]) -> None:
    """That would have a client make a call twice that must not be."""
    expect_log("request .* lost while committing")
    assert IN_DOUBT in AGAIN - NOT_BEGUN

    def fail(call: Call) -> Any:
        error = UnavailableError("lost while committing")
        error.may_be_done = True
        raise error

    answer = ask_odd(world, fail)
    assert (answer.status, answer.json["kind"]) == (IN_DOUBT, "unavailable")


def test_what_is_done_is_done_though_the_database_goes_then(world: World, expect_log: Callable[..., None]) -> None:
    expect_log("the number of the newest change cannot be read: away")

    class Ledger(SqlLedger):
        def newest_change(self) -> int:
            raise UnavailableError("away")

    before = len(world.catalog.runs(E, OPEN))
    with Asgi(make_app(ServerParts(world.catalog, Ledger(world.catalog.database)))) as asgi:
        answer = asgi.request("POST", f"/v1/projects/{E}/{OPEN}/runs", token=world.tokens["root"], json_body={})
    assert (answer.status, "artfs-change" in answer.headers) == (200, False)
    assert len(world.catalog.runs(E, OPEN)) == before + 1


def test_what_is_answered_must_be_json(world: World, expect_log: Callable[..., None]) -> None:
    expect_log("a defect of the server", level=logging.ERROR)
    assert ask_odd(world, lambda call: {"x": object()}).status == 500


def test_calls_run_beside_each_other(world: World) -> None:
    both = threading.Barrier(2, timeout=20)

    def meet(call: Call) -> Any:
        both.wait()
        return {}

    with Asgi(make_app(ServerParts(world.catalog, world.ledger, [odd(meet)]))) as asgi:
        answers: list[int] = []

        def ask() -> None:
            answers.append(asgi.request("POST", "/v1/odd", token=world.tokens["root"]).status)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [200, 200]


# without tokens ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 200),
        ([("host", "127.0.0.1:8790")], 200),
        ([("host", "[::1]:8790")], 200),
        ([("host", "evil.example")], 403),
        ([("host", "localhost.evil.example:8790")], 403),
        ([("host", "127.0.0.1:8790"), ("origin", "http://127.0.0.1:8790")], 200),
        ([("host", "127.0.0.1:8790"), ("origin", "https://evil.example")], 403),
        ([("host", "127.0.0.1:8790"), ("origin", "null")], 403),
    ],
)
def test_a_server_without_tokens_answers_no_web_page(
    world: World, headers: list[tuple[str, str]], status: int
) -> None:
    app = make_app(ServerParts(world.catalog, world.ledger), AppOptions(http=HttpOptions(open_to_all=True)))
    with Asgi(app) as asgi:
        given = headers if any(name == "host" for name, _ in headers) else [("host", "localhost"), *headers]
        answer = asgi.request("GET", "/v1/entities", headers=given)
        assert answer.status == status
        if status == 200:
            assert asgi.request("PUT", f"/v1/projects/{E}/new", headers=given).status == 200
            actor = asgi.request("GET", "/v1/audit?limit=1", headers=given).json[0]["actor"]
            assert actor == "anybody"


# health ------------------------------------------------------------------------------------------------------------
def test_health_and_readiness_need_no_token(world: World) -> None:
    assert world.asgi.request("GET", "/healthz").json == {"status": "ok"}
    assert world.asgi.request("GET", "/readyz").json == {"status": "ok", "database": "ok"}


def test_a_part_that_does_not_answer_makes_it_unready(world: World, expect_log: Callable[..., None]) -> None:
    expect_log("/readyz: the bucket does not answer: HUSH")

    def fail() -> None:
        raise UnavailableError("HUSH")

    checks = {"database": lambda: None, "bucket": fail}
    with Asgi(make_app(ServerParts(world.catalog, world.ledger, checks=checks))) as asgi:
        answer = asgi.request("GET", "/readyz")
        assert answer.status == 503
        assert answer.json == {"status": "not ready", "database": "ok", "bucket": "does not answer"}
        assert asgi.request("GET", "/healthz").status == 200


def test_a_part_that_hangs_makes_it_unready(
    world: World, expect_log: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("/readyz: the bucket does not answer: too slow")
    monkeypatch.setattr(dispatch.Health, "CHECK_S", 0.05)
    hanging = threading.Event()
    checks = {"bucket": lambda: (hanging.wait(30), None)[1]}
    with Asgi(make_app(ServerParts(world.catalog, world.ledger, checks=checks))) as asgi:
        assert asgi.request("GET", "/readyz").status == 503
        hanging.set()
