"""download and verify: what arrives, what stays, what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import BadBlobError, BlobMissingError, ConflictError, NotFoundError, VerificationError
from artfs.model.entry import RefEntry
from artfs.model.records import NewVersion
from artfs.transfer.push import push_entries

FILES = {"a.txt": "a", "ab/c.txt": "c", "d/e/f": "f"}


def tree(root: str | Path) -> dict[str, str]:
    top = Path(root)
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def rot(session: Session, artifact: Artifact, path: str, content: bytes) -> None:
    blob = session.store.path_of(artifact.get_entry(path).digest)
    blob.chmod(0o644)
    blob.write_bytes(content)


# download -----------------------------------------------------------------------------------------


def test_download_default_root(session: Session, log_files: Any, tmp_path: Path) -> None:
    log_files("ds", FILES)
    artifact = Api().artifact("ds:latest")
    root = artifact.download()
    assert root == str(tmp_path / "here/artifacts/ds:v0")
    assert tree(root) == FILES
    link = artifact.link("best")
    assert link.download() == root  # named after the source


def test_download_artifact_dir(
    session: Session, log_files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_files("ds", FILES)
    monkeypatch.setenv("ARTFS_ARTIFACT_DIR", str(tmp_path / "out"))
    assert Api().artifact("ds").download() == str(tmp_path / "out/ds:v0")


@pytest.mark.parametrize("root", ["relative/x", Path("as/path")])
def test_download_root(session: Session, log_files: Any, root: Any) -> None:
    artifact = log_files("ds", FILES)
    assert artifact.download(root) == str(root)
    assert tree(root) == FILES


def test_download_empty(session: Session) -> None:
    artifact = Artifact("ds", "dataset")
    artifact.save()
    assert tree(artifact.download()) == {}


def test_what_is_there_already(session: Session, log_files: Any, make_files: Any) -> None:
    artifact = log_files("ds", FILES)
    root = make_files("out", {"a.txt": "A", "ab/c.txt": "c", "d/extra": "x"})
    os.utime(root / "ab/c.txt", ns=(5, 5))
    artifact.download(root)
    assert tree(root) == FILES | {"d/extra": "x"}
    assert (root / "ab/c.txt").stat().st_mtime_ns == 5


def test_a_download_is_the_users_own(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", FILES)
    root = Path(artifact.download())
    (root / "a.txt").write_text("edited in place")
    assert Path(artifact.download("again"), "a.txt").read_text() == "a"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (None, ["a.txt", "ab/c.txt", "d/e/f"]),
        ("", ["a.txt", "ab/c.txt", "d/e/f"]),
        ("a", ["a.txt", "ab/c.txt"]),
        ("ab/", ["ab/c.txt"]),
        ("ab/c.txt", ["ab/c.txt"]),
        ("d/e", ["d/e/f"]),
        (Path("d"), ["d/e/f"]),
        ("nothing", []),
        ("b", []),
    ],
)
def test_download_path_prefix(session: Session, log_files: Any, prefix: Any, expected: list[str]) -> None:
    artifact = log_files("ds", FILES)
    assert sorted(tree(artifact.download(path_prefix=prefix))) == expected


@pytest.mark.parametrize("value", [True, False, None])
def test_download_arguments_without_effect(session: Session, log_files: Any, value: Any) -> None:
    artifact = log_files("ds", FILES)
    assert tree(artifact.download("one", skip_cache=value)) == FILES
    assert tree(artifact.download("two", multipart=value)) == FILES


def test_download_references(session: Session) -> None:
    with session.store.begin() as batch:
        built = push_entries(batch, {"r": RefEntry(b"r", "s3://b/k", 7, "etag", "")})
        batch.sync()
        session.catalog.commit(NewVersion("local", "uncategorized", "ds", "dataset", built.root, 7, 1))
    artifact = Api().artifact("ds")
    entry = artifact.get_entry("r")
    assert (entry.ref, entry.digest, entry.size) == ("s3://b/k", "etag", 7)
    assert repr(entry) == "<ManifestEntry 'r' ref='s3://b/k'>"
    file = artifact.files()[0]
    assert (file.name, file.size, file.digest, file.storage_path) == ("r", 7, "etag", "")
    assert file.direct_url == file.path_uri == "s3://b/k"
    assert artifact.new_draft().digest == artifact.digest
    with pytest.raises(NotFoundError, match=r"references of local/uncategorized/ds:v0 cannot be fetched: r;"):
        artifact.download()
    assert tree(artifact.download(allow_missing_references=True)) == {}
    artifact.verify()


def test_download_does_not_give_out_wrong_bytes(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", FILES)
    rot(session, artifact, "a.txt", b"X")
    with pytest.raises(BadBlobError):
        artifact.download("out")
    assert not Path("out/a.txt").exists()
    session.store.remove(artifact.get_entry("a.txt").digest)
    with pytest.raises(BlobMissingError):
        artifact.download("out")
    assert not list(Path("out").glob(".artfs*"))


def test_download_onto_a_directory(session: Session, log_files: Any, make_files: Any) -> None:
    artifact = log_files("ds", FILES)
    root = make_files("out", {"a.txt/x": "1"})
    with pytest.raises(ConflictError, match=r"a\.txt is a directory"):
        artifact.download(root)


# verify -------------------------------------------------------------------------------------------


def test_verify(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", FILES)
    artifact.download()
    artifact.verify()
    artifact.download("other")
    artifact.verify("other")
    artifact.verify(Path("other"))


def test_verify_downloads_what_was_not_downloaded(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", FILES)
    artifact.verify()
    assert tree("artifacts/ds:v0") == FILES


@pytest.mark.parametrize("root", [None, "out"])
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda root: (root / "a.txt").write_text("A"), "a.txt"),
        (lambda root: (root / "a.txt").write_text("longer"), "a.txt"),
        (lambda root: (root / "d/e/f").unlink(), "d/e/f"),
        (lambda root: (root / "d/new").write_text("new"), "d/new"),
    ],
)
def test_verify_finds(session: Session, log_files: Any, spoil: Any, problem: str, root: Any) -> None:
    artifact = log_files("ds", FILES)
    spoil(Path(artifact.download(root)))
    with pytest.raises(VerificationError, match=problem) as caught:
        artifact.verify(root)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(problem)
    with pytest.raises(ValueError):
        artifact.verify(root)


def test_verify_lists_every_problem(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {str(n): str(n) for n in range(9)})
    root = Path(artifact.download())
    for n in range(9):
        (root / str(n)).write_text("x")
    with pytest.raises(VerificationError, match="and 4 more") as caught:
        artifact.verify()
    assert len(caught.value.problems) == 9


def test_verify_nothing(session: Session, log_files: Any, make_files: Any) -> None:
    artifact = log_files("ds", FILES)
    with pytest.raises(VerificationError, match="no such directory"):
        artifact.verify("nowhere")
    with pytest.raises(VerificationError, match="no such directory"):
        artifact.verify(make_files("in", {"f": ""}) / "f")
