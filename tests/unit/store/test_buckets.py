"""Buckets: the contract over a folder and two S3 servers, and what each has of its own."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from artfs.errors import BlobMissingError, StorageError, UnavailableError, UsageError
from artfs.model.digests import digest_bytes
from artfs.store.bucket import Bucket, near_ranges, open_bucket
from artfs.store.folderbucket import FolderBucket
from artfs.store.objectbucket import ObjectBucket
from artfs.testing.bucket_contract import BucketContract
from artfs.testing.s3 import CREDENTIALS, S3Server

_numbers = itertools.count()


@pytest.fixture
def opened() -> Iterator[Callable[[str], Bucket]]:
    """`opened(url)`: a bucket that is closed after the test."""
    with ExitStack() as stack:

        def open_one(url: str) -> Bucket:
            bucket = open_bucket(url)
            stack.callback(bucket.close)
            return bucket

        yield open_one


@pytest.fixture
def a_bucket(opened: Callable[[str], Bucket]) -> Callable[..., Bucket]:
    """`a_bucket(server, **options)`: a prefix that nobody else has."""
    return lambda server, **options: opened(server.url(f"test{next(_numbers)}", **options))


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


class TestFolderBucket(BucketContract):
    many = 50

    @pytest.fixture
    def bucket(self, tmp_path: Path) -> Bucket:
        return open_bucket(str(tmp_path / "bucket"))


class TestRclone(BucketContract):
    @pytest.fixture
    def bucket(self, rclone: S3Server, a_bucket: Callable[..., Bucket]) -> Bucket:
        return a_bucket(rclone)


class TestMoto(BucketContract):
    @pytest.fixture
    def bucket(self, moto: S3Server, a_bucket: Callable[..., Bucket]) -> Bucket:
        return a_bucket(moto)


# a folder ---------------------------------------------------------------------------------------------------------------
def test_a_folder_has_plain_files(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path / "new" / "bucket")
    bucket.put("packs/ab/k", b"hello")
    assert bucket.path_of("packs/ab/k").read_bytes() == b"hello"
    assert bucket.path_of("packs/ab/k").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new" / "bucket").stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path / "new" / "bucket" / "tmp") == []
    assert isinstance(open_bucket(f"file://{tmp_path}/with%20space"), FolderBucket)
    assert (tmp_path / "with space").is_dir()


def test_what_a_killed_server_left_is_listed_and_can_be_deleted(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path / "bucket")
    with bucket.writer("k", 5) as writer:
        writer.write(b"hel")
        (left,) = bucket.objects()
        assert (left.key.partition("/")[0], left.size) == ("tmp", 3)
        bucket.delete([left.key])
    assert list(bucket.objects()) == []


def test_folders_are_no_objects(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path / "bucket")
    bucket.put("a/b", b"hello")
    for key in ("a", "a/b/c"):
        assert bucket.try_size(key) is None
        with pytest.raises(BlobMissingError):
            bucket.read(key, [(0, 1)])
    bucket.delete(["a/b/c"])
    assert bucket.try_size("a/b") == 5


def test_errors_of_the_disk_have_their_number(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        FolderBucket(tmp_path / "file")
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)
    bucket = FolderBucket(tmp_path / "bucket")
    bucket.put("a", b"hello")
    with pytest.raises(StorageError) as caught:
        bucket.put("a/b", b"hello")
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)


# S3 ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("change", ["nothing", "length", "no header", "key"])
def test_rclone_holds_a_put_to_its_signature(rclone: S3Server, a_bucket: Callable[..., Bucket], change: str) -> None:
    bucket = a_bucket(rclone)
    signed = bucket.sign_put("a/k", 5, digest_bytes(b"hello"), 60)
    url, headers, content = signed.url, dict(signed.headers), b"hello"
    if change == "length":
        content += b"!"
    elif change == "no header":
        headers.clear()
    elif change == "key":
        url = url.replace("a/k", "a/j")
    answer = httpx.put(url, content=content, headers=headers)
    assert answer.status_code == (200 if change == "nothing" else 403)
    assert len(list(bucket.objects())) == (change == "nothing")


def test_rclone_holds_a_get_to_its_signature(rclone: S3Server, a_bucket: Callable[..., Bucket]) -> None:
    bucket = a_bucket(rclone)
    bucket.put("a/k", b"hello")
    bucket.put("a/j", b"other")
    (url,) = bucket.sign_get(["a/k"], 60)
    assert httpx.get(url).content == b"hello"
    assert httpx.get(url.replace("a/k", "a/j")).status_code == 403
    assert httpx.put(url, content=b"x").status_code == 403


def test_a_bucket_that_clients_cannot_reach_signs_nothing(rclone: S3Server, a_bucket: Callable[..., Bucket]) -> None:
    assert a_bucket(rclone).signs
    assert not a_bucket(rclone, presign="no").signs


def test_clients_may_know_it_by_another_name(rclone: S3Server, a_bucket: Callable[..., Bucket]) -> None:
    public = rclone.endpoint.replace("127.0.0.1", "localhost")
    bucket = a_bucket(rclone, public=public)
    bucket.put("k", b"hello")
    (url,) = bucket.sign_get(["k"], 60)
    assert url.startswith(public)
    assert httpx.get(url).content == b"hello"
    signed = bucket.sign_put("j", 5, digest_bytes(b"hello"), 60)
    assert signed.url.startswith(public)
    assert httpx.put(signed.url, content=b"hello", headers=signed.headers).is_success


def test_names_are_without_secrets(rclone: S3Server, opened: Callable[[str], Bucket]) -> None:
    bucket = opened(rclone.url("some/prefix"))
    assert bucket.name == "s3://artfs-test/some/prefix"
    assert isinstance(bucket, ObjectBucket)


def test_wrong_credentials_are_said_so(
    rclone: S3Server, a_bucket: Callable[..., Bucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    bucket = a_bucket(rclone)
    with pytest.raises(StorageError, match="refuses") as caught:
        bucket.put("k", b"hello")
    assert caught.value.errno == errno.EACCES


def test_a_bucket_that_is_away(opened: Callable[[str], Bucket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artfs.store.objectbucket._RETRIES", {"max_retries": 0})
    bucket = opened("s3://b/p?endpoint=http://127.0.0.1:1")
    for use in (lambda: bucket.put("k", b"hello"), lambda: bucket.try_size("k"), lambda: list(bucket.objects())):
        with pytest.raises(UnavailableError):
            use()
    with pytest.raises(UnavailableError):
        bucket.keeps_what_was_put()


# the other two ------------------------------------------------------------------------------------------------------------
def test_azure_signs(opened: Callable[[str], Bucket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    bucket = opened("az://container/p?account=acc")
    assert bucket.signs
    assert not bucket.keeps_what_was_put()
    (url,) = bucket.sign_get(["k"], 60)
    assert url.startswith("https://acc.blob.core.windows.net/container/p/k?")
    signed = bucket.sign_put("k", 5, digest_bytes(b"hello"), 60)
    assert signed.headers == {"x-ms-blob-type": "BlockBlob"}
    assert "sig=" in signed.url


def test_google_without_a_key_signs_nothing(opened: Callable[[str], Bucket]) -> None:
    bucket = opened("gs://b/p?endpoint=http://127.0.0.1:1")
    assert not bucket.signs
    assert bucket.name == "gs://b/p"


# URLs ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("url", [
    "", "file://", "http://b/p", "s3://", "s3:///p", "s3://b/UPPER", "s3://b/a//b", "s3://b/p?nonsense=1", "s3://b/p?presign=perhaps",
    "s3://b/p?copies=",     "s3://user@b/p", "gs://b/p?public=x", "az://c/p#f", "az://c/p",
])  # fmt: skip
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(UsageError):
        open_bucket(url)


def test_s3_needs_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="no credentials"):
        open_bucket("s3://b/p?region=us-east-1")


def test_near_ranges() -> None:
    def groups(ranges: list[tuple[int, int]], gap: int = 10, most: int = 100) -> list[list[tuple[int, int]]]:
        return list(near_ranges(ranges, gap, most))

    assert groups([]) == []
    assert groups([(20, 5), (0, 10)]) == [[(0, 10), (20, 5)]]
    assert groups([(21, 5), (0, 10)]) == [[(0, 10)], [(21, 5)]]
    assert groups([(0, 60), (60, 40), (100, 1)]) == [[(0, 60), (60, 40)], [(100, 1)]]
    # What lies inside of one that is there costs nothing.
    assert groups([(0, 500), (1, 2), (505, 1)]) == [[(0, 500), (1, 2)], [(505, 1)]]

