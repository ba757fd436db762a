"""Folders of a draft: `add_dir`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.session import Session
from artfs.errors import (
    ConflictError,
    DraftInvalidError,
    InvalidArgumentError,
    InvalidNameError,
)
from artfs.testing.contents import paths, sha256

# add_dir ------------------------------------------------------------------------------------------

TREE = {"a.txt": "a", "sub/b.txt": "b", "sub/deep/c": "c", ".hidden": "h", ".DS_Store": "d", "empty/in/": ""}
FILES = [".DS_Store", ".hidden", "a.txt", "sub/b.txt", "sub/deep/c"]


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_add_dir(session: Session, make_files: Any, policy: Any) -> None:
    artifact = Artifact("a", "t")
    root = make_files("in", TREE)
    (root / "a.txt").chmod(0o700)
    artifact.add_dir(str(root), policy=policy)
    assert paths(artifact) == FILES
    assert artifact.manifest.entries["sub/b.txt"].digest == sha256("b")
    assert artifact.manifest.entries["a.txt"].executable
    assert (artifact.manifest.entries["a.txt"].local_path is None) == (policy == "mutable")
    artifact.save()
    assert artifact.file_count == 5
    assert Path(artifact.download(), "empty/in").is_dir()


def test_policies_make_the_same_version(session: Session, make_files: Any) -> None:
    root = make_files("in", TREE | {"big": b"x" * 3_000_000})
    (root / "link").symlink_to("sub/b.txt")
    digests = set()
    for policy in ("mutable", "immutable"):
        for before_saving in (True, False):
            artifact = Artifact("a", "t")
            artifact.add_dir(root, policy=policy)
            if before_saving:
                digests.add(artifact.digest)
            artifact.save()
            digests.add(artifact.digest)
            assert artifact.version == "v0"
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "prefix"), [(None, ""), ("", ""), (".", ""), ("p", "p/"), ("p/q/", "p/q/"), (Path("x"), "x/")]
)
def test_add_dir_name(session: Session, make_files: Any, name: Any, prefix: str) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", TREE), name)
    assert paths(artifact) == [prefix + path for path in FILES]


@pytest.mark.parametrize("name", ["..", "/x", "a/../b"])
def test_add_dir_bad_name(session: Session, make_files: Any, name: str) -> None:
    with pytest.raises(InvalidNameError):
        Artifact("a", "t").add_dir(make_files("in", TREE), name)


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_add_empty_dir(session: Session, make_files: Any, policy: Any) -> None:
    root = make_files("in", {"nothing/": ""}) / "nothing"
    artifact = Artifact("a", "t")
    artifact.add_dir(root, policy=policy)
    without = artifact.digest
    artifact.add_dir(root, "d/e", policy=policy)
    assert paths(artifact) == []
    assert artifact.digest != without
    artifact.save()
    assert Path(artifact.download(), "d", "e").is_dir()


def test_a_folder_of_empty_folders_is_a_folder(session: Session, make_files: Any) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", {"d/e/f/": ""}))
    with pytest.raises(ConflictError, match="'d/e' is a directory"):
        artifact.add_file(make_files("other", {"x": "1"}) / "x", "d/e")
    artifact.remove("d/e")
    artifact.add_file(make_files("other", {"x": "1"}) / "x", "d/e")
    artifact.save()
    assert paths(artifact) == ["d/e"]


def test_add_dir_merge(session: Session, make_files: Any) -> None:
    root = make_files("in", {"same": "s", "changed": "1", "gone": "g"})
    artifact = Artifact("a", "t")
    artifact.add_dir(root)
    before = artifact.digest
    artifact.add_dir(root)
    assert artifact.digest == before
    (root / "changed").write_text("2")
    (root / "gone").unlink()
    (root / "new").write_text("n")
    with pytest.raises(ConflictError, match="'changed' was added already"):
        artifact.add_dir(root)
    assert artifact.digest == before  # not even the new one
    artifact.add_dir(root, merge=True)
    assert paths(artifact) == ["changed", "gone", "new", "same"]
    assert artifact.manifest.entries["changed"].digest == sha256("2")


def test_add_dir_after_remove(session: Session, make_files: Any) -> None:
    root = make_files("in", {"x": "1", "y": "2"})
    artifact = Artifact("a", "t")
    artifact.add_dir(root, "p")
    (root / "x").write_text("3")
    (root / "y").unlink()
    artifact.remove("p")
    artifact.add_dir(root, "p")
    assert paths(artifact) == ["p/x"]


@pytest.mark.parametrize("skip_cache", [True, None])
def test_add_dir_skip_cache_changes_nothing(
    session: Session, make_files: Any, skip_cache: bool | None
) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", TREE), skip_cache=skip_cache)
    assert paths(artifact) == FILES


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_add_dir_links(session: Session, make_files: Any, policy: Any) -> None:
    root = make_files("in", {"d/f": "inside"})
    outside = make_files("out", {"g": "outside", "sub/h": "deep"})
    (root / "near").symlink_to("d/f")
    (root / "d/up").symlink_to("../near")
    (root / "far").symlink_to(outside / "g")
    (root / "fardir").symlink_to(outside)
    artifact = Artifact("a", "t")
    artifact.add_dir(root, policy=policy)
    entries = artifact.manifest.entries
    assert {path: entry.target for path, entry in entries.items()} == {
        "d/f": None, "d/up": "../near", "near": "d/f", "far": None, "fardir/g": None, "fardir/sub/h": None,
    }  # fmt: skip
    assert entries["far"].digest == sha256("outside")
    artifact.save()
    assert artifact.file_count == 4
    assert os.readlink(Path(artifact.download(), "d/up")) == "../near"


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_add_dir_of_what_no_version_can_hold(session: Session, make_files: Any, policy: Any) -> None:
    root = make_files("in", {"d/f": "1"})
    os.mkfifo(root / "d/pipe")
    (root / "broken").symlink_to("/nowhere/at/all")
    (root / "d/loop").symlink_to(root)
    artifact = Artifact("a", "t")
    with pytest.raises(DraftInvalidError) as caught:
        artifact.add_dir(root, policy=policy)
    assert caught.value.paths == ("broken", "d/loop", "d/pipe")
    assert str(caught.value).endswith("; remove them or add only the folders beside them")
    assert paths(artifact) == []


def test_add_dir_of_what_is_no_directory(session: Session, make_files: Any) -> None:
    root = make_files("in", {"f": "1"})
    for path in (root / "f", root / "nothing"):
        with pytest.raises(InvalidArgumentError, match="not a directory"):
            Artifact("a", "t").add_dir(path)


