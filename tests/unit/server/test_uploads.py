"""Large blobs: parts in any order, cut and gone on with; and everything that a client can lie about."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.catalog.sql.ledger.schema import uploads as uploads_table
from artfs.errors import BadObjectError
from artfs.model.blocklist import encode_block_list, hash_blocks
from artfs.model.digests import digest_bytes
from artfs.model.manifest import build_manifest
from artfs.server import uploads
from artfs.store.bucket import Buffer, SignedPut, open_bucket
from artfs.store.folderbucket import FolderBucket
from artfs.store.verify import hash_bytes
from artfs.testing.blobworld import BlobServer, BlobWorld, file_entry, some_data
from artfs.testing.s3 import CREDENTIALS, S3Server
from artfs.wire.blobroutes import MAX_PART

MIB = 1024 * 1024
DATA = some_data(3 * MIB + 12_345)
DIGEST = digest_bytes(DATA)
P, Q = "e/p", "e/q"
OCTETS = "application/octet-stream"
_numbers = itertools.count()


@pytest.fixture
def server(blobs: BlobWorld) -> Iterator[BlobServer]:
    with blobs.serve(part_size=MIB) as made:
        yield made


@pytest.fixture
def writer(blobs: BlobWorld) -> str:
    return blobs.token_and_secret("e/p writer")[1]


def begin(server: BlobServer, secret: str, digest: str = DIGEST, size: int = len(DATA), place: str = P) -> Any:
    answer = server.ask("POST", f"/v1/projects/{place}/uploads", secret, {"digest": digest, "size": size})
    assert answer.status == 200, answer.body
    return answer.json


def send(server: BlobServer, secret: str, upload: Any, number: int, data: bytes) -> int:
    path = f"/v1/uploads/{upload['id']}/parts/{number}"
    return server.ask("PUT", path, secret, data, content_type=OCTETS).status


def part(number: int) -> bytes:
    return DATA[number * MIB : (number + 1) * MIB]


def told(server: BlobServer, secret: str, upload: Any, *numbers: int) -> Any:
    body = {"parts": [{"number": number} for number in numbers]}
    return server.ask("POST", f"/v1/uploads/{upload['id']}/parts", secret, body).json


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


def read_all(world: BlobWorld) -> bytes:
    found = world.ledger.find(None, [DIGEST])[DIGEST]
    keys = [f"{found.key}.{number}" for number in range(4)]
    return b"".join(bytes(world.bucket.read(key, [(0, world.bucket.try_size(key) or 0)])[0]) for key in keys)


# object stores ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def remote(
    tmp_path: Path, server_template: Path, rclone: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BlobWorld]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    database = Path(shutil.copy(server_template, tmp_path / "remote.db"))
    with BlobWorld(database, open_bucket(rclone.url(f"uploads{next(_numbers)}"))) as made:
        yield made


def put(each: Any, data: bytes) -> int:
    return httpx.put(each["url"], content=data, headers=each.get("headers", {})).status_code


def test_parts_go_to_the_bucket_itself(remote: BlobWorld) -> None:
    secret = remote.token_and_secret("e/p writer")[1]
    with remote.serve(part_size=MIB) as server:
        upload = begin(server, secret)
        assert len(upload["parts"]) == 4
        # rclone does not look at checksums, so there is no use in telling them.
        assert "checks" not in upload
        assert send(server, secret, upload, 0, part(0)) == 400
        urls = {each["number"]: each for each in upload["parts"]}
        for number in (2, 0, 1):
            assert put(urls[number], part(number)) == 200
        assert put(urls[3], part(3) + b"x") == 403  # the length is in the signature
        assert put(urls[3], part(3)) == 200
        assert told(server, secret, upload, 0, 1, 2, 3)["done"] == [0, 1, 2, 3]
        assert server.finish(secret, upload["id"])[-1]["done"]
        # The URLs are good for an hour; but what they lead to is not what counts.
        assert put(urls[1], bytes(MIB)) == 200
        assert read_all(remote) == DATA


@pytest.mark.parametrize("lie", ["wrong bytes", "swapped parts"])
def test_a_bucket_that_checks_nothing(remote: BlobWorld, lie: str) -> None:
    secret = remote.token_and_secret("e/p writer")[1]
    with remote.serve(part_size=MIB) as server:
        upload = begin(server, secret)
        order = [1, 0, 2, 3] if lie == "swapped parts" else [0, 1, 2, 3]
        for each, number in zip(upload["parts"], order, strict=True):
            data = part(number) if number != 2 or lie == "swapped parts" else bytes(MIB)
            assert put(each, data) == 200
        told(server, secret, upload, 0, 1, 2, 3)
        assert server.finish(secret, upload["id"])[-1]["error"]["kind"] == "bad-blob"
        remote.settle()
        assert remote.keys() == []


class _Strict(FolderBucket):
    """A bucket whose URLs take only the bytes that they were signed for, as S3's do. `put_by` stands for a PUT."""

    signs = True  # type: ignore[assignment]

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.urls: dict[str, tuple[str, int, str]] = {}
        self.on_stream: Callable[[str], None] = lambda key: None

    def stream(self, key: str, offset: int, nbytes: int) -> Iterator[Buffer]:
        self.on_stream(key)
        yield from super().stream(key, offset, nbytes)

    def keeps_what_was_put(self) -> bool:
        return True

    def sign_put(self, key: str, size: int, sha256: str, seconds: float) -> SignedPut:
        assert sha256
        url = f"https://bucket.example/{key}?{sha256}"
        self.urls[url] = (key, size, sha256)
        return SignedPut(url, {"x-sum": sha256})

    def put_by(self, url: str, data: bytes) -> bool:
        key, size, sha256 = self.urls[url]
        if (len(data), digest_bytes(data)) != (size, sha256):
            return False
        self.put(key, data)
        return True


@pytest.fixture
def strict(database: Path, tmp_path: Path) -> Iterator[BlobWorld]:
    with BlobWorld(database, _Strict(tmp_path / "strict")) as made:
        yield made


def want(server: BlobServer, secret: str, upload: Any, **sums: str) -> Any:
    body = {"parts": [], "want": [{"number": int(number[1:]), "sha256": sha256} for number, sha256 in sums.items()]}
    return server.ask("POST", f"/v1/uploads/{upload['id']}/parts", secret, body).json


def test_a_bucket_that_checks_needs_no_copy(strict: BlobWorld) -> None:
    secret = strict.token_and_secret("e/p writer")[1]
    bucket = strict.bucket
    assert isinstance(bucket, _Strict)
    with strict.serve(part_size=MIB) as server:
        upload = begin(server, secret)
        assert upload["checks"]
        assert [each["url"] for each in upload["parts"]] == ["", "", "", ""]
        asked = want(server, secret, upload, **{f"n{number}": digest_bytes(part(number)) for number in range(4)})
        for each in asked["parts"]:
            assert not bucket.put_by(each["url"], bytes(each["size"]))
            assert bucket.put_by(each["url"], part(each["number"]))
        before = strict.keys("blobs/")
        told(server, secret, upload, 0, 1, 2, 3)
        assert server.finish(secret, upload["id"])[-1]["done"]
        strict.settle()
        assert strict.keys("blobs/") == before
        assert read_all(strict) == DATA


def test_no_two_urls_for_one_part(strict: BlobWorld) -> None:
    """Whoever could get a second URL, for other bytes, could change what was checked."""
    secret = strict.token_and_secret("e/p writer")[1]
    bucket = strict.bucket
    assert isinstance(bucket, _Strict)
    with strict.serve(part_size=MIB) as server:
        upload = begin(server, secret)
        garbage = want(server, secret, upload, n0=digest_bytes(bytes(MIB)))["parts"][0]["url"]
        assert want(server, secret, upload, n0=digest_bytes(bytes(MIB)))["parts"][0]["url"] == garbage
        # Another sender knows better. The upload begins anew, under other keys.
        again = want(server, secret, upload, n0=digest_bytes(part(0)))
        assert (again.get("done", []), len(again["parts"])) == ([], 4)
        asked = want(server, secret, upload, **{f"n{number}": digest_bytes(part(number)) for number in range(4)})
        for each in asked["parts"]:
            assert bucket.put_by(each["url"], part(each["number"]))
        told(server, secret, upload, 0, 1, 2, 3)
        assert server.finish(secret, upload["id"])[-1]["done"]
        assert bucket.put_by(garbage, bytes(MIB))
        assert read_all(strict) == DATA


def send_all(server: BlobServer, secret: str, bucket: Any) -> Any:
    upload = begin(server, secret)
    asked = want(server, secret, upload, **{f"n{number}": digest_bytes(part(number)) for number in range(4)})
    for each in asked["parts"]:
        assert bucket.put_by(each["url"], part(each["number"]))
    told(server, secret, upload, 0, 1, 2, 3)
    return upload


def test_two_processes_check_one_upload(strict: BlobWorld) -> None:
    """A client that was cut off asks again, and another process of the server answers; the first goes on with its check."""
    secret = strict.token_and_secret("e/p writer")[1]
    bucket = strict.bucket
    assert isinstance(bucket, _Strict)
    both = threading.Barrier(2)

    def meet(key: str) -> None:
        if key.endswith(".3"):
            both.wait(30)

    bucket.on_stream = meet
    with strict.serve(part_size=MIB) as one, strict.serve(part_size=MIB) as other:
        upload = send_all(one, secret, bucket)
        last: list[Any] = []
        asking = [
            threading.Thread(target=lambda at=at: last.append(at.finish(secret, upload["id"])[-1])) for at in (one, other)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(30)
        assert [line.get("done") for line in last] == [True, True]
        strict.settle()
        assert read_all(strict) == DATA


def test_what_begins_anew_while_it_is_checked_does_not_count(strict: BlobWorld) -> None:
    """Somebody who has other bytes of a part takes the objects away from under the check."""
    secret = strict.token_and_secret("e/p writer")[1]
    bucket = strict.bucket
    assert isinstance(bucket, _Strict)
    with strict.serve(part_size=MIB) as server:
        upload = send_all(server, secret, bucket)

        def begin_anew(key: str) -> None:
            if key.endswith(".3"):
                bucket.on_stream = lambda key: None
                want(server, secret, upload, n0=digest_bytes(bytes(MIB)))

        bucket.on_stream = begin_anew
        assert server.finish(secret, upload["id"])[-1]["error"]["kind"] == "not-found"
        strict.settle()
        assert not strict.has(strict.project(), DIGEST)
        send_all(server, secret, bucket)
        assert server.finish(secret, upload["id"])[-1]["done"]
        strict.settle()
        assert read_all(strict) == DATA


class _SlowLedger(SqlBlobLedger):
    """`before_restart`: what others do meanwhile."""

    before_restart: Callable[[], None] = staticmethod(lambda: None)

    def restart_upload(self, *given: Any, **more: Any) -> Any:
        self.before_restart()
        return super().restart_upload(*given, **more)


def test_what_counts_does_not_begin_anew(database: Path, tmp_path: Path) -> None:
    """Somebody who has other bytes of a part, and whose request ends after the check."""
    with BlobWorld(database, _Strict(tmp_path / "strict"), make_ledger=_SlowLedger) as world:
        secret = world.token_and_secret("e/p writer")[1]
        assert isinstance(world.ledger, _SlowLedger)
        with world.serve(part_size=MIB) as server:
            upload = send_all(server, secret, world.bucket)
            last: list[Any] = []
            world.ledger.before_restart = lambda: last.extend(server.finish(secret, upload["id"]))
            answer = want(server, secret, upload, n0=digest_bytes(bytes(MIB)))
            assert last[-1]["done"]
            assert answer["done"] == [0, 1, 2, 3]
            world.settle()
            assert read_all(world) == DATA


def test_the_sum_of_a_single_part_is_known(strict: BlobWorld) -> None:
    secret = strict.token_and_secret("e/p writer")[1]
    bucket = strict.bucket
    assert isinstance(bucket, _Strict)
    data = DATA[: MIB + 1]
    with strict.serve(part_size=2 * MIB) as server:
        upload = begin(server, secret, digest_bytes(data), len(data))
        (each,) = upload["parts"]
        assert each["headers"] == {"x-sum": digest_bytes(data)}
        assert bucket.put_by(each["url"], data)
        told(server, secret, upload, 0)
        assert server.finish(secret, upload["id"])[-1]["done"]


def test_who_trusts_senders_needs_no_copies(
    tmp_path: Path, server_template: Path, rclone: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    database = Path(shutil.copy(server_template, tmp_path / "trusting.db"))
    with BlobWorld(database, open_bucket(rclone.url(f"uploads{next(_numbers)}", copies="no"))) as world:
        secret = world.token_and_secret("e/p writer")[1]
        with world.serve(part_size=MIB) as server:
            upload = begin(server, secret)
            assert "checks" not in upload
            for each in upload["parts"]:
                assert put(each, part(each["number"])) == 200
            before = world.keys("blobs/")
            assert len(before) == 4
            told(server, secret, upload, 0, 1, 2, 3)
            assert server.finish(secret, upload["id"])[-1]["done"]
            world.settle()
            assert world.keys("blobs/") == before
            assert read_all(world) == DATA
            # Wrong bytes do not count there, either.
            wrong = begin(server, secret, digest_bytes(b"other"))
            for each in wrong["parts"]:
                put(each, bytes(each["size"]))
            told(server, secret, wrong, 0, 1, 2, 3)
            assert server.finish(secret, wrong["id"])[-1]["error"]["kind"] == "bad-blob"
            world.settle()
            assert world.keys("blobs/") == before


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
