"""When the mount shows what others did (docs/semantics.md, "Visibility")."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.trees import make

WITHIN_S = 1.0
"""The promise."""

TRIES = 5
"""The promise is a time, and this machine may be busy: one of so many attempts must keep it."""

PATIENCE_S = 30.0


def seconds_until(is_so: Callable[[], bool]) -> float:
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() < begun + PATIENCE_S
        time.sleep(0.005)
    return time.monotonic() - begun


def wait_until(is_so: Callable[[], bool]) -> None:
    seconds_until(is_so)


def version_of(folder: Path) -> bytes:
    return os.getxattr(folder, "user.artfs.version")


# within a second -------------------------------------------------------------------------------------------------
def test_a_moved_alias_shows_within_a_second(corner: Corner, tmp_path: Path) -> None:
    for number in range(2):
        corner.log(make(tmp_path / str(number), {"which": str(number)}), aliases=("best",))
    shown = corner.path / "c" / "best" / "which"
    taken = []
    with corner.session() as other:
        collection = other.catalog.try_collection("local", corner.name, "c")
        assert collection is not None
        members = other.catalog.members(collection.id)
        for attempt in range(TRIES):
            target = attempt % 2
            assert shown.read_text() == str(1 - target)
            other.catalog.set_aliases(members[target].id, add=["best"])
            taken.append(seconds_until(lambda target=target: shown.read_text() == str(target)))
    assert min(taken) < WITHIN_S


def test_a_commit_by_another_process_shows_within_a_second(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "first", {"which": "first"}))
    shown = corner.path / "c"
    assert sorted(os.listdir(shown)) == ["latest", "v0"]
    taken = []
    for attempt in range(1, TRIES + 1):
        source = make(tmp_path / str(attempt), {"which": str(attempt)})
        corner.log(source, refresh=False)
        taken.append(
            seconds_until(lambda attempt=attempt: (shown / "latest" / "which").read_text() == str(attempt))
        )
        assert f"v{attempt}" in os.listdir(shown)
        assert (shown / f"v{attempt}" / "which").read_text() == str(attempt)
    assert min(taken) < WITHIN_S


def test_new_projects_and_collections_show_within_a_second(corner: Corner, tmp_path: Path) -> None:
    assert not corner.path.exists()
    os.listdir(corner.mount)
    taken = []
    for attempt in range(TRIES):
        corner.log(make(tmp_path / str(attempt), {"a": "1"}), f"c{attempt}", refresh=False)
        taken.append(seconds_until((corner.path / f"c{attempt}" / "latest" / "a").exists))
        assert f"c{attempt}" in os.listdir(corner.path)
    assert corner.name in os.listdir(corner.mount)
    assert min(taken) < WITHIN_S


def test_what_the_command_line_did_shows(corner: Corner, tmp_path: Path) -> None:
    """`artfs log`, `alias` and `delete`, each in a process of its own."""
    shown = corner.path / "c"
    corner.artfs("log", make(tmp_path / "one", {"which": "0"}), f"{corner.name}/c")
    wait_until((shown / "v0").exists)
    corner.artfs("log", make(tmp_path / "two", {"which": "1"}), f"{corner.name}/c")
    wait_until((shown / "v1").exists)
    corner.artfs("alias", f"{corner.name}/c:v0", "best")
    wait_until((shown / "best").exists)
    assert (shown / "best" / "which").read_text() == "0"
    assert sorted(os.listdir(shown)) == ["best", "latest", "v0", "v1"]
    corner.artfs("delete", "--yes", "--delete-aliases", f"{corner.name}/c:v0")
    wait_until(lambda: not (shown / "v0").exists())
    assert sorted(os.listdir(shown)) == ["latest", "v1"]


SCRIPT = """
import artfs, sys
with artfs.init(project=sys.argv[1]) as run:
    artifact = artfs.Artifact("c", type="dataset")
    with artifact.new_file("which") as stream:
        stream.write(sys.argv[2])
    run.log_artifact(artifact, aliases=["api"]).wait()
"""


def test_what_the_api_logged_shows(corner: Corner) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, corner.name, "by the API"],
        env=corner.daemon.workspace.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    shown = corner.path / "c" / "api"
    wait_until(shown.exists)
    assert (shown / "which").read_text() == "by the API"


def test_metadata_changed_by_another_process_shows(corner: Corner, tmp_path: Path) -> None:
    member = corner.log(make(tmp_path / "one", {"which": "0"}))
    root = corner.path / "c" / "latest"
    assert os.getxattr(root, "user.artfs.description") == b""
    with corner.session() as other:
        other.catalog.update_version(member.version.id, description="now described", add_tags=["gold"])
    wait_until(lambda: os.getxattr(root, "user.artfs.description") == b"now described")
    assert os.getxattr(root, "user.artfs.tags") == b"gold"


def test_what_was_made_is_there_at_once(workspace: Workspace, make_daemon: Callable[..., Daemon]) -> None:
    """A slower look at the catalog, begun before, does not hide it again (here it looks a thousand times a second)."""
    daemon = make_daemon(workspace, environ={"ARTFS_POLL_S": "0.001"}).start()
    for number in range(50):
        path = daemon.mountpoint / f"project-{number}"
        path.mkdir()
        (path / "c").mkdir()
        for _ in range(3):
            assert path.name in os.listdir(daemon.mountpoint)
            assert os.listdir(path) == ["c"]
            with pytest.raises(FileExistsError):
                path.mkdir()


# whoever is inside stays -----------------------------------------------------------------------------------------
def test_who_stands_in_an_alias_stays_in_its_version(corner: Corner, tmp_path: Path) -> None:
    """A process whose working directory it is, open files and open directories."""
    corner.log(make(tmp_path / "one", {"which": "0", "folder/inner": "0", "only in v0": ""}))
    alias = corner.path / "c" / "latest"
    standing = subprocess.Popen(
        ["sh", "-c", "read line; cat which folder/inner; ls; readlink -f .; read line"],
        cwd=alias,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    below = subprocess.Popen(
        ["sh", "-c", "read line; cat inner ../which"],
        cwd=alias / "folder",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    folder = os.open(alias, os.O_RDONLY)
    inner = os.open(alias / "folder", os.O_RDONLY)
    with (alias / "which").open() as stream:
        corner.log(make(tmp_path / "two", {"which": "1", "folder/inner": "1"}))
        assert (alias / "which").read_text() == "1"
        assert stream.read() == "0"
        assert sorted(os.listdir(folder)) == ["folder", "only in v0", "which"]
        for name, descriptor in (("which", folder), ("folder/inner", folder), ("inner", inner)):
            reopened = os.open(name, os.O_RDONLY, dir_fd=descriptor)
            assert os.read(reopened, 10) == b"0"
            os.close(reopened)
        assert version_of(alias) == b"v1"
        assert os.getxattr(f"/proc/self/fd/{folder}", "user.artfs.version") == b"v0"
    os.close(folder)
    os.close(inner)
    said, _ = standing.communicate("go\nend\n")
    assert said.startswith("00folder\nonly in v0\nwhich\n")
    assert below.communicate("go\n")[0] == "00"


def test_a_walk_that_has_begun_ends_in_its_version(corner: Corner, tmp_path: Path) -> None:
    names = {f"folder {number}/file": "old" for number in range(20)}
    corner.log(make(tmp_path / "one", names))
    walk = os.fwalk(corner.path / "c" / "latest")
    next(walk)
    corner.log(make(tmp_path / "two", dict.fromkeys(names, "new")))
    seen = []
    for _, _, files, descriptor in walk:
        for name in files:
            opened = os.open(name, os.O_RDONLY, dir_fd=descriptor)
            seen.append(os.read(opened, 10))
            os.close(opened)
    assert seen == [b"old"] * 20


def test_an_alias_that_did_not_move_keeps_its_inode(corner: Corner, tmp_path: Path) -> None:
    """Other names of the collection moved; whoever looks at this one sees the same directory, with its cache."""
    corner.log(make(tmp_path / "one", {"which": "0"}), aliases=("best",))
    before = (corner.path / "c" / "best").stat().st_ino
    latest = (corner.path / "c" / "latest").stat().st_ino
    corner.log(make(tmp_path / "two", {"which": "1"}))
    assert (corner.path / "c" / "best").stat().st_ino == before
    assert (corner.path / "c" / "latest").stat().st_ino != latest


# deleted versions ------------------------------------------------------------------------------------------------
def test_a_deleted_version_vanishes(corner: Corner, tmp_path: Path) -> None:
    members = [corner.log(make(tmp_path / str(n), {"which": str(n)}), aliases=(f"a{n}",)) for n in range(2)]
    shown = corner.path / "c"
    at = shown / f"@{members[0].created_at.isoformat()}"
    assert (shown / "v0" / "which").read_text() == (at / "which").read_text() == "0"
    with corner.session() as other:
        other.catalog.delete_version(members[0].id, delete_aliases=True)
    corner.refresh()
    assert sorted(os.listdir(shown)) == ["a1", "latest", "v1"]
    for name in ("v0", "a0"):
        with pytest.raises(FileNotFoundError):
            os.stat(shown / name)
        with pytest.raises(FileNotFoundError):
            (shown / name / "which").read_text()


@pytest.mark.embedded("a server sweeps by itself, and not what was just deleted")
def test_an_open_file_of_a_deleted_version_stays_readable(corner: Corner, tmp_path: Path) -> None:
    """Also after the blob was collected, and where none of its pages was read before."""
    data = os.urandom(3_000_000)
    member = corner.log(make(tmp_path / "one", {"large": data, "small": "words"}))
    corner.log(make(tmp_path / "two", {"which": "1"}))
    shown = corner.path / "c" / "v0"
    with (
        (shown / "large").open("rb", buffering=0) as large,
        (shown / "small").open("rb", buffering=0) as small,
    ):
        digest = os.getxattr(shown / "large", "user.artfs.digest").decode()
        corner.artfs("delete", "--yes", f"{corner.name}/c:v0")
        corner.artfs("gc")
        with corner.session() as other:
            assert other.store.try_size(digest) is None
            with pytest.raises(Exception, match="v0"):
                other.catalog.resolve("local", corner.name, "c", "v0")
        corner.refresh()
        assert not shown.exists()
        assert large.read(10_000_000) == data
        assert small.read() == b"words"
    assert member.index == 0


# two mounts ------------------------------------------------------------------------------------------------------
def test_two_mounts_of_one_state_folder(
    corner: Corner, workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """Both show the versions; the second one has no drafts, and says so."""
    daemon = make_daemon(workspace, ("--home", str(corner.daemon.workspace.home)), corner.daemon.workspace.environ).start()
    corner.log(make(tmp_path / "one", {"which": "0"}))
    assert (corner.path / "c" / "v0" / "which").read_text() == "0"
    wait_until((workspace.mountpoint / corner.name / "c" / "v0" / "which").exists)
    assert "drafts" in os.listdir(corner.mount)
    assert "drafts" not in os.listdir(workspace.mountpoint)
    assert not (workspace.mountpoint / "drafts").exists()
    assert daemon.status_file()["serves_drafts"] is False
    assert corner.daemon.status_file()["serves_drafts"] is True
    assert "another daemon serves the drafts" in daemon.log()
