"""References to files of this machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from artfs.errors import (
    InvalidArgumentError,
    ReferenceChangedError,
    ReferenceMissingError,
    ReferenceRefusedError,
    ReferenceUnsupportedError,
)
from artfs.model.entry import RefEntry
from artfs.references.base import MAX_OBJECTS, Examined, ignore_bytes
from artfs.references.file import FileSource
from artfs.references.trust import Trust

NAMES = ["plain", "a#b", "100%.txt", "what?", "a b", "p%20q", "na\u00efve", os.fsdecode(b"raw\xff"), "x;y&z=1"]


@pytest.fixture
def source(trust: Trust, tmp_path: Path) -> FileSource:
    trust.known.add(f"file://{tmp_path}")
    return FileSource(trust, 2)


def examine(source: FileSource, uri: str, checksum: bool = True, max_objects: int = MAX_OBJECTS) -> Examined:
    return source.examine(uri, checksum=checksum, max_objects=max_objects)


def fetched(source: FileSource, ref: RefEntry, target: Path) -> bytes:
    with target.open("w+b") as stream:
        source.fetch(ref, stream.fileno(), ignore_bytes)
        return target.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name(source: FileSource, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"bytes of it")
    (found,) = examine(source, f"file://{path}").objects
    assert (found.path, found.size) == (name, 11)
    assert found.checksum == hashlib.sha256(b"bytes of it").hexdigest()
    assert fetched(source, found.entry(b"x"), tmp_path / "copy") == b"bytes of it"


def test_a_percent_encoded_uri(source: FileSource, tmp_path: Path) -> None:
    (tmp_path / "a b#").write_bytes(b"1")
    (found,) = examine(source, (tmp_path / "a b#").as_uri()).objects
    assert found.path == "a b#"


def test_a_directory(source: FileSource, tmp_path: Path) -> None:
    top = tmp_path / "top"
    for name in ("b", "a/c", "a/.hidden"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "to-file").symlink_to("b")
    (top / "to-directory").symlink_to("a")
    examined = examine(source, f"file://{top}/")
    assert not examined.single
    assert [found.path for found in examined.objects] == ["a/.hidden", "a/c", "b", "to-file"]
    assert examined.objects[1].uri == f"file://{top}/a/c"
    for found in examined.objects:
        assert fetched(source, found.entry(b"x"), tmp_path / "copy") == (top / found.path).read_bytes()


def test_an_empty_directory(source: FileSource, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert examine(source, f"file://{tmp_path}/d").objects == []


@pytest.mark.parametrize(("limit", "fits"), [(3, True), (2, False)])
def test_a_limit_is_an_error_when_it_is_passed(source: FileSource, tmp_path: Path, limit: int, fits: bool) -> None:
    top = tmp_path / "d"
    top.mkdir()
    for number in range(3):
        (top / str(number)).touch()
    if fits:
        assert len(examine(source, f"file://{top}", max_objects=limit).objects) == 3
        return
    with pytest.raises(InvalidArgumentError, match="more than 2 objects"):
        examine(source, f"file://{top}", max_objects=limit)


def test_without_checksum_nothing_is_read(source: FileSource, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("one")
    (before,) = examine(source, f"file://{path}", checksum=False).objects
    path.write_text("another")
    (after,) = examine(source, f"file://{path}", checksum=False).objects
    assert before == after
    assert (after.size, after.checksum) == (None, "")
    assert fetched(source, after.entry(b"x"), tmp_path / "copy") == b"another"


def test_a_directory_without_checksum_is_one_entry(source: FileSource, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").touch()
    (found,) = examine(source, f"file://{tmp_path}/d", checksum=False).objects
    assert found.path == "d"
    with pytest.raises(ReferenceUnsupportedError, match="is a directory"):
        source.check(found.entry(b"x"))


@pytest.mark.parametrize("checksum", [True, False])
def test_what_is_not_there(source: FileSource, tmp_path: Path, checksum: bool) -> None:
    with pytest.raises(InvalidArgumentError, match="no such file or directory"):
        examine(source, f"file://{tmp_path}/none", checksum=checksum)


def test_what_is_no_file(source: FileSource, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidArgumentError, match="neither a file nor a directory"):
        examine(source, f"file://{tmp_path}/pipe")


def test_what_changed_says_what(source: FileSource, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("one")
    (found,) = examine(source, f"file://{path}").objects
    ref = found.entry(b"x")
    source.check(ref)
    path.write_text("two")
    for ask in (source.check, lambda ref: fetched(source, ref, tmp_path / "copy")):
        with pytest.raises(ReferenceChangedError, match=r"f changed: its SHA-256 is [0-9a-f]{64}, and was [0-9a-f]{64}"):
            ask(ref)
    path.write_text("longer")
    with pytest.raises(ReferenceChangedError, match="it has 6 bytes, and had 3"):
        source.check(ref)
    path.unlink()
    with pytest.raises(ReferenceMissingError, match="no such file any more"):
        source.check(ref)
    path.mkdir()
    with pytest.raises(ReferenceUnsupportedError):
        source.check(ref)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ReferenceChangedError, match="not a file any more"):
        source.check(ref)


def test_somebody_elses_reference_does_not_read_this_machines_files(trust: Trust, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    source = FileSource(trust, 1)
    with pytest.raises(ReferenceRefusedError, match="was not added here"):
        source.check(RefEntry(b"x", f"file://{secret}", None, "", ""))
    with pytest.raises(ReferenceRefusedError):
        source.check(RefEntry(b"x", f"file://{tmp_path}/home/../secret", None, "", ""))


def test_links_out_of_an_allowed_folder_are_not_followed(source: FileSource, trust: Trust, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "inside").write_text("in")
    (shared / "out").symlink_to("/etc/passwd")
    fresh = Trust.__new__(Trust)
    fresh.__dict__.update(trust.__dict__, known=frozenset(), _roots=[str(shared)])
    allowing = FileSource(fresh, 1)
    allowing.check(RefEntry(b"x", f"file://{shared}/inside", 2, "", ""))
    with pytest.raises(ReferenceRefusedError):
        allowing.check(RefEntry(b"x", f"file://{shared}/out", None, "", ""))
