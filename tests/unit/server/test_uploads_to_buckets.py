"""Large blobs whose parts go to the bucket itself: presigned, checked by it or read back, and by several at once."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.errors import StorageError
from artfs.model.digests import digest_bytes
from artfs.store.bucket import Buffer, SignedPut, open_bucket
from artfs.store.folderbucket import FolderBucket
from artfs.testing.blobworld import BlobServer, BlobWorld
from artfs.testing.fetching import WAIT_S
from artfs.testing.s3 import CREDENTIALS, S3Server
from artfs.testing.uploading import (
    DATA,
    DIGEST,
    MIB,
    begin,
    part,
    put,
    read_all,
    send,
    told,
    want,
)


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


class _Watched(FolderBucket):
    """Tells of what is done to it. Whoever puts something can change it afterwards, so each part is copied."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.on_copy: Callable[[int], None] = lambda number: None
        self.on_stream: Callable[[int], None] = lambda number: None

    def copy(self, source: str, target: str) -> None:
        self.on_copy(int(source.rpartition(".")[2]))
        super().copy(source, target)

    def stream(self, key: str, offset: int, nbytes: int) -> Iterator[Buffer]:
        if key.startswith("blobs/"):
            self.on_stream(int(key.rpartition(".")[2]))
        yield from super().stream(key, offset, nbytes)


@pytest.fixture
def watched(database: Path, tmp_path: Path) -> Iterator[tuple[BlobWorld, _Watched]]:
    bucket = _Watched(tmp_path / "watched")
    with BlobWorld(database, bucket) as made:
        yield made, bucket


def _send_all(server: BlobServer, secret: str) -> str:
    upload = begin(server, secret)
    for number in range(4):
        assert send(server, secret, upload, number, part(number)) == 204
    return str(upload["id"])


def test_a_part_is_copied_while_the_one_before_is_read(watched: tuple[BlobWorld, _Watched]) -> None:
    world, bucket = watched
    secret = world.token_and_secret("e/p writer")[1]
    copied = [threading.Event() for _ in range(4)]
    bucket.on_copy = lambda number: copied[number].set()
    waited: list[bool] = []
    bucket.on_stream = lambda number: waited.append(number == 3 or copied[number + 1].wait(WAIT_S))
    with world.serve(part_size=MIB) as server:
        assert server.finish(secret, _send_all(server, secret))[-1]["done"]
    assert waited == [True] * 4
    world.settle()
    assert not world.keys("uploads/")
    assert read_all(world) == DATA


def test_a_copy_that_is_under_way_when_a_check_fails_goes_too(watched: tuple[BlobWorld, _Watched]) -> None:
    world, bucket = watched
    secret = world.token_and_secret("e/p writer")[1]
    copying, failed = threading.Event(), threading.Event()

    def copy(number: int) -> None:
        if number == 1:
            copying.set()
            assert failed.wait(WAIT_S)

    def stream(number: int) -> None:
        assert copying.wait(WAIT_S)
        threading.Timer(0.1, failed.set).start()  # when the check has ended already
        raise StorageError("the disk says no")

    bucket.on_copy, bucket.on_stream = copy, stream
    with world.serve(part_size=MIB) as server:
        error = server.finish(secret, _send_all(server, secret))[-1]["error"]
    assert "part 0 of blob" in error["message"]
    world.settle()
    assert not world.keys("blobs/")


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
        # The objects are deleted beside it: the last part may be gone before it is read, or the upload after that.
        assert server.finish(secret, upload["id"])[-1]["error"]["kind"] in ("unavailable", "not-found")
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
    with BlobWorld(database, open_bucket(rclone.url("trusting", copies="no"))) as world:
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
