"""download, checkout and verify: what arrives, what stays, what is refused."""

from __future__ import annotations

import os
import pwd
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import artfs
from artfs.api.artifact import Artifact, logged_state
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import BadBlobError, BlobMissingError, ConflictError, VerificationError
from artfs.model.entry import RefEntry
from artfs.model.records import NewVersion
from artfs.testing.mount import Workspace
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


@pytest.mark.parametrize("skip_cache", [True, False, None])
def test_download_skip_cache(session: Session, log_files: Any, skip_cache: bool | None) -> None:
    """One after the other, in one process: no download's choice may spoil another's bytes."""
    artifact = log_files("ds", FILES)
    other = log_files("other", {"a.txt": "b"})  # as long as the other's
    assert tree(artifact.download(skip_cache=skip_cache)) == FILES
    assert tree(other.download()) == {"a.txt": "b"}
    assert tree(artifact.download("again", skip_cache=skip_cache)) == FILES


@pytest.mark.parametrize(("multipart", "most"), [(True, 3), (False, 1), (None, 3)])
def test_download_multipart(session: Session, make_files: Any, multipart: bool | None, most: int) -> None:
    """Large files are copied on threads, and each tells: so they show how many there were."""
    artifact = Artifact("ds", "dataset")
    artifact.add_dir(make_files("in", {str(n): bytes([n]) * 300_000 for n in range(8)}))
    artifact.save()
    state = logged_state(artifact, "test")
    state.session = Session(session.settings.with_changes(workers=3), session.catalog, session.store)
    seen: set[str] = set()
    with artfs.progress(lambda told: seen.add(threading.current_thread().name)):
        root = artifact.download(multipart=multipart)
    assert all(Path(root, str(n)).read_bytes() == bytes([n]) * 300_000 for n in range(8))
    assert len([name for name in seen if name.startswith("artfs-transfer")]) <= most


def test_a_file_that_is_in_the_way(session: Session, log_files: Any, make_files: Any) -> None:
    artifact = log_files("ds", FILES)
    for root in (make_files("out", {"d": "a file"}), make_files("in", {"f": ""}) / "f"):
        with pytest.raises(ConflictError, match="file"):
            artifact.download(root)


def test_download_references(session: Session, expect_log: Callable[..., None]) -> None:
    with session.store.begin(("local", "uncategorized")) as batch:
        built = push_entries(batch, {"r": RefEntry(b"r", "x://b/k", 7, "etag", "")})
        batch.sync()
        session.catalog.commit(NewVersion("local", "uncategorized", "ds", "dataset", built.root, 7, 1))
    artifact = Api().artifact("ds")
    entry = artifact.get_entry("r")
    assert (entry.ref, entry.digest, entry.size) == ("x://b/k", "etag", 7)
    assert repr(entry) == "<ManifestEntry 'r' ref='x://b/k'>"
    file = artifact.files()[0]
    assert (file.name, file.size, file.digest, file.storage_path) == ("r", 7, "etag", "")
    assert file.direct_url == file.path_uri == "x://b/k"
    assert artifact.new_draft().digest == artifact.digest
    expect_log("left out r: ", count=1)  # how references are downloaded: test_references.py
    artifact.verify()


@pytest.mark.embedded("what the cache finds wrong is fetched again")
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


# checkout -----------------------------------------------------------------------------------------


def test_checkout_replaces(session: Session, log_files: Any, tmp_path: Path) -> None:
    first = log_files("ds", FILES | {"old": "old", "gone/x": "x"})
    second = log_files("ds", FILES | {"a.txt": "changed", "old/now/a": "directory"})
    root = Path(first.checkout())
    assert str(root) == str(tmp_path / "here/artifacts/ds")
    (root / "mine").write_text("mine")
    (root / "empty").mkdir()
    (root / "d" / "link").symlink_to("/etc")
    kept = (root / "ab/c.txt").stat()
    assert second.checkout() == str(root)
    assert tree(root) == FILES | {"a.txt": "changed", "old/now/a": "directory"}
    second.verify(root)
    assert (root / "ab/c.txt").stat().st_ino == kept.st_ino
    assert first.checkout() == str(root)
    first.verify(root)


@pytest.mark.parametrize("root", ["relative/x", Path("as/path")])
def test_checkout_root(session: Session, log_files: Any, root: Any) -> None:
    artifact = log_files("ds", FILES)
    assert artifact.checkout(root) == str(root)
    assert tree(root) == FILES


def test_no_name_is_the_current_directory(session: Session, log_files: Any, make_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    Path("f").write_text("mine")
    with pytest.raises(ConflictError, match="not empty"):
        artifact.checkout("")
    assert Path("f").read_text() == "mine"
    draft = artifact.new_draft()
    draft.add_reference((make_files("in", {"r": "2"}) / "r").as_uri())
    draft.save()
    draft.download("")
    assert (Path("f").read_text(), Path("r").read_text()) == ("1", "2")
    draft.verify("")
    Path("r").unlink()
    assert Path(draft.get_entry("r").download("")).read_text() == "2"


def test_checkout_does_not_follow_links(session: Session, log_files: Any, make_files: Any, tmp_path: Path) -> None:
    outside = make_files("outside", {"e/f": "theirs", "x": "theirs"})
    artifact = log_files("ds", FILES)
    root = Path(artifact.checkout("out"))
    (root / "d/e/f").unlink()
    (root / "d/e").rmdir()
    (root / "d/e").symlink_to(outside / "e")
    (root / "more").symlink_to(outside)
    artifact.checkout(root)
    artifact.verify(root)
    assert tree(outside) == {"e/f": "theirs", "x": "theirs"}


@pytest.mark.parametrize("made_by", ["download", "checkout", "nobody, but it is empty", "an interrupted download"])
def test_checkout_of_a_directory_that_artfs_made(
    session: Session, log_files: Any, tmp_path: Path, made_by: str
) -> None:
    artifact = log_files("ds", FILES)
    root = tmp_path / "out"
    if made_by == "download":
        artifact.download(root)
    elif made_by == "checkout":
        artifact.checkout(root)
    elif made_by == "an interrupted download":
        with pytest.raises(KeyboardInterrupt), artfs.progress(interrupt):
            artifact.download(root)
    else:
        root.mkdir()
        (root / ".artfs-0123456789abcdef.tmp").mkdir()
    if made_by != "nobody, but it is empty":
        (root / "mine").write_text("mine")
    assert artifact.checkout(root) == str(root)
    assert tree(root) == FILES
    artifact.verify(root)


def interrupt(told: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("way", ["theirs", "downloaded into", "a copy"])
def test_checkout_refuses_a_directory_that_artfs_did_not_make(
    session: Session, log_files: Any, make_files: Any, tmp_path: Path, way: str
) -> None:
    artifact = log_files("ds", FILES)
    root = make_files("theirs", {"diary": "dear"} if way != "a copy" else {})
    if way == "downloaded into":
        artifact.download(root)
    elif way == "a copy":
        subprocess.run(["cp", "-a", artifact.download(tmp_path / "out") + "/.", root], check=True)
        (root / "diary").write_text("dear")
    with pytest.raises(ConflictError, match=r"it is not empty, and artfs did not make it") as caught:
        artifact.checkout(root)
    assert "\n" not in str(caught.value)
    assert (root / "diary").read_text() == "dear"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("/", "the root of the file system"),
        ("//", "the root of the file system"),
        ("/proc", "is a mount"),
        ("/proc/self/..", "is a mount"),
        ("/sys/", "is a mount"),
        ("{tmp}/user", "your home directory"),
        ("{tmp}/link", "your home directory"),
        ("{tmp}", "your home directory is in it"),
        ("{home}", "artfs keeps everything in"),
        ("{home}/store", "artfs keeps everything in"),
        ("{home}/new", "artfs keeps everything in"),
    ],
)
def test_checkout_refuses(
    session: Session, log_files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, why: str
) -> None:
    (tmp_path / "user").mkdir()
    (tmp_path / "link").symlink_to("user")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    artifact = log_files("ds", FILES)
    root = place.format(tmp=tmp_path, home=session.settings.home)
    with pytest.raises(ConflictError, match=why):
        artifact.checkout(root)
    with pytest.raises(ValueError):
        artifact.checkout(root)
    assert list((tmp_path / "user").iterdir()) == []
    assert Workspace.with_server or (session.settings.home / "catalog.db").exists()


def test_checkout_refuses_what_the_account_calls_home(
    session: Session, log_files: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    home = pwd.getpwuid(os.getuid()).pw_dir
    with pytest.raises(ConflictError, match="home directory|root of the file system"):
        log_files("ds", FILES).checkout(home)


def test_checkout_onto_a_file(session: Session, log_files: Any, make_files: Any) -> None:
    with pytest.raises(ConflictError, match="not a directory"):
        log_files("ds", FILES).checkout(make_files("in", {"f": "x"}) / "f")


@pytest.mark.embedded("what the cache finds wrong is fetched again")
def test_a_checkout_that_fails_deletes_nothing(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", FILES)
    root = Path(log_files("other", {"mine": "mine"}).checkout("out"))
    rot(session, artifact, "d/e/f", b"X")
    with pytest.raises(BadBlobError):
        artifact.checkout(root)
    assert (root / "mine").read_text() == "mine"


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
