"""References to S3 as rclone speaks it, which is a server that artfs's authors did not write."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artfs.errors import (
    InvalidArgumentError,
    ReferenceChangedError,
    ReferenceMissingError,
)
from artfs.references.base import MAX_OBJECTS, Examined, Found, Source, ignore_bytes
from artfs.references.objects import S3Source
from artfs.references.trust import Trust
from artfs.settings import Settings

RCLONE = Path(sys.executable).with_name("rclone")
NAMES = ["plain", "a#b", "100%.txt", "what?", "a b", "p%20q", "sub/deep/er"]


def examine(source: Source, uri: str, checksum: bool = True, max_objects: int = MAX_OBJECTS) -> Examined:
    return source.examine(uri, checksum=checksum, max_objects=max_objects)


def fetched(source: Source, found: Found, target: Path) -> bytes:
    with target.open("w+b") as stream:
        source.fetch(found.entry(b"x"), stream.fileno(), ignore_bytes)
        return target.read_bytes()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(endpoint, folder of the bucket `b`) of rclone's S3 server."""
    root = tmp_path_factory.mktemp("s3")
    (root / "b").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [RCLONE, "serve", "s3", "--addr", address, "--config", "/dev/null", "--vfs-cache-mode", "off", "--dir-cache-time",
               "0s", "--poll-interval", "0", root]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://{address}/b") as answer:
                    answer.read()
                break
            except urllib.error.URLError:
                time.sleep(0.05)
        yield f"http://{address}", root / "b"
    finally:
        server.kill()
        server.communicate()


@pytest.fixture
def s3(bucket: tuple[str, Path], settings: Settings, trust: Trust) -> S3Source:
    return S3Source(trust, replace(settings, s3_endpoint=bucket[0]))


@pytest.fixture
def folder(bucket: tuple[str, Path], request: pytest.FixtureRequest) -> Path:
    """A prefix of this test's own in the bucket."""
    made = bucket[1] / request.node.name.partition("[")[0]
    made.mkdir()
    for name in NAMES:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    return made


def test_objects_of_any_name(s3: S3Source, folder: Path, tmp_path: Path) -> None:
    for name in NAMES:
        examined = examine(s3, f"s3://b/{folder.name}/{name}")
        (found,) = examined.objects
        assert examined.single
        assert (found.path, found.uri) == (name.rpartition("/")[2], f"s3://b/{folder.name}/{name}")
        assert (found.size, found.checksum) == (len(name), hashlib.md5(name.encode()).hexdigest())
        assert fetched(s3, found, tmp_path / "copy") == name.encode()


def test_a_prefix_is_all_below_it(s3: S3Source, folder: Path, tmp_path: Path) -> None:
    beside = folder.with_name(folder.name + "2")
    beside.mkdir()
    (beside / "other").write_text("not below")
    (folder / "empty").touch()
    for end in ("", "/"):
        examined = examine(s3, f"s3://b/{folder.name}{end}")
        assert not examined.single
        assert [found.path for found in examined.objects] == sorted([*NAMES, "empty"])
    for found in examined.objects:
        assert fetched(s3, found, tmp_path / "copy") == (folder / found.path).read_bytes()


def test_a_limit_is_an_error_when_it_is_passed(s3: S3Source, folder: Path) -> None:
    assert len(examine(s3, f"s3://b/{folder.name}", max_objects=len(NAMES)).objects) == len(NAMES)
    with pytest.raises(InvalidArgumentError, match=f"more than {len(NAMES) - 1} objects"):
        examine(s3, f"s3://b/{folder.name}", max_objects=len(NAMES) - 1)


@pytest.mark.parametrize("uri", ["s3://b/none", "s3://b/none/", "s3://none/x"])
def test_what_is_not_there(s3: S3Source, uri: str) -> None:
    with pytest.raises(ReferenceMissingError, match=r"none|no such"):
        examine(s3, uri)


def test_without_checksum_nothing_is_asked(trust: Trust, settings: Settings) -> None:
    s3 = S3Source(trust, replace(settings, s3_endpoint="http://127.0.0.1:1"))
    assert examine(s3, "s3://b/d/k", checksum=False).objects == [Found("k", "s3://b/d/k")]
    assert examine(s3, "s3://b/d/", checksum=False).objects == [Found("d", "s3://b/d/")]
    assert examine(s3, "s3://b", checksum=False).objects == [Found("b", "s3://b")]


def test_a_reference_without_checksum_can_be_fetched(s3: S3Source, folder: Path, tmp_path: Path) -> None:
    (found,) = examine(s3, f"s3://b/{folder.name}/plain", checksum=False).objects
    assert fetched(s3, found, tmp_path / "copy") == b"plain"


def test_what_changed_says_what(s3: S3Source, folder: Path, tmp_path: Path) -> None:
    (found,) = examine(s3, f"s3://b/{folder.name}/plain").objects
    s3.check(found.entry(b"x"))
    (folder / "plain").write_text("PLAIN")
    with pytest.raises(ReferenceChangedError, match=r"plain changed: its ETag is \w+, and was \w+"):
        fetched(s3, found, tmp_path / "copy")
    with pytest.raises(ReferenceChangedError):
        s3.check(found.entry(b"x"))
    (folder / "plain").unlink()
    with pytest.raises(ReferenceMissingError, match="plain is gone"):
        fetched(s3, found, tmp_path / "copy")
    with pytest.raises(ReferenceMissingError):
        s3.check(found.entry(b"x"))
