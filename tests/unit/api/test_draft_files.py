"""Files of a draft: `add_file` and `new_file`."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.session import Session
from artfs.errors import (
    ConflictError,
    InvalidArgumentError,
    InvalidNameError,
    SourceChangedError,
)
from artfs.testing.contents import paths, sha256

# add_file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mutable", "immutable", None])
def test_add_file(session: Session, make_files: Any, policy: Any) -> None:
    root = make_files("in", {"a.txt": "hello"})
    artifact = Artifact("a", "t")
    entry = artifact.add_file(str(root / "a.txt"), policy=policy)
    assert (entry.path, entry.size, entry.digest) == ("a.txt", 5, sha256("hello"))
    assert (entry.ref, entry.target, entry.executable) == (None, None, False)
    assert artifact.manifest.entries["a.txt"] == entry


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (None, "a.txt"),
        ("", "a.txt"),
        ("x/b", "x/b"),
        ("./x//b/", "x/b"),
        (Path("p/q"), "p/q"),
        ("ü n/\\", "ü n/\\"),
    ],
)
def test_add_file_name(session: Session, make_files: Any, name: Any, path: str) -> None:
    artifact = Artifact("a", "t")
    assert artifact.add_file(make_files("in", {"a.txt": "x"}) / "a.txt", name).path == path
    assert paths(artifact) == [path]


@pytest.mark.parametrize("name", ["/a", "../a", "a/../b", ".", "C:x", "a\\..\\b", "n" * 256, "a\0b"])
def test_add_file_bad_name(session: Session, make_files: Any, name: str) -> None:
    artifact = Artifact("a", "t")
    with pytest.raises(InvalidNameError):
        artifact.add_file(make_files("in", {"a.txt": "x"}) / "a.txt", name)
    assert paths(artifact) == []


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
@pytest.mark.parametrize(
    ("is_tmp_of", "expected"),
    [("a.b.txt", "{}.b.txt"), ("plain", "{}"), ("d/a.txt", "d/{}.txt"), (".rc", "{}.rc")],
)
def test_add_file_is_tmp(
    session: Session, make_files: Any, is_tmp_of: str, expected: str, policy: Any
) -> None:
    path = make_files("in", {"f": "hello"}) / "f"
    entry = Artifact("a", "t").add_file(path, is_tmp_of, is_tmp=True, policy=policy)
    assert entry.path == expected.format(sha256("hello")[:20])


@pytest.mark.parametrize("skip_cache", [True, False, None])
def test_add_file_skip_cache_changes_nothing(
    session: Session, make_files: Any, skip_cache: bool | None
) -> None:
    path = make_files("in", {"f": "hello"}) / "f"
    assert Artifact("a", "t").add_file(path, skip_cache=skip_cache).digest == sha256("hello")


def test_add_file_overwrite(session: Session, make_files: Any) -> None:
    root = make_files("in", {"one": "1", "two": "2", "again": "1"})
    artifact = Artifact("a", "t")
    artifact.add_file(root / "one", "f")
    artifact.add_file(root / "again", "f")
    with pytest.raises(ConflictError, match="'f' was added already with other content"):
        artifact.add_file(root / "two", "f")
    with pytest.raises(ValueError):
        artifact.add_file(root / "two", "f", policy="immutable")
    assert artifact.manifest.entries["f"].digest == sha256("1")
    artifact.add_file(root / "two", "f", overwrite=True)
    assert artifact.manifest.entries["f"].digest == sha256("2")


def test_add_file_where_a_directory_is(session: Session, make_files: Any) -> None:
    root = make_files("in", {"f": "1"})
    artifact = Artifact("a", "t")
    artifact.add_file(root / "f", "d/f")
    for overwrite in (False, True):
        with pytest.raises(ConflictError, match="'d' is a directory"):
            artifact.add_file(root / "f", "d", overwrite=overwrite)
        with pytest.raises(ConflictError, match="'d/f' is a file"):
            artifact.add_file(root / "f", "d/f/g", overwrite=overwrite)
    assert paths(artifact) == ["d/f"]


@pytest.mark.parametrize("policy", ["Mutable", "", "copy"])
def test_bad_policy(session: Session, make_files: Any, policy: Any) -> None:
    root = make_files("in", {"f": "1", "empty/": ""})
    artifact = Artifact("a", "t")
    with pytest.raises(ValueError, match='policy must be "mutable" or "immutable"'):
        artifact.add_file(root / "f", policy=policy)
    with pytest.raises(InvalidArgumentError):
        artifact.add_dir(root / "empty", policy=policy)


def test_add_file_of_what_is_no_file(session: Session, make_files: Any) -> None:
    root = make_files("in", {"d/f": "1"})
    os.mkfifo(root / "pipe")
    artifact = Artifact("a", "t")
    with pytest.raises(InvalidArgumentError, match="nothing-here"):
        artifact.add_file(root / "nothing-here")
    with pytest.raises(InvalidArgumentError, match="use add_dir"):
        artifact.add_file(root / "d")
    with pytest.raises(InvalidArgumentError, match="use add_dir"):
        artifact.add_file(f"{root}/d/")
    with pytest.raises(InvalidArgumentError, match="null byte"):
        artifact.add_file("a\0b", "name")
    with pytest.raises(ValueError, match="not a file"):
        artifact.add_file(root / "pipe")


def test_add_file_through_a_link_and_executable(session: Session, make_files: Any) -> None:
    root = make_files("in", {"f": "1"})
    (root / "f").chmod(0o755)
    (root / "l").symlink_to("f")
    entry = Artifact("a", "t").add_file(root / "l")
    assert (entry.path, entry.digest, entry.target, entry.executable) == ("l", sha256("1"), None, True)


def test_mutable_content_is_of_the_time_of_adding(session: Session, make_files: Any) -> None:
    path = make_files("in", {"f": "before"}) / "f"
    artifact = Artifact("a", "t")
    artifact.add_file(path)
    path.write_text("after")
    artifact.save()
    assert artifact.get_entry("f").digest == sha256("before")
    path.unlink()
    assert Path(artifact.download(), "f").read_text() == "before"


@pytest.mark.embedded("lists the store")
def test_immutable_is_read_at_save(
    session: Session, make_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_files("in", {"f": "content"})
    monkeypatch.chdir(root)
    artifact = Artifact("a", "t")
    entry = artifact.add_file("f", policy="immutable")
    assert entry.local_path == str(root / "f")
    assert list(session.store.blobs()) == []
    monkeypatch.chdir("/")
    artifact.save()
    assert artifact.get_entry("f").digest == sha256("content")
    assert artifact.get_entry("f").local_path is None


def edit_same_size(path: Path) -> None:
    path.write_text("CONTENT")
    os.utime(path, ns=(0, 0))


def replace_alike(path: Path) -> None:
    status = path.stat()
    other = path.with_name("other")
    other.write_text("CONTENT")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("hashed_before", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("other"),
        edit_same_size,
        replace_alike,
        os.unlink,
        lambda path: path.chmod(0),
    ],
)
def test_immutable_file_that_changed(
    session: Session, make_files: Any, change: Any, hashed_before: bool
) -> None:
    path = make_files("in", {"f": "content", "g": "g"}) / "f"
    artifact = Artifact("a", "t")
    artifact.add_file(path, policy="immutable")
    if hashed_before:
        assert artifact.digest
    change(path)
    if os.path.exists(path) and not stat.S_IMODE(path.stat().st_mode):
        path.chmod(0o644)  # a change of mode alone is none
        artifact.save()
        return
    with pytest.raises(SourceChangedError, match=str(path)):
        artifact.save()
    assert artifact.is_draft()
    assert session.catalog.projects(session.settings.entity)[0].name == session.settings.project
    assert session.catalog.collections(session.settings.entity, session.settings.project) == []
    artifact.remove("f")
    artifact.add_file(path.with_name("g"))
    artifact.save()
    assert artifact.version == "v0"


def test_immutable_that_changed_has_no_digest(session: Session, make_files: Any) -> None:
    path = make_files("in", {"f": "content"}) / "f"
    artifact = Artifact("a", "t")
    entry = artifact.add_file(path, policy="immutable")
    path.write_text("more content")
    with pytest.raises(SourceChangedError):
        assert entry.digest
    with pytest.raises(SourceChangedError):
        assert artifact.digest


# new_file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["x", "w", "a", "x+", "w+", "xt"])
def test_new_file_text(session: Session, mode: str) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("d/f.txt", mode) as stream:
        stream.write("grün")
    assert artifact.manifest.entries["d/f.txt"].digest == sha256("grün")


@pytest.mark.parametrize("mode", ["xb", "wb", "ab", "wb+", "w+b"])
def test_new_file_bytes(session: Session, mode: str) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("f", mode) as stream:
        stream.write(b"\0\xff")
    assert artifact.manifest.entries["f"].digest == hashlib.sha256(b"\0\xff").hexdigest()


def test_new_file_encoding(session: Session) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("f", encoding="latin-1") as stream:
        stream.write("grün")
    assert artifact.manifest.entries["f"].digest == hashlib.sha256("grün".encode("latin-1")).hexdigest()
    with pytest.raises(UnicodeEncodeError), artifact.new_file("g", encoding="ascii") as stream:
        stream.write("grün")
    assert paths(artifact) == ["f"]


def test_new_file_modes_on_a_name_that_is_taken(session: Session, make_files: Any) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("f") as stream:
        stream.write("one")
    with pytest.raises(ValueError, match="'f' was added already"):
        artifact.new_file("f")
    with artifact.new_file("f", "a") as stream:
        stream.write(" two")
    assert artifact.manifest.entries["f"].digest == sha256("one two")
    with artifact.new_file("f", "r+") as stream:
        assert stream.read() == "one two"
        stream.seek(0)
        stream.write("ONE")
    assert artifact.manifest.entries["f"].digest == sha256("ONE two")
    with artifact.new_file("f", "w") as stream:
        stream.write("three")
    assert artifact.manifest.entries["f"].digest == sha256("three")
    artifact.add_file(make_files("in", {"p": "four"}) / "p", policy="immutable")
    with artifact.new_file("p", "a") as stream:
        stream.write(" five")
    assert artifact.manifest.entries["p"].digest == sha256("four five")


@pytest.mark.parametrize(("mode", "executable"), [("a", True), ("r+", True), ("w", False)])
@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_new_file_that_begins_with_a_program_is_one(
    session: Session, make_files: Any, policy: Any, mode: str, executable: bool
) -> None:
    path = make_files("in", {"run.sh": "#!/bin/sh\n"}) / "run.sh"
    path.chmod(0o755)
    artifact = Artifact("a", "t")
    artifact.add_file(path, policy=policy)
    with artifact.new_file("run.sh", mode) as stream:
        stream.write("#")
    assert artifact.manifest.entries["run.sh"].executable == executable


def test_new_file_over_a_link(session: Session, make_files: Any) -> None:
    root = make_files("in", {"f": "1"})
    (root / "l").symlink_to("f")
    artifact = Artifact("a", "t")
    artifact.add_dir(root)
    with pytest.raises(InvalidArgumentError, match="symbolic link"):
        artifact.new_file("l", "a")
    with artifact.new_file("l", "w") as stream:
        stream.write("2")
    assert artifact.manifest.entries["l"].digest == sha256("2")
    assert artifact.manifest.entries["f"].digest == sha256("1")


def test_new_file_refusals(session: Session) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("d/f") as stream:
        stream.write("1")
    with pytest.raises(FileNotFoundError):
        artifact.new_file("g", "r")
    with pytest.raises(ConflictError, match="'d' is a directory"):
        artifact.new_file("d", "w")
    with pytest.raises(InvalidNameError):
        artifact.new_file("../x")
    for mode in ("", "q", "xw", "bt", "xbb", "U"):
        with pytest.raises(InvalidArgumentError, match="bad mode"):
            artifact.new_file("h", mode)


def test_new_file_whose_body_fails_adds_nothing(session: Session) -> None:
    artifact = Artifact("a", "t")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), artifact.new_file("f", "x") as stream:
            stream.write("half")
            raise ZeroDivisionError
    assert paths(artifact) == []
    with artifact.new_file("f", "x") as stream:
        stream.write("whole")
    assert paths(artifact) == ["f"]


@pytest.mark.embedded("a folder of its own holds the files of a draft that goes to a server")
def test_new_file_can_be_opened_by_name_and_leaves_no_file(session: Session) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("f", "wb") as stream:
        names = {path for path in session.store.root.rglob("*") if path.is_file()}
        Path(stream.name).write_bytes(b"by name")
    assert artifact.manifest.entries["f"].size == 7
    assert names == {session.store.root / "lock", session.store.root / ".format"}


