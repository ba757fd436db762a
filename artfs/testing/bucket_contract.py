"""The contract of buckets: every promise of artfs.store.bucket, as tests. A test class for a bucket derives from
BucketContract and gives the fixture `bucket`, which is empty at first.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from artfs.errors import BlobMissingError, StorageError, UsageError
from artfs.model.digests import digest_bytes
from artfs.store.bucket import Bucket, Buffer
from artfs.testing.store_contract import some_bytes

_DATA = some_bytes(5_000_000)


class BucketContract:
    """Tests of a bucket: the fixture `bucket`, to be given."""

    many = 1100
    """Objects for the test of long lists: more than a store lists at once."""

    def test_an_object_is_its_bytes(self, bucket: Bucket) -> None:
        for key, data in (("packs/ab/one", b"hello"), ("empty", b""), ("blobs/large.0", _DATA)):
            bucket.put(key, data)
            assert bucket.try_size(key) == len(data)
            assert bytes(bucket.read(key, [(0, len(data))])[0]) == data
            assert b"".join(map(bytes, bucket.stream(key, 0, len(data)))) == data

    def test_any_buffer_can_be_stored(self, bucket: Bucket) -> None:
        buffers: list[Buffer] = [bytearray(b"hello"), memoryview(b"xhellox")[1:-1]]
        for number, data in enumerate(buffers):
            bucket.put(f"k{number}", data)
            assert bytes(bucket.read(f"k{number}", [(0, 5)])[0]) == b"hello"

    def test_what_is_not_there(self, bucket: Bucket) -> None:
        bucket.put("a/b", b"hello")
        for key in ("none", "a/c"):
            assert bucket.try_size(key) is None
            for ranges in ([(0, 1)], [(0, 0)]):
                with pytest.raises(BlobMissingError):
                    bucket.read(key, ranges)
            with pytest.raises(BlobMissingError):
                list(bucket.stream(key, 0, 1))
            with pytest.raises(BlobMissingError):
                bucket.copy(key, "copy")
        bucket.delete(["none", "a/c"])
        assert bucket.try_size("a/b") == 5

    def test_ranges(self, bucket: Bucket) -> None:
        bucket.put("k", _DATA)
        ranges = [(10, 20), (0, 5), (4_000_000, 1_000_000), (10, 20), (7, 0), (5, 5), (1_000_000, 3), (12, 2)]
        for wanted in (ranges, ranges[:1], []):
            found = bucket.read("k", wanted)
            assert [bytes(data) for data in found] == [_DATA[at : at + nbytes] for at, nbytes in wanted]
        for at, nbytes in ranges:
            assert b"".join(map(bytes, bucket.stream("k", at, nbytes))) == _DATA[at : at + nbytes]

    def test_pieces_of_a_stream_are_bounded(self, bucket: Bucket) -> None:
        data = some_bytes(20_000_000)
        bucket.put("k", data)
        sizes = [len(piece) for piece in bucket.stream("k", 1, len(data) - 2)]
        assert sum(sizes) == len(data) - 2
        assert max(sizes) <= 16 * 1024 * 1024

    @pytest.mark.parametrize(("at", "nbytes"), [(0, 6), (4, 2), (5, 1), (100, 1)])
    def test_an_object_that_is_too_short_is_damaged(self, bucket: Bucket, at: int, nbytes: int) -> None:
        bucket.put("k", b"hello")
        with pytest.raises(StorageError, match="shorter"):
            bucket.read("k", [(at, nbytes)])
        with pytest.raises(StorageError, match="shorter"):
            list(bucket.stream("k", at, nbytes))

    def test_a_writer_makes_an_object_of_pieces(self, bucket: Bucket) -> None:
        piece = bytearray()
        with bucket.writer("k", len(_DATA)) as writer:
            for at in range(0, len(_DATA), 999_999):
                piece[:] = _DATA[at : at + 999_999]
                writer.write(piece)
            assert bucket.try_size("k") is None
            writer.commit()
        assert bytes(bucket.read("k", [(0, len(_DATA))])[0]) == _DATA

    def test_a_writer_that_is_left_leaves_nothing(self, bucket: Bucket) -> None:
        def write(data: bytes, *, commit: bool = False) -> None:
            with bucket.writer("k", 5) as writer:
                writer.write(data)
                if commit:
                    writer.commit()
                raise KeyError

        with pytest.raises(KeyError):
            write(b"hello")
        with pytest.raises(UsageError):
            write(b"hell", commit=True)
        with pytest.raises(UsageError):
            write(b"hello!")
        assert list(bucket.objects()) == []
        assert bucket.try_size("k") is None

    def test_copies(self, bucket: Bucket) -> None:
        for key, data in (("a", b"hello"), ("b", _DATA), ("c", b"")):
            bucket.put(key, data)
            bucket.copy(key, f"copies/{key}")
            bucket.delete([key])
            assert bucket.try_size(key) is None
            assert bytes(bucket.read(f"copies/{key}", [(0, len(data))])[0]) == data

    def test_a_copy_stays_as_it_was(self, bucket: Bucket) -> None:
        bucket.put("a", b"hello")
        bucket.copy("a", "b")
        bucket.put("a", b"other")
        assert bytes(bucket.read("b", [(0, 5)])[0]) == b"hello"

    def test_listing(self, bucket: Bucket) -> None:
        assert list(bucket.objects()) == []
        keys = {"a", "b/c", "b/d.0", "b/d.1", "b/e/f", "bb/g"}
        before = time.time()
        for key in keys:
            bucket.put(key, key.encode())
        found = {each.key: each for each in bucket.objects()}
        assert set(found) == keys
        assert {key: each.size for key, each in found.items()} == {key: len(key) for key in keys}
        # Some stores keep seconds only.
        assert all(before - 2 <= each.modified <= time.time() + 2 for each in found.values())
        assert {each.key for each in bucket.objects("b/")} == {"b/c", "b/d.0", "b/d.1", "b/e/f"}
        assert list(bucket.objects("none/")) == []

    def test_listing_many(self, bucket: Bucket) -> None:
        keys = {f"many/{number:04}" for number in range(self.many)}
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda key: bucket.put(key, b"x"), sorted(keys)))
        assert {each.key for each in bucket.objects("many/")} == keys
        bucket.delete(sorted(keys))
        assert list(bucket.objects()) == []

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a b", "A", "a" * 256, "a\0", "é"])
    def test_keys(self, bucket: Bucket, key: str) -> None:
        with pytest.raises(ValueError, match="not a key"):
            bucket.put(key, b"hello")
        with pytest.raises(ValueError, match="not a key"):
            bucket.delete([key])

    # URLs -------------------------------------------------------------------------------------------------------

    def test_a_url_reads_any_range(self, bucket: Bucket) -> None:
        if not bucket.signs:
            with pytest.raises(UsageError):
                bucket.sign_get(["k"], 60)
            return
        bucket.put("a/k", _DATA)
        bucket.put("other", b"hello")
        (url, other) = bucket.sign_get(["a/k", "other"], 60)
        assert bucket.sign_get([], 60) == []
        assert httpx.get(other).content == b"hello"
        for at, nbytes in ((0, 10), (4_000_000, 1_000_000)):
            answer = httpx.get(url, headers={"Range": f"bytes={at}-{at + nbytes - 1}"})
            assert answer.status_code in (200, 206)
            assert answer.headers["content-range"] == f"bytes {at}-{at + nbytes - 1}/{len(_DATA)}"
            assert answer.content == _DATA[at : at + nbytes]

    def test_a_url_stores_one_object(self, bucket: Bucket) -> None:
        if not bucket.signs:
            with pytest.raises(UsageError):
                bucket.sign_put("k", 5, digest_bytes(b"hello"), 60)
            return
        signed = bucket.sign_put("a/k", 5, digest_bytes(b"hello"), 60)
        assert urlsplit(signed.url).path.endswith("/a/k")
        assert httpx.put(signed.url, content=b"hello", headers=signed.headers).is_success
        assert bytes(bucket.read("a/k", [(0, 5)])[0]) == b"hello"

    def test_whoever_keeps_what_was_put_refuses_other_bytes(self, bucket: Bucket) -> None:
        if not bucket.signs:
            assert not bucket.keeps_what_was_put()
            return
        signed = bucket.sign_put("a/k", 5, digest_bytes(b"right"), 60)
        stored = httpx.put(signed.url, content=b"wrong", headers=signed.headers).is_success
        assert bucket.keeps_what_was_put() != stored
        assert [each.key for each in bucket.objects()] == (["a/k"] if stored else [])
