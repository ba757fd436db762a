"""The calls about blobs over HTTP: rights, bodies, ranges, and the gate before commits and links."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from artfs.catalog.sql.ledger import audit
from artfs.errors import UnavailableError
from artfs.model.digests import digest_bytes
from artfs.model.pages import build_tree
from artfs.server import blobs as calls
from artfs.server.closure import Closure
from artfs.testing.blobworld import BlobServer, BlobWorld, file_entry, frames, some_data, unframed
from artfs.wire.blobroutes import NDJSON
from artfs.wire.frames import MEDIA_TYPE
from artfs.wire.routes import ROUTES, by_name

SMALL = [b"one", b"two", some_data(200_000)]
DIGESTS = [digest_bytes(data) for data in SMALL]
NOBODYS = digest_bytes(b"nobody's")


@pytest.fixture
def server(blobs: BlobWorld) -> Iterator[BlobServer]:
    with blobs.serve() as made:
        yield made


@pytest.fixture
def writer(blobs: BlobWorld) -> str:
    return blobs.token_and_secret("e/p writer")[1]


def read(server: BlobServer, secret: str | None, *digests: str) -> list[tuple[str, bytes]]:
    answer = server.ask("POST", "/v1/blobs/read", secret, {"digests": list(digests)})
    assert answer.status == 200
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert int(answer.headers["content-length"]) == len(answer.body)
    return unframed(answer.body)


# small blobs ----------------------------------------------------------------------------------------------------------------
def test_blobs_are_sent_and_read(server: BlobServer, writer: str) -> None:
    asked = {"digests": [*DIGESTS, NOBODYS]}
    assert server.ask("POST", "/v1/projects/e/p/missing", writer, asked).json == asked
    answer = server.send_frames(writer, "e/p", frames(*SMALL))
    assert (answer.status, answer.json) == (200, {"count": 3, "nbytes": 200_006})
    assert server.ask("POST", "/v1/projects/e/p/missing", writer, asked).json == {"digests": [NOBODYS]}
    assert read(server, writer, DIGESTS[2], NOBODYS, DIGESTS[0]) == [(DIGESTS[2], SMALL[2]), (DIGESTS[0], SMALL[0])]
    assert read(server, writer, NOBODYS) == []


def test_a_body_comes_in_pieces(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    body = frames(*SMALL)
    pieces: Any = [body[at : at + 7001] for at in range(0, len(body), 7001)]
    assert server.send_frames(writer, "e/p", pieces).status == 200
    assert blobs.read(None, *DIGESTS) == dict(zip(DIGESTS, SMALL, strict=True))


def test_more_is_told_in_the_header(server: BlobServer, writer: str) -> None:
    many = [some_data(1024 * 1024, n) for n in range(40)]
    for start in (0, 20):
        assert server.send_frames(writer, "e/p", frames(*many[start : start + 20])).status == 200
    asked = {"digests": [digest_bytes(data) for data in many]}
    answer = server.ask("POST", "/v1/blobs/read", writer, asked)
    assert answer.headers["artfs-more"] == "1"
    assert len(unframed(answer.body)) == 32
    answer = server.ask("POST", "/v1/blobs/read", writer, {"digests": asked["digests"][32:]})
    assert "artfs-more" not in answer.headers


def test_who_may(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    server.send_frames(writer, "e/p", frames(*SMALL))
    reader = blobs.token_and_secret("e/p reader")[1]
    stranger = blobs.token_and_secret("e/q writer")[1]
    maker = blobs.token_and_secret("f/* writer")[1]
    assert len(read(server, reader, *DIGESTS)) == 3
    assert read(server, stranger, *DIGESTS) == []
    for secret, status in ((reader, 403), (stranger, 403), (None, 401)):
        assert server.ask("POST", "/v1/projects/e/p/missing", secret, {"digests": DIGESTS}).status == status
        assert server.send_frames(secret, "e/p", frames(b"new")).status == status  # type: ignore[arg-type]
    # Who may write all projects of an entity makes one by sending something, and by nothing less.
    assert server.ask("POST", "/v1/projects/f/new/missing", maker, {"digests": DIGESTS}).json == {"digests": DIGESTS}
    assert blobs.ledger.project("f", "new") is None
    assert server.send_frames(maker, "f/new", frames(b"first")).status == 200
    assert blobs.ledger.project("f", "new") is not None
    assert server.send_frames(maker, "e/new", frames(b"first")).status == 403


@pytest.mark.parametrize("headers", [
    {"content_type": "application/json"}, {"content_type": ""}, {"content_type": "multipart/form-data"},
])  # fmt: skip
def test_a_web_page_sends_nothing(blobs: BlobWorld, server: BlobServer, writer: str, headers: dict[str, str]) -> None:
    answer = server.ask("POST", "/v1/projects/e/p/blobs", writer, frames(b"x"), **headers)
    assert (answer.status, answer.json["kind"]) == (400, "usage")
    for path in ("/v1/blobs/read", "/v1/trees"):
        assert server.ask("POST", path, writer, b'{"digests":[]}', content_type="text/plain").status == 400
    assert blobs.keys() == []


@pytest.mark.parametrize("body", [
    {"digests": ["x"]}, {"digests": [DIGESTS[0].upper()]}, {"digests": "x"}, {}, {"digests": [], "more": 1},
    {"digests": [NOBODYS] * 10_001},
])  # fmt: skip
def test_requests_that_mean_nothing(server: BlobServer, writer: str, body: Any) -> None:
    for path in ("/v1/blobs/read", "/v1/blobs/locate", "/v1/projects/e/p/missing"):
        answer = server.ask("POST", path, writer, body)
        assert (answer.status, answer.json["kind"]) == (400, "usage")


def test_bad_bodies_are_told(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    wrong = bytes.fromhex(NOBODYS) + (3).to_bytes(8, "big") + b"one"
    for body, kind in ((wrong, "bad-blob"), (wrong[:-1], "usage"), (bytes(33 * 1024 * 1024 + 1), "usage")):
        answer = server.send_frames(writer, "e/p", body)
        assert 400 <= answer.status < 500
        assert answer.json["kind"] == kind
    assert blobs.keys() == []


def test_a_project_that_is_full(
    blobs: BlobWorld, server: BlobServer, writer: str, expect_log: Callable[..., None]
) -> None:
    expect_log("the quota of e/p is used up")
    blobs.ledger.set_quota(blobs.project().id, 5)
    answer = server.send_frames(writer, "e/p", frames(b"123456"))
    assert (answer.status, answer.json["kind"]) == (507, "quota")
    assert "5 bytes" in answer.json["message"]


# objects ------------------------------------------------------------------------------------------------------------------
DATA = some_data(3_500_000)


@pytest.fixture
def place(blobs: BlobWorld, writer: str) -> Iterator[tuple[BlobServer, str]]:
    """A server, and the path of an object with DATA in it."""
    with blobs.serve(part_size=4_000_000) as made:
        assert made.upload(writer, "e/p", DATA)[-1]["done"]
        located = made.ask("POST", "/v1/blobs/locate", writer, {"digests": [digest_bytes(DATA)]}).json
        assert located["blobs"] == [{"digest": digest_bytes(DATA), "size": len(DATA), "objects": [0]}]
        (told,) = located["objects"]
        assert (told["size"], told["seconds"]) == (len(DATA), 3600)
        yield made, told["url"]


@pytest.mark.parametrize(("asked", "start", "end"), [
    ("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=0-", 0, len(DATA)), ("bytes=3499999-", 3_499_999, len(DATA)),
    ("bytes=100-99999999", 100, len(DATA)), ("bytes=-5", len(DATA) - 5, len(DATA)), ("bytes=-99999999", 0, len(DATA)),
    ("bytes=1048570-1048590", 1_048_570, 1_048_591), ("bytes=5-3400000", 5, 3_400_001),
])  # fmt: skip
def test_ranges(place: tuple[BlobServer, str], writer: str, asked: str, start: int, end: int) -> None:
    server, path = place
    answer = server.ask("GET", path, writer, b"", range=asked)
    assert answer.status == 206
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert int(answer.headers["content-length"]) == end - start
    assert answer.body == DATA[start:end]


def test_without_a_range_all_of_it_comes(place: tuple[BlobServer, str], writer: str) -> None:
    server, path = place
    answer = server.ask("GET", path, writer, b"")
    assert (answer.status, answer.headers["accept-ranges"]) == (200, "bytes")
    assert answer.body == DATA


@pytest.mark.parametrize("asked", ["bytes=3500000-", "bytes=9-8", "bytes=-0", "bytes=99999999-999999999"])
def test_ranges_that_are_not_there(place: tuple[BlobServer, str], writer: str, asked: str) -> None:
    server, path = place
    answer = server.ask("GET", path, writer, b"", range=asked)
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(DATA)}")


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=0-1", "x", "bytes=a-b", "bytes=" + "9" * 30 + "-"])
def test_ranges_that_are_none(place: tuple[BlobServer, str], writer: str, asked: str) -> None:
    server, path = place
    assert server.ask("GET", path, writer, b"", range=asked).status == 400


def test_an_objects_path_is_no_key(blobs: BlobWorld, place: tuple[BlobServer, str], writer: str) -> None:
    server, path = place
    other = blobs.token_and_secret("e/q admin")[1]
    # A letter of the key, in the middle of the token.
    forged = f"{path[:60]}{'A' if path[60] != 'A' else 'B'}{path[61:]}"
    for secret, target, status in (
        (writer, path, 200), (other, path, 404), (None, path, 401), (writer, forged, 404), (writer, path[:-9], 404),
    ):  # fmt: skip
        answer = server.ask("GET", target, secret, b"", range="bytes=0-9")
        assert answer.status == (206 if status == 200 else status)
        assert (DATA[:10] in answer.body) == (status == 200)


def test_an_object_that_was_deleted_is_not_found(blobs: BlobWorld, place: tuple[BlobServer, str], writer: str) -> None:
    server, path = place
    blobs.bucket.delete(blobs.keys("blobs/"))
    answer = server.ask("GET", path, writer, b"", range="bytes=0-9")
    assert (answer.status, answer.json["kind"]) == (404, "not-found")


def test_who_sends_slowly_holds_up_nobody(
    blobs: BlobWorld, server: BlobServer, writer: str, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[..., None]
) -> None:
    expect_log("the body did not come")
    blobs.project()
    monkeypatch.setattr(calls, "BODY_SILENCE_S", 4.0)
    begun = threading.Semaphore(0)
    read_body = calls._read_body

    async def reading(request: Any, limit: int) -> bytes:
        begun.release()
        return await read_body(request, limit)

    monkeypatch.setattr(calls, "_read_body", reading)

    def send_slowly() -> None:
        path = "/v1/projects/e/p/blobs"
        server.asgi.request(
            "POST", path, token=writer, body=[], headers=[("content-type", MEDIA_TYPE), ("content-length", str(512 * 1024))]
        )

    slow = [threading.Thread(target=send_slowly) for _ in range(6)]
    for thread in slow:
        thread.start()
    for _ in slow:
        assert begun.acquire(timeout=10)
    began = time.monotonic()
    assert server.send_frames(writer, "e/p", frames(b"quick")).status == 200
    assert time.monotonic() - began < 2
    for thread in slow:
        thread.join(30)


# trees, commits, links ------------------------------------------------------------------------------------------------------
def commit(server: BlobServer, secret: str, root: str, size: int, count: int, project: str = "p") -> Any:
    body = {
        "entity": "e", "project": project, "collection": "c", "type": "dataset", "digest": root, "size": size,
        "file_count": count,
    }  # fmt: skip
    return server.ask("POST", "/v1/commit", secret, body)


def test_a_version_is_sent_and_committed(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    built, everything = blobs.build({f"d{n % 9}/f{n}": b"%d" % n for n in range(100)})
    nbytes = built.totals.size
    absent = commit(server, writer, built.root, nbytes, 100)
    assert (absent.status, absent.json["kind"], absent.json["digests"]) == (409, "blob-missing", [built.root])
    server.send_frames(writer, "e/p", frames(*(data for digest, data in everything.items() if data != b"7")))
    absent = commit(server, writer, built.root, nbytes, 100)
    assert (absent.status, absent.json["digest"]) == (409, digest_bytes(b"7"))
    server.send_frames(writer, "e/p", frames(b"7"))
    assert commit(server, writer, built.root, nbytes + 1, 100).status == 400
    made = commit(server, writer, built.root, nbytes, 100)
    assert (made.status, made.json["created"]) == (200, True)
    assert commit(server, writer, built.root, nbytes, 100).json["created"] is False
    answer = server.ask("POST", "/v1/trees", writer, {"root": built.root})
    assert dict(unframed(answer.body)) == dict(built.objects)
    assert int(answer.headers["content-length"]) == len(answer.body)
    answer = server.ask("POST", "/v1/trees", writer, {"root": built.root, "max_bytes": 1})
    assert answer.headers["artfs-more"] == "1"
    assert [digest for digest, _ in unframed(answer.body)] == [built.root]


def check(server: BlobServer, secret: str, root: str, project: str = "p") -> list[dict[str, Any]]:
    answer = server.ask("POST", f"/v1/projects/e/{project}/check", secret, {"root": root})
    assert (answer.status, answer.headers["content-type"]) == (200, NDJSON)
    return [json.loads(line) for line in answer.body.splitlines()]


def test_a_tree_is_looked_through_before_its_commit(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    built, everything = blobs.build({f"d{n % 9}/f{n}": b"%d" % n for n in range(100)})
    assert check(server, writer, built.root)[-1]["error"]["kind"] == "blob-missing"  # nor is there a project
    server.send_frames(writer, "e/p", frames(*(data for digest, data in everything.items() if data != b"7")))
    assert check(server, writer, built.root)[-1]["error"]["digest"] == digest_bytes(b"7")
    server.send_frames(writer, "e/p", frames(b"7"))
    lines = check(server, writer, built.root)
    assert (lines[0], lines[-1]) == ({"files": 0}, {"files": 100, "done": True})
    assert [line["files"] for line in lines] == sorted(line["files"] for line in lines)
    project = blobs.ledger.project("e", "p")
    assert project is not None
    assert all(each.shape is not None for each in blobs.ledger.hold(project.id, dict(built.objects)).values())
    reader = blobs.token_and_secret("e/p reader")[1]
    assert server.ask("POST", "/v1/projects/e/p/check", reader, {"root": built.root}).status == 403


def test_who_asks_again_and_again_has_a_tree_looked_through_once(
    blobs: BlobWorld, server: BlobServer, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.project()
    monkeypatch.setattr(calls, "CHECKS_WAITING", 3)
    go_on = threading.Event()
    seen: list[str] = []

    def slow(self: Closure, project_id: int, root: str, **more: Any) -> None:
        seen.append(root)
        assert go_on.wait(20)

    monkeypatch.setattr(Closure, "check", slow)
    roots = [digest_bytes(b"%d" % number) for number in range(4)]
    found: list[Any] = []

    def ask(root: str) -> None:
        found.append(server.ask("POST", "/v1/projects/e/p/check", writer, {"root": root}))

    asking = [threading.Thread(target=ask, args=(root,)) for root in [roots[0]] * 10 + roots[1:3]]
    for thread in asking:
        thread.start()
        time.sleep(0.05)
    # Each of them has a thread, which stays when its caller goes away.
    assert sum(thread.name == "artfs-check" for thread in threading.enumerate()) == 3
    refused = server.ask("POST", "/v1/projects/e/p/check", writer, {"root": roots[3]})
    assert (refused.status, refused.headers["retry-after"]) == (429, "5")
    go_on.set()
    for thread in asking:
        thread.join(20)
    assert sorted(seen) == sorted(roots[:3])
    assert [json.loads(each.body.splitlines()[-1]).get("done") for each in found] == [True] * 12
    assert check(server, writer, roots[3])[-1]["done"]


def test_looking_through_a_tree_says_nothing_of_others(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    stranger = blobs.token_and_secret("e/q writer")[1]
    server.send_frames(writer, "e/p", frames(b"secret"))
    answers = []
    for data in (b"secret", b"nobody"):
        tree = build_tree([file_entry("f", data)])
        server.send_frames(stranger, "e/q", frames(tree.pages[0][1]))
        answers.append(json.dumps(check(server, stranger, tree.digest, "q")).replace(digest_bytes(data), ""))
    assert answers[0] == answers[1]


def test_trees_of_others_are_missing(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    tree = build_tree([file_entry("f", b"x")])
    server.send_frames(writer, "e/p", frames(tree.pages[0][1]))
    stranger = blobs.token_and_secret("e/q writer")[1]
    answers = [server.ask("POST", "/v1/trees", stranger, {"root": root}) for root in (tree.digest, NOBODYS)]
    assert [answer.json["kind"] for answer in answers] == ["blob-missing"] * 2
    assert answers[0].status == answers[1].status
    assert answers[0].body.replace(tree.digest.encode(), b"") == answers[1].body.replace(NOBODYS.encode(), b"")


def test_a_lie_in_a_tree_is_no_commit(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    server.send_frames(writer, "e/p", frames(b"four"))
    tree = build_tree([file_entry("f", b"four", size=5)])
    server.send_frames(writer, "e/p", frames(tree.pages[0][1]))
    answer = commit(server, writer, tree.digest, 5, 1)
    assert 400 <= answer.status < 500
    assert (answer.json["kind"], answer.json["digest"]) == ("bad-object", tree.digest)
    assert blobs.catalog.try_collection("e", "p", "c") is None


def test_a_commit_that_names_what_others_have(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    """It is refused as one that names what nobody has."""
    stranger = blobs.token_and_secret("e/q writer")[1]
    server.send_frames(writer, "e/p", frames(b"secret"))
    answers = []
    for data in (b"secret", b"nobody"):
        tree = build_tree([file_entry("f", data)])
        server.send_frames(stranger, "e/q", frames(tree.pages[0][1]))
        answer = commit(server, stranger, tree.digest, 6, 1, "q")
        answers.append((answer.status, answer.body.replace(digest_bytes(data).encode(), b"")))
    assert answers[0] == answers[1]
    assert answers[0][0] == 409


def test_a_part_of_a_version_is_checked_as_well(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    tree = build_tree([file_entry("f", b"x")])
    body = {"entity": "e", "project": "p", "collection": "c", "type": "dataset", "distributed_id": "d", "digest": tree.digest}
    path = by_name(ROUTES)["add_part"].path
    assert server.ask("POST", path, writer, body).json["kind"] == "blob-missing"
    server.send_frames(writer, "e/p", frames(b"x", tree.pages[0][1]))
    assert server.ask("POST", path, writer, body).status in (200, 204)


def test_a_link_opens_a_version_to_others(blobs: BlobWorld, server: BlobServer) -> None:
    secret = blobs.token_and_secret("e/p writer", "e/q writer")[1]
    other = blobs.token_and_secret("e/q reader")[1]
    member = blobs.commit({"f": b"linked", "g": b"too"})
    asked = [digest_bytes(b"linked"), member.version.digest]
    assert read(server, other, *asked) == []
    body = {"entity": "e", "project": "q", "collection": "there"}
    answer = server.ask("POST", f"/v1/versions/{member.version.id}/links", secret, body)
    assert answer.status == 200, answer.body
    assert [digest for digest, _ in read(server, other, *asked)] == asked
    # It made the project, too.
    made = [(row.actor.name, row.project) for row in blobs.names.audit() if row.action == "create_project"]
    assert ("t0", "q") in made


# upkeep -------------------------------------------------------------------------------------------------------------------
def test_usage_of_a_project(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    blobs.commit({"a": b"1000" * 250, "b": b"x"})
    blobs.commit({"a": b"1000" * 250, "b": b"y"})
    server.send_frames(writer, "e/p", frames(b"in no version"))
    found = server.ask("GET", "/v1/projects/e/p/usage", writer, b"").json
    (collection,) = found.pop("collections")
    assert found == {"entity": "e", "project": "p", "blobs": 6, "nbytes": collection["nbytes"] + 13, "quota": None}
    assert (collection["name"], collection["versions"], collection["size"]) == ("c", 2, 2002)
    assert 1002 < collection["nbytes"] < 1500
    assert server.ask("GET", "/v1/projects/e/p/usage?collections=false", writer, b"").json["collections"] == []
    stranger = blobs.token_and_secret("e/q admin")[1]
    assert server.ask("GET", "/v1/projects/e/p/usage", stranger, b"").status == 403
    admin = blobs.token_and_secret(admin=True)[1]
    assert server.ask("GET", "/v1/projects/e/none/usage", admin, b"").status == 404


def test_quotas_are_set_by_administrators_of_the_server(blobs: BlobWorld, server: BlobServer) -> None:
    blobs.project()
    root, admin = blobs.token_and_secret(admin=True)[1], blobs.token_and_secret("e/p admin")[1]
    assert server.ask("PUT", "/v1/projects/e/p/quota", admin, {"nbytes": 5}).status == 403
    assert server.ask("PUT", "/v1/projects/e/p/quota", root, {"nbytes": 5}).status == 204
    assert server.ask("GET", "/v1/projects/e/p/usage", admin, b"").json["quota"] == 5
    assert server.ask("PUT", "/v1/projects/e/p/quota", root, {"nbytes": None}).status == 204
    assert server.ask("PUT", "/v1/projects/e/none/quota", root, {"nbytes": 5}).status == 404
    for wrong in ({"nbytes": -1}, {}, {"nbytes": "5"}):
        assert server.ask("PUT", "/v1/projects/e/p/quota", root, wrong).status == 400
    assert [(row.action, row.detail) for row in blobs.names.audit() if row.action == "set_quota"] == [
        ("set_quota", {"nbytes": None}), ("set_quota", {"nbytes": 5}),
    ]


def test_no_quota_is_set_that_is_not_written_down(
    blobs: BlobWorld, server: BlobServer, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[..., None]
) -> None:
    expect_log("the audit log is full")
    root = blobs.token_and_secret(admin=True)[1]
    project = blobs.project()

    def fail(*given: Any, **more: Any) -> None:
        raise UnavailableError("the audit log is full")

    with monkeypatch.context() as broken:
        broken.setattr(audit, "add", fail)
        assert server.ask("PUT", "/v1/projects/e/p/quota", root, {"nbytes": 5}).status == 503
    assert blobs.ledger.usage(project.id).quota is None


def test_garbage_is_collected_by_a_call(blobs: BlobWorld, server: BlobServer) -> None:
    root, admin = blobs.token_and_secret(admin=True)[1], blobs.token_and_secret("e/p admin")[1]
    blobs.put(blobs.project(), b"garbage")
    blobs.clock.move(30)
    assert server.ask("POST", "/v1/gc", admin, {}).status == 403
    assert server.ask("POST", "/v1/gc", root, {"grace_s": 60}).status == 400
    for asked, removed in (({"dry_run": True}, 1), ({}, 1), ({}, 0)):
        answer = server.ask("POST", "/v1/gc", root, asked)
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.body.splitlines()]
        assert lines[0]["step"] == "beginning"
        assert "marking what versions need" in [line.get("step") for line in lines]
        assert lines[-1]["done"]["removed"] == removed
    assert blobs.ledger.usage(blobs.project().id)[0] == 0


def test_a_collection_that_fails_says_so(
    blobs: BlobWorld, server: BlobServer, expect_log: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("garbage collection: the bucket is away")
    root = blobs.token_and_secret(admin=True)[1]

    def away(prefix: str = "") -> Any:
        raise UnavailableError("the bucket is away")

    monkeypatch.setattr(blobs.bucket, "objects", away)
    answer = server.ask("POST", "/v1/gc", root, {})
    assert json.loads(answer.body.splitlines()[-1])["error"]["kind"] == "unavailable"
    monkeypatch.undo()
    assert "done" in json.loads(server.ask("POST", "/v1/gc", root, {}).body.splitlines()[-1])
