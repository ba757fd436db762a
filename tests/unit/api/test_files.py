"""files(), file() and the pages they come in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.paging import Page, Paginator
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import (
    ArtfsError,
    ArtifactNotLoggedError,
    BlobMissingError,
    ConflictError,
    CorruptError,
    InvalidArgumentError,
    InvalidNameError,
)

FILES = {"a": "1", "b/c/d": "22", "b/e": "333", "b/ee": "4444", "z": "", "ä ?#%": "u"}
ORDER = ["a", "b/c/d", "b/e", "b/ee", "z", "ä ?#%"]


@pytest.fixture
def artifact(session: Session, log_files: Any) -> Artifact:
    logged: Artifact = log_files("ds", FILES)
    return logged


def names(files: Any) -> list[str]:
    return [file.name for file in files]


def test_files(artifact: Artifact) -> None:
    files = artifact.files()
    assert len(files) == artifact.file_count == 6
    assert names(files) == ORDER
    assert names(files) == ORDER  # again, from the beginning
    assert [file.size for file in files] == [len(FILES[name]) for name in ORDER]
    assert [file.digest for file in files] == [artifact.manifest.entries[name].digest for name in ORDER]
    assert (files[0].name, files[-1].name, names(files[1:3])) == ("a", "ä ?#%", ["b/c/d", "b/e"])
    with pytest.raises(IndexError):
        files[6]
    assert names(Api().artifact("ds:v0").files()) == ORDER


def test_files_of_a_draft(session: Session) -> None:
    for asked in ("files", "file", "get_path", "json_encode", "new_draft"):
        with pytest.raises(ArtifactNotLoggedError, match=f"'{asked}'"):
            getattr(Artifact("a", "t"), asked)(*["x"] * (asked == "get_path"))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, ORDER),
        (["b/e", "a"], ["b/e", "a"]),
        (["./b//e", "b/e"], ["b/e"]),
        (["nothing", "z", "b"], ["z"]),
        ("z", ["z"]),
        ([], []),
    ],
)
def test_files_names(artifact: Artifact, wanted: Any, found: list[str]) -> None:
    files = artifact.files(names=wanted)
    assert names(files) == found
    assert len(files) == len(found)
    assert bool(files) == bool(found)
    with pytest.raises(InvalidNameError):
        artifact.files(names=["../a"])


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 7, 1000])
def test_files_per_page(artifact: Artifact, size: int) -> None:
    files = artifact.files(per_page=size)
    assert (files.cursor, files.more) == (None, True)
    next(files)
    assert repr(files).startswith(f"<ArtifactFiles {min(size, 6)} fetched")
    assert names(files) == ORDER
    assert not files.more
    assert names(files[:]) == ORDER


@pytest.mark.parametrize("size", [0, -1])
def test_files_bad_per_page(artifact: Artifact, size: int) -> None:
    with pytest.raises(InvalidArgumentError):
        artifact.files(per_page=size)


@pytest.mark.parametrize("wanted", [None, [*ORDER]])
@pytest.mark.parametrize("seen", [1, 2, 3, 4, 5, 6])
def test_files_start(artifact: Artifact, seen: int, wanted: list[str] | None) -> None:
    files = artifact.files(names=wanted, per_page=1)
    for _ in range(seen):
        next(files)
    rest = Api().artifact("ds").files(names=wanted, start=files.cursor)
    assert names(rest) == ORDER[seen:]
    assert len(rest) == 6 - seen


@pytest.mark.parametrize("start", ["x", "Yg==", "bm90aGluZw==", "%", ""])
def test_files_bad_start(artifact: Artifact, start: str) -> None:
    for wanted in (None, ["a"]):
        with pytest.raises(InvalidArgumentError, match="is not the cursor"):
            artifact.files(names=wanted, start=start)


def test_files_leaves_links_out(session: Session, make_files: Any) -> None:
    root = make_files("in", {"a": "1"})
    os.symlink("a", root / "link")
    artifact = Artifact("ds", "dataset")
    artifact.add_dir(root)
    artifact.save()
    assert names(artifact.files()) == ["a"]
    assert sorted(artifact.manifest.entries) == ["a", "link"]


def test_files_of_large_directories(session: Session, make_files: Any) -> None:
    """More than a page of a tree holds."""
    artifact = Artifact("ds", "dataset")
    artifact.add_dir(make_files("in", {f"d/{n:05}": "" for n in range(3000)} | {"e": ""}))
    artifact.save()
    files = artifact.files(per_page=700)
    everything = names(files)
    assert everything == [*(f"d/{n:05}" for n in range(3000)), "e"]
    again = artifact.files(per_page=1000)
    next(again)
    assert names(artifact.files(start=again.cursor)) == everything[1000:]


def test_what_a_file_knows(session: Session, artifact: Artifact) -> None:
    file = artifact.files(names=["ä ?#%"])[0]
    assert file.url == "artfs://@local/uncategorized/ds:v0/ä ?#%"
    assert Path(file.direct_url.removeprefix("file://")).read_text() == "u"
    assert (session.store.root / file.storage_path).read_text() == "u"
    assert (file.path_uri, file.mimetype, file.updated_at) == ("", None, artifact.created_at)
    assert repr(file) == "<File ä ?#% (unknown type) 1 B>"


def test_mimetype(session: Session, log_files: Any) -> None:
    files = log_files("ds", {"a.png": "", "b.json": ""}).files()
    assert [file.mimetype for file in files] == ["image/png", "application/json"]


def test_download_of_a_file(artifact: Artifact, tmp_path: Path) -> None:
    root = tmp_path / "out"
    file = artifact.files(names=["b/e"])[0]
    with file.download(root) as stream:
        assert stream.read() == "333"
    assert sorted(path.name for path in root.rglob("*")) == ["b", "e"]
    (root / "b" / "e").write_text("changed")
    with pytest.raises(ConflictError, match="is there already"):
        file.download(root)
    with file.download(root, exist_ok=True) as stream:
        assert stream.read() == "changed"
    with file.download(root, replace=True) as stream:
        assert stream.read() == "333"
    with file.download() as stream:
        assert Path("b/e").read_text() == "333"


@pytest.mark.embedded("what the cache finds wrong is fetched again")
def test_download_of_a_file_is_verified(session: Session, artifact: Artifact, tmp_path: Path) -> None:
    file = artifact.files(names=["b/e"])[0]
    blob = session.store.path_of(file.digest)
    blob.chmod(0o644)
    blob.write_text("bad")
    with pytest.raises(CorruptError):
        file.download(tmp_path / "out")
    blob.unlink()
    with pytest.raises(BlobMissingError):
        file.download(tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_download_of_a_reference(session: Session, make_files: Any, tmp_path: Path) -> None:
    source = make_files("in", {"f": "far away"}) / "f"
    artifact = Artifact("ds", "dataset")
    artifact.add_reference(source.as_uri(), "d/r")
    artifact.save()
    file = artifact.files()[0]
    assert (file.name, file.size, file.path_uri) == ("d/r", 8, source.as_uri())
    with file.download(tmp_path / "out") as stream:
        assert stream.read() == "far away"
    source.write_text("changed!")
    with pytest.raises(ArtfsError):
        file.download(tmp_path / "other")
    assert not (tmp_path / "other" / "d" / "r").exists()


# entries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False, True])
def test_download_of_an_entry(artifact: Artifact, tmp_path: Path, value: bool | None) -> None:
    entry = artifact.get_entry("b/e")
    path = entry.download(root=tmp_path / "out", skip_cache=value)
    assert path == str(tmp_path / "out" / "b" / "e")
    assert Path(path).read_text() == "333"
    Path(path).write_text("spoiled")
    inode = os.stat(artifact.manifest.entries["b/ee"].download(tmp_path / "out")).st_ino
    assert Path(entry.download(tmp_path / "out")).read_text() == "333"
    assert os.stat(artifact.get_entry("b/ee").download(tmp_path / "out")).st_ino == inode
    assert entry.download() == str(Path("artifacts/ds:v0/b/e").absolute())
    assert sorted(path.name for path in Path("artifacts/ds:v0").rglob("*")) == ["b", "e"]


def test_download_of_an_entry_of_a_link(artifact: Artifact) -> None:
    path = artifact.link("best").get_entry("a").download()
    assert path == str(Path("artifacts/ds:v0/a").absolute())


def test_download_of_an_entry_of_a_draft(session: Session) -> None:
    draft = Artifact("ds", "dataset")
    with draft.new_file("a") as stream:
        stream.write("1")
    entry = draft.manifest.entries["a"]
    with pytest.raises(ArtifactNotLoggedError, match="entry of a draft"):
        entry.download()
    draft.save()
    assert Path(draft.get_entry("a").download()).read_text() == "1"


def test_download_of_an_entry_that_is_a_link(session: Session, make_files: Any) -> None:
    root = make_files("in", {"d/a": "1"})
    (root / "d" / "link").symlink_to("a")
    artifact = Artifact("ds", "dataset")
    artifact.add_dir(root)
    artifact.save()
    assert os.readlink(artifact.get_entry("d/link").download()) == "a"


# file() -------------------------------------------------------------------------------------------


def test_file(session: Session, log_files: Any, tmp_path: Path) -> None:
    artifact = log_files("ds", {"d/f": "hello"})
    assert artifact.file() == str(Path("artifacts", "ds:v0", "d", "f"))
    assert Path("artifacts/ds:v0/d/f").read_text() == "hello"
    assert Api().artifact("ds:latest").file() == str(Path("artifacts", "ds:latest", "d", "f"))
    root = tmp_path / "out"
    assert artifact.file(root=str(root)) == str(root / "d" / "f")
    assert (root / "d" / "f").read_text() == "hello"


@pytest.mark.parametrize(("files", "why"), [({"a": "", "b": ""}, "more than one file"), ({}, "no file")])
def test_file_of_what_holds_not_one(session: Session, log_files: Any, files: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        log_files("ds", files).file()


# get_path, json_encode ----------------------------------------------------------------------------


def test_get_path_is_deprecated(artifact: Artifact) -> None:
    with pytest.warns(DeprecationWarning, match="get_entry") as found:
        entry = artifact.get_path("b/e")
    assert found[0].filename == __file__
    assert entry == artifact.get_entry("b/e")
    with pytest.warns(DeprecationWarning, match="get_entry"), pytest.raises(KeyError):
        artifact.get_path("nothing")


def test_json_encode(artifact: Artifact) -> None:
    expected = {
        "_type": "artifactVersion",
        "_version": "v0",
        "id": artifact.id,
        "version": "v0",
        "sequenceName": "ds",
        "usedAs": None,
    }
    assert artifact.json_encode() == expected
    assert artifact.link("best").json_encode() == expected


@pytest.mark.parametrize("step", [None, 1, 2, -1, -2])
@pytest.mark.parametrize("stop", [None, 0, 2, 4, -1, -9, 9])
@pytest.mark.parametrize("start", [None, 0, 3, 4, -2, -9, 9])
def test_slices_are_those_of_a_list(start: int | None, stop: int | None, step: int | None) -> None:
    def fetch(after: str | None, size: int) -> Page[int]:
        first = 0 if after is None else int(after)
        return list(range(5))[first : first + size], str(first + size) if first + size < 5 else None

    wanted = slice(start, stop, step)
    assert Paginator(fetch, per_page=1)[wanted] == list(range(5))[wanted]
