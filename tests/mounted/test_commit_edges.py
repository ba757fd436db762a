"""Commits while others use the draft, and after commits that failed (docs/semantics.md, "Commits")."""

from __future__ import annotations

import errno
import json
import mmap
import os
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.errors import ArtfsError, DraftBusyError, NotFoundError, TypeConflictError
from artfs.testing.corner import Corner
from artfs.testing.trees import make, picture


def refused(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as raised:
        call()
    assert raised.value.errno == number


def fail_to_commit(corner: Corner, draft: str = "c") -> None:
    """A commit that gets as far as the catalog, which says no: every file had its name in the store by then."""
    with pytest.raises(TypeConflictError):
        corner.commit(draft, type="model")


@pytest.fixture
def typed(corner: Corner, tmp_path: Path) -> Corner:
    """The collection c holds datasets, so that a model is refused."""
    corner.log(make(tmp_path / "typed", {"file": "v0", "folder/inner": "v0"}), type="dataset")
    return corner


def stored_modes(corner: Corner) -> set[int]:
    blobs = corner.daemon.workspace.blobs_path
    return {stat.S_IMODE(path.stat().st_mode) for path in blobs.glob("*/*")}


# others use it ---------------------------------------------------------------------------------------------------
def test_a_reader_does_not_hinder_a_commit(corner: Corner) -> None:
    draft = corner.begin()
    data = os.urandom(2_000_000)
    (draft / "file").write_bytes(data)
    with (draft / "file").open("rb", buffering=0) as stream:
        assert stream.read(10) == data[:10]
        corner.commit()
        assert stream.read(3_000_000) == data[10:]
        refused(errno.ENOENT, lambda: os.fchmod(stream.fileno(), 0o600))
    assert stored_modes(corner) == {0o444}


def test_a_map_that_is_written_to_counts_as_open(corner: Corner) -> None:
    """Its descriptor may be closed long ago."""
    draft = corner.begin()
    (draft / "file").write_bytes(b"x" * 10_000)
    descriptor = os.open(draft / "file", os.O_RDWR)
    view = mmap.mmap(descriptor, 10_000)
    os.close(descriptor)
    view[0:5] = b"first"
    with pytest.raises(DraftBusyError) as raised:
        corner.commit()
    assert raised.value.paths == ("file",)
    view[5_000:5_004] = b"last"
    view.close()
    corner.commit()
    shown = (corner.path / "c" / "latest" / "file").read_bytes()
    assert (shown[0:5], shown[5_000:5_004], len(shown)) == (b"first", b"last", 10_000)


def test_who_stands_in_a_committed_draft_is_told(corner: Corner) -> None:
    draft = make(corner.begin(), {"folder/file": "words"})
    folder = os.open(draft / "folder", os.O_RDONLY)
    corner.commit()
    assert os.listdir(folder) == []
    refused(errno.ENOENT, lambda: os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    os.close(folder)
    refused(errno.ENOENT, lambda: (draft / "new").touch())
    draft.mkdir()
    assert os.listdir(draft) == []


def test_two_commits_of_one_draft_make_one_version(corner: Corner) -> None:
    draft = corner.begin()
    for number in range(200):
        (draft / f"{number}").write_text(str(number))
    said: list[object] = []

    def commit() -> None:
        try:
            said.append(corner.commit().version)
        except ArtfsError as error:
            said.append(type(error))

    threads = [threading.Thread(target=commit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count("v0") == 1
    assert set(said) <= {"v0", DraftBusyError, NotFoundError}
    assert sorted(os.listdir(corner.path / "c")) == ["latest", "v0"]


def test_writers_during_a_commit_are_refused_or_in_it(corner: Corner) -> None:
    """Whoever got a file closed finds it in the version or in a draft; nothing is half there."""
    draft = corner.begin()
    for number in range(300):
        (draft / f"{number}").write_text("x" * 1000)
    closed: list[str] = []
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            try:
                (draft / f"late-{number}").write_text("late")
                closed.append(f"late-{number}")
            except OSError as error:
                assert error.errno in (errno.EBUSY, errno.ENOENT)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while True:
            try:
                corner.commit()
                break
            except DraftBusyError:
                continue
    finally:
        done.set()
        writer.join()
    version = corner.path / "c" / "v0"
    names = os.listdir(version)
    assert set(closed) == {name for name in names if name.startswith("late-")}
    assert {(version / name).read_text() for name in names} <= {"late", "x" * 1000}
    assert len(names) == 300 + len(closed)


# after a failure -------------------------------------------------------------------------------------------------
def test_a_reader_from_before_a_failed_commit_sees_later_changes(typed: Corner) -> None:
    """And cannot touch the store through its descriptor."""
    draft = typed.begin()
    (draft / "file").write_text("before")
    with (draft / "file").open() as stream:
        fail_to_commit(typed)
        os.fchmod(stream.fileno(), 0o755)
        assert stored_modes(typed) == {0o444} or typed.daemon.workspace.server is not None  # there small ones lie in packs
        with (draft / "file").open("a") as other:
            other.write(" and after")
        assert stream.read() == "before and after"
    assert os.access(draft / "file", os.X_OK)
    os.truncate(draft / "file", 6)
    assert (draft / "file").read_text() == "before"
    typed.commit()
    assert (typed.path / "c" / "v1" / "file").read_text() == "before"
    typed.verify_store()


def test_hard_links_stay_one_file_after_a_failed_commit(typed: Corner) -> None:
    draft = typed.begin()
    (draft / "one").write_text("before")
    os.link(draft / "one", draft / "other")
    fail_to_commit(typed)
    with (draft / "other").open("a") as stream:
        stream.write(" and after")
    shown = (draft / "one").read_text(), (draft / "other").read_text()
    typed.commit()
    version = typed.path / "c" / "v1"
    assert shown == ((version / "one").read_text(), (version / "other").read_text())
    assert shown[1] == "before and after"


def test_attributes_of_hard_links_are_those_of_one_file_after_a_failed_commit(typed: Corner) -> None:
    draft = make(typed.begin(), {"one": "words", "folder/file": "x"})
    os.link(draft / "one", draft / "folder" / "other")
    fail_to_commit(typed)
    (draft / "folder" / "other").chmod(0o755)
    shown = [stat.S_IMODE((draft / name).stat().st_mode) for name in ("one", "folder/other")]
    typed.commit()
    version = typed.path / "c" / "v1"
    assert [stat.S_IMODE((version / name).stat().st_mode) for name in ("one", "folder/other")] == shown
    assert shown[1] == 0o755


def test_a_draft_from_a_version_goes_on_after_a_failed_commit(typed: Corner) -> None:
    draft = typed.begin("c:latest")
    (draft / "added").write_text("added")
    with (draft / "file").open("a") as stream:
        stream.write(" changed")
    (draft / "folder" / "inner").unlink()
    before = picture(draft)
    fail_to_commit(typed, "c:latest")
    assert picture(draft) == before
    os.rename(draft / "added", draft / "folder" / "moved")
    (draft / "file").write_text("again")
    typed.commit("c:latest")
    version = typed.path / "c" / "v1"
    assert (version / "folder" / "moved").read_text() == "added"
    assert (version / "file").read_text() == "again"
    assert sorted(os.listdir(version)) == ["file", "folder"]


def test_times_and_modes_outlive_a_failed_commit(typed: Corner) -> None:
    draft = make(typed.begin(), {"file": "x", "run*": "y"})
    os.utime(draft / "file", ns=(1, 1_500_000_000_000_000_001))
    fail_to_commit(typed)
    assert (draft / "file").stat().st_mtime_ns == 1_500_000_000_000_000_001
    assert os.access(draft / "run", os.X_OK)
    assert not os.access(draft / "file", os.X_OK)


# what is committed -----------------------------------------------------------------------------------------------
def test_an_unchanged_draft_from_a_version_makes_no_version(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "source", {"file": "x", "folder/inner": "y"}))
    draft = corner.begin("c:latest")
    (draft / "new").touch()
    (draft / "new").unlink()
    with (draft / "file").open("r+") as stream:
        stream.write("x")
    os.rename(draft / "folder", draft / "other")
    os.rename(draft / "other", draft / "folder")
    reply = corner.commit("c:latest", aliases=("same",))
    assert (reply.version, reply.created) == ("v0", False)
    assert sorted(os.listdir(corner.path / "c")) == ["latest", "same", "v0"]


def test_mv_commits_a_draft_from_a_version(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "source", {"file": "x"}))
    draft = corner.begin("c:latest")
    (draft / "added").write_text("y")
    subprocess.run(["mv", draft, f"{corner.path / 'c'}/"], check=True)
    corner.refresh()
    assert sorted(os.listdir(corner.path / "c")) == ["latest", "v0", "v1"]
    assert sorted(os.listdir(corner.path / "c" / "latest")) == ["added", "file"]
    assert os.listdir(corner.drafts) == []


def test_what_mv_made_is_a_version(corner: Corner) -> None:
    """Read-only, and under its own names. During a rename nobody can tell the kernel that the folder which it moves is gone:
    that is done right afterwards."""
    (corner.begin() / "file").write_text("x")
    (corner.path / "c").mkdir(parents=True)
    os.rename(corner.drafts / "c", corner.path / "c" / "c")
    while (corner.path / "c" / "c").exists():
        pass
    assert sorted(os.listdir(corner.path / "c")) == ["latest", "v0"]
    refused(errno.EROFS, lambda: (corner.path / "c" / "latest" / "file").write_text("y"))
    refused(errno.ENOENT, lambda: os.listdir(corner.drafts / "c"))


def test_a_draft_may_begin_from_any_version(corner: Corner, tmp_path: Path) -> None:
    members = [corner.log(make(tmp_path / str(n), {"which": str(n)}), aliases=(f"a{n}",)) for n in range(3)]
    at = f"@{members[1].created_at.isoformat()}"
    for name, which in (("c:v0", "0"), ("c:a1", "1"), (f"c:{at}", "1"), ("c:latest", "2")):
        draft = corner.begin(name)
        assert (draft / "which").read_text() == which
        assert os.getxattr(draft, "user.artfs.base") == f"v{which}".encode()
        subprocess.run(["rm", "-r", draft], check=True)
    assert os.listdir(corner.drafts) == []


@pytest.mark.embedded("a server sweeps by itself, and not what was just deleted")
def test_the_base_of_a_draft_may_be_deleted_and_swept(corner: Corner, tmp_path: Path) -> None:
    """What the draft shows of it is kept."""
    corner.log(make(tmp_path / "source", {"file": "x" * 1000, "folder/inner": "y"}))
    draft = corner.begin("c:latest")
    (draft / "added").touch()
    corner.artfs("delete", "--yes", "--delete-aliases", f"{corner.name}/c:v0")
    corner.artfs("gc")
    corner.refresh()
    assert (draft / "file").read_text() == "x" * 1000
    assert (draft / "folder" / "inner").read_text() == "y"
    corner.commit("c:latest")
    assert (corner.path / "c" / "latest" / "file").read_text() == "x" * 1000
    assert corner.artfs("verify", f"{corner.name}/c:latest").returncode == 0


def test_the_command_line_commits_and_says_what(corner: Corner) -> None:
    draft = make(corner.begin(), {"a": "x", "A": "y", "b~": "z"})
    said = corner.artfs(
        "commit", str(draft), "--json", "-m", "rows=3", "--alias", "best", "--tag", "gold", "-d", "words"
    )
    reply = json.loads(said.stdout)
    assert (reply["version"], reply["created"], reply["file_count"]) == ("v0", True, 2)
    assert len(reply["warnings"]) == 2
    root = corner.path / "c" / "best"
    assert json.loads(os.getxattr(root, "user.artfs.metadata")) == {"rows": 3}
    assert os.getxattr(root, "user.artfs.tags") == b"gold"
    assert os.getxattr(root, "user.artfs.description") == b"words"
    again = corner.artfs("commit", f"{corner.name}/c", check=False)
    assert again.returncode != 0
    assert again.stderr.count("\n") == 1
