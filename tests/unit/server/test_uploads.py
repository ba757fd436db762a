"""Large blobs: parts in any order, cut and gone on with; and everything that a client can lie about."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from artfs.catalog.sql.ledger.schema import uploads as uploads_table
from artfs.errors import BadObjectError
from artfs.model.blocklist import encode_block_list, hash_blocks
from artfs.model.digests import digest_bytes
from artfs.model.manifest import build_manifest
from artfs.server import uploads
from artfs.store.verify import hash_bytes
from artfs.testing.blobworld import BlobServer, BlobWorld, file_entry, some_data
from artfs.testing.uploading import (
    DATA,
    DIGEST,
    MIB,
    OCTETS,
    P,
    Q,
    begin,
    part,
    read_all,
    send,
    told,
)
from artfs.wire.blobroutes import MAX_PART


@pytest.fixture
def server(blobs: BlobWorld) -> Iterator[BlobServer]:
    with blobs.serve(part_size=MIB) as made:
        yield made


@pytest.fixture
def writer(blobs: BlobWorld) -> str:
    return blobs.token_and_secret("e/p writer")[1]


def nothing_is_left(blobs: BlobWorld) -> None:
    blobs.settle()
    assert blobs.keys() == []


# the usual way --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB, len(DATA)])
def test_a_blob_counts_when_it_was_read_back(blobs: BlobWorld, server: BlobServer, writer: str, size: int) -> None:
    data = DATA[:size]
    content, objects = hash_bytes(data)
    lines = server.upload(writer, P, data)
    assert lines[-1] == {"verified": size, "done": True, "blocks": content.blocks}
    assert all("error" not in line for line in lines)
    p = blobs.project()
    found = blobs.ledger.find(None, [content.digest], p.id)[content.digest]
    assert (found.size, found.blocks, found.part_size) == (size, content.blocks, MIB)
    # The block list is the project's, too.
    assert blobs.read(None, content.blocks) == {content.blocks: objects[-1]}
    blobs.settle()
    assert blobs.keys("uploads/") == []
    assert len(blobs.keys("blobs/")) == -(-size // MIB)
    assert begin(server, writer, content.digest, size) == {"id": ""}


def test_an_upload_goes_on_where_it_stopped(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    upload = begin(server, writer)
    assert (upload["part_size"], [each["number"] for each in upload["parts"]], upload.get("done", [])) == (MIB, [0, 1, 2, 3], [])
    assert [each["size"] for each in upload["parts"]] == [MIB, MIB, MIB, 12_345]
    assert "checks" not in upload
    assert send(server, writer, upload, 2, part(2)) == 204
    again = begin(server, writer)
    assert again["id"] == upload["id"]
    assert (again["done"], [each["number"] for each in again["parts"]]) == ([2], [0, 1, 3])
    # Cut off: the connection ends in the middle of a part.
    answer = server.ask("PUT", f"/v1/uploads/{upload['id']}/parts/0", writer, [part(0)[:500_000]], content_type=OCTETS)
    assert answer.status == 400
    assert begin(server, writer)["done"] == [2]
    for number in (3, 0, 1):
        assert send(server, writer, upload, number, part(number)) == 204
    assert told(server, writer, upload, 0, 1) == {"id": upload["id"], "part_size": MIB, "done": [0, 1, 2, 3]}
    assert server.finish(writer, upload["id"])[-1]["done"]


def test_the_check_follows_the_parts(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    upload = begin(server, writer)
    lines: list[Any] = []
    asking = threading.Thread(target=lambda: lines.extend(server.finish(writer, upload["id"])))
    asking.start()
    for number in (1, 0, 3, 2):
        assert send(server, writer, upload, number, part(number)) == 204
    asking.join(30)
    assert lines[-1]["done"]
    verified = [line["verified"] for line in lines]
    assert verified == sorted(verified)


def test_asking_again_after_the_end(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    upload = begin(server, writer)
    for number in range(4):
        send(server, writer, upload, number, part(number))
    first = server.finish(writer, upload["id"])[-1]
    assert server.finish(writer, upload["id"])[-1] == first
    assert told(server, writer, upload, 1)["done"] == [0, 1, 2, 3]


def test_many_ask_at_once(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    upload = begin(server, writer)
    for number in range(4):
        send(server, writer, upload, number, part(number))
    last: list[Any] = []
    asking = [threading.Thread(target=lambda: last.append(server.finish(writer, upload["id"])[-1])) for _ in range(5)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(30)
    assert len(last) == 5
    assert all(line["done"] for line in last)
    blobs.settle()
    assert len(blobs.keys("blobs/")) == 4


def test_two_projects_send_the_same(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    """The second is asked for all of it, too, and told nothing else; its bytes are not kept twice."""
    assert server.upload(writer, P, DATA)[-1]["done"]
    blobs.settle()
    before = blobs.keys("blobs/")
    other = blobs.token_and_secret("e/q writer")[1]
    upload = begin(server, other, place=Q)
    assert [each["number"] for each in upload["parts"]] == [0, 1, 2, 3]
    assert server.upload(other, Q, DATA)[-1]["done"]
    blobs.settle()
    assert blobs.keys("blobs/") == before
    assert blobs.has(blobs.project("q"), DIGEST)


def test_a_block_list_that_is_there_need_not_be_stored(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    """A client may send it among its small blobs, where it is packed with others."""
    p = blobs.project()
    blobs.put(p, b"small", hash_bytes(DATA).block_objects[0])
    packs = blobs.keys("packs/")
    assert server.upload(writer, P, DATA)[-1]["done"]
    assert blobs.keys("packs/") == packs


def test_what_is_swept_of_it_is_sent_again(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    """The blob alone is not enough: its block list must be there as well."""
    server.upload(writer, P, DATA)
    blocks = hash_bytes(DATA).content.blocks
    assert blobs.ledger.remove(blobs.project().id, [blocks], blobs.ledger.now() + 1) == 1
    assert begin(server, writer)["id"]
    assert server.upload(writer, P, DATA)[-1]["done"]
    assert blobs.has(blobs.project(), blocks)


# who may ------------------------------------------------------------------------------------------------------------------
def test_uploads_have_the_rights_of_their_project(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    upload = begin(server, writer)
    reader = blobs.token_and_secret("e/p reader")[1]
    stranger = blobs.token_and_secret("e/q writer")[1]
    for path, method, body in (("parts/0", "PUT", part(0)), ("parts", "POST", {"parts": []}), ("finish", "POST", {})):
        target = f"/v1/uploads/{upload['id']}/{path}"
        kind = OCTETS if method == "PUT" else "application/json"
        assert server.ask(method, target, reader, body, content_type=kind).status == 403
        answer = server.ask(method, target, stranger, body, content_type=kind)
        unknown = server.ask(method, target.replace(upload["id"], "0" * 32), stranger, body, content_type=kind)
        assert (answer.status, answer.body) == (unknown.status, unknown.body)
        assert answer.status == 404
        assert server.ask(method, target, None, body, content_type=kind).status == 401
    assert server.ask("POST", f"/v1/projects/{P}/uploads", reader, {"digest": DIGEST, "size": len(DATA)}).status == 403
    assert server.ask("POST", f"/v1/projects/{P}/uploads", stranger, {"digest": DIGEST, "size": len(DATA)}).status == 403


@pytest.mark.parametrize("body", [
    {"digest": DIGEST, "size": MIB}, {"digest": DIGEST, "size": -1}, {"digest": "x", "size": 2 * MIB}, {"digest": DIGEST},
    {"digest": DIGEST, "size": 2 * MIB, "parts": 1}, [], None,
])  # fmt: skip
def test_requests_that_mean_nothing(server: BlobServer, writer: str, body: Any) -> None:
    assert server.ask("POST", f"/v1/projects/{P}/uploads", writer, body).status == 400


def test_quotas(
    blobs: BlobWorld, server: BlobServer, writer: str, expect_log: Callable[..., None]
) -> None:
    expect_log("the quota of e/p is used up")
    p = blobs.project()
    blobs.ledger.set_quota(p.id, len(DATA) - 1)
    answer = server.ask("POST", f"/v1/projects/{P}/uploads", writer, {"digest": DIGEST, "size": len(DATA)})
    assert (answer.status, answer.json["kind"]) == (507, "quota")
    blobs.ledger.set_quota(p.id, len(DATA) + 1000)
    upload = begin(server, writer)
    for number in range(4):
        send(server, writer, upload, number, part(number))
    # It became too much in the meantime.
    blobs.put(p, b"x" * 1000)
    assert server.finish(writer, upload["id"])[-1]["error"]["kind"] == "quota"
    assert not blobs.has(p, DIGEST)
    blobs.settle()
    assert blobs.keys("blobs/") == []
    # What was sent is still there when there is room again.
    blobs.ledger.set_quota(p.id, None)
    assert server.finish(writer, upload["id"])[-1]["done"]


# lies ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lie", ["one bit", "swapped parts", "a part twice", "zeros at the end"])
def test_wrong_bytes_never_count(blobs: BlobWorld, server: BlobServer, writer: str, lie: str) -> None:
    sent = [part(number) for number in range(4)]
    match lie:
        case "one bit":
            sent[2] = sent[2][:-1] + bytes([sent[2][-1] ^ 1])
        case "swapped parts":
            sent[0], sent[1] = sent[1], sent[0]
        case "a part twice":
            sent[1] = sent[2]
        case _:
            sent[3] = sent[3][:-10] + bytes(10)
    upload = begin(server, writer)
    for number, data in enumerate(sent):
        assert send(server, writer, upload, number, data) == 204
    last = server.finish(writer, upload["id"])[-1]
    assert (last["error"]["kind"], last["error"]["digest"]) == ("bad-blob", DIGEST)
    assert not blobs.has(blobs.project(), DIGEST)
    # The upload is gone, and all of it.
    assert send(server, writer, upload, 0, sent[0]) == 404
    nothing_is_left(blobs)
    assert server.upload(writer, P, DATA)[-1]["done"]


@pytest.mark.parametrize("change", [-1, 1, -MIB, MIB])
def test_parts_have_their_size(blobs: BlobWorld, server: BlobServer, writer: str, change: int) -> None:
    upload = begin(server, writer)
    wrong = (part(1) + part(2))[: MIB + change]
    for headers in ({}, {"content_length": str(len(wrong))}):
        path = f"/v1/uploads/{upload['id']}/parts/1"
        assert server.ask("PUT", path, writer, [wrong[:1000], wrong[1000:]], content_type=OCTETS, **headers).status == 400
    assert begin(server, writer).get("done", []) == []
    assert blobs.keys() == []


@pytest.mark.parametrize("number", [4, 2**31, 2**62])
def test_parts_that_there_are_not(server: BlobServer, writer: str, number: int) -> None:
    upload = begin(server, writer)
    assert send(server, writer, upload, number, b"x") in (400, 404)
    assert server.ask("POST", f"/v1/uploads/{upload['id']}/parts", writer, {"parts": [{"number": number}]}).status == 400


def test_a_part_that_was_told_but_not_sent(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    upload = begin(server, writer)
    for number in (0, 1, 3):
        send(server, writer, upload, number, part(number))
    assert told(server, writer, upload, 2)["done"] == [0, 1, 2, 3]
    last = server.finish(writer, upload["id"])[-1]
    assert last["error"]["kind"] == "unavailable"
    assert "part 2" in last["error"]["message"]
    blobs.settle()
    assert blobs.keys("blobs/") == []
    # It goes on with that part.
    again = begin(server, writer)
    assert (again["id"], again["done"]) == (upload["id"], [0, 1, 3])
    send(server, writer, upload, 2, part(2))
    assert server.finish(writer, upload["id"])[-1]["done"]


def test_an_object_that_was_cut(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    upload = begin(server, writer)
    for number in range(4):
        send(server, writer, upload, number, part(number))
    row = blobs.ledger.upload(upload["id"])
    assert row is not None
    blobs.bucket.put(row.part_key(1), part(1)[:-1])
    last = server.finish(writer, upload["id"])[-1]
    assert "part 1" in last["error"]["message"]
    assert begin(server, writer)["done"] == [0, 2, 3]


def test_somebody_elses_digest_gives_nothing(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    """Who claims to have what others have must still send it; wrong bytes show no more than they do for what nobody has."""
    other = blobs.token_and_secret("e/q writer")[1]
    assert server.upload(other, Q, DATA)[-1]["done"]
    wrong = some_data(len(DATA), "wrong")
    answers = []
    for digest in (DIGEST, digest_bytes(b"nobody has this")):
        upload = begin(server, writer, digest)
        answers.append({**upload, "id": "", "parts": len(upload["parts"])})
        last = server.upload(writer, P, wrong, digest)[-1]
        answers.append({**last, "error": {name: text.replace(digest, "") for name, text in last["error"].items()}})
    assert answers[:2] == answers[2:]
    assert not blobs.has(blobs.project("p"), DIGEST)
    assert blobs.has(blobs.project("q"), DIGEST)


def test_another_size_of_what_is_there(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    server.upload(writer, P, DATA)
    answer = server.ask("POST", f"/v1/projects/{P}/uploads", writer, {"digest": DIGEST, "size": len(DATA) + 1})
    assert answer.status == 400


def test_block_lists_of_clients_do_not_matter(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    """Somebody stores a block list of his own making, well-formed and wrong, and names it in a tree."""
    p = blobs.project()
    wrong = encode_block_list(len(DATA), hash_blocks(some_data(len(DATA), "wrong")))[0]
    blobs.put(p, wrong)
    right = server.upload(writer, P, DATA)[-1]["blocks"]
    assert right == hash_bytes(DATA).content.blocks != digest_bytes(wrong)
    for blocks, fits in ((digest_bytes(wrong), False), (digest_bytes(b"none"), False), (right, True)):
        built = build_manifest({"f": file_entry("f", DATA, blocks=blocks)})
        blobs.send(p, dict(built.objects))
        if fits:
            blobs.closure.check(p.id, built.root)
        else:
            with pytest.raises(BadObjectError, match="is not the block list of blob") as caught:
                blobs.closure.check(p.id, built.root)
            assert caught.value.digest == built.root


def test_what_was_checked_cannot_be_changed_afterwards(blobs: BlobWorld, server: BlobServer, writer: str) -> None:
    upload = begin(server, writer)
    row = blobs.ledger.upload(upload["id"])
    assert row is not None
    for number in range(4):
        send(server, writer, upload, number, part(number))
    assert server.finish(writer, upload["id"])[-1]["done"]
    assert send(server, writer, upload, 0, bytes(MIB)) == 400
    # Somebody whose part came late, or who has a URL of the bucket.
    blobs.settle()
    for number in range(4):
        blobs.bucket.put(row.part_key(number), bytes(row.part_nbytes(number)))
    assert read_all(blobs) == DATA


def test_a_check_waits_for_parts_over_a_slow_link() -> None:
    """A client sends four parts at once, and none of them is whole for as long as all four take together."""
    slow = 32 * 1024  # bytes in a second
    assert 4 * MAX_PART / slow < uploads.PATIENCE_S


def test_an_upload_that_is_waited_for_is_not_given_up(
    blobs: BlobWorld, server: BlobServer, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By garbage collection, while its check waits for a part for longer than the grace period."""
    monkeypatch.setattr(uploads, "TOUCH_S", 0.05)
    upload = begin(server, writer)
    lines: list[Any] = []
    asking = threading.Thread(target=lambda: lines.extend(server.finish(writer, upload["id"])))
    asking.start()
    blobs.clock.move(hours=48)
    until = time.monotonic() + 10
    while not touched_lately(blobs, upload):
        assert time.monotonic() < until
        time.sleep(0.05)
    blobs.collect()
    for number in range(4):
        assert send(server, writer, upload, number, part(number)) == 204
    asking.join(30)
    assert lines[-1]["done"]


def touched_lately(blobs: BlobWorld, upload: Any) -> bool:
    query = select(uploads_table.c.touched_at).where(uploads_table.c.id == upload["id"])
    with blobs.catalog.database.ask() as conn:
        return bool(conn.execute(query).scalar_one() > blobs.ledger.now() - 3600 * 1_000_000)
