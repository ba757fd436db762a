"""Bind mounts and namespaces (containers): who shows a mount somewhere else, and what becomes of that."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace, is_mounted
from artfs.testing.torture import Tally
from artfs.testing.trees import make, picture

MakeDaemon = Callable[..., Daemon]


def run(*command: str | os.PathLike[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails_with(number: int, path: Path) -> bool:
    try:
        os.listdir(path)
    except OSError as error:
        return error.errno == number
    return False


class Container:
    """A mount namespace of its own, with a process in it; mounts propagate to it as `propagation` says."""

    def __init__(self, propagation: str) -> None:
        # `cat` holds the namespace until its input ends.
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", propagation, "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"\n"

    def run(self, *command: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
        """A program in it."""
        return subprocess.run(
            ["nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", *command],
            capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip

    def read(self, path: Path) -> str:
        """What a file there holds, or why it cannot be read."""
        done = self.run("cat", path)
        return done.stdout if done.returncode == 0 else done.stderr.rpartition(": ")[2].strip()

    def end(self) -> None:
        self._process.communicate()


@pytest.fixture
def shared(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose folder is a mount that passes on what is mounted below it, as systemd makes `/`."""
    run("mount", "--bind", workspace.path, workspace.path)
    run("mount", "--make-shared", workspace.path)
    yield workspace
    run("umount", "--recursive", "--lazy", workspace.path)


@pytest.fixture
def container() -> Iterator[Callable[[str], Container]]:
    made: list[Container] = []

    def make_one(propagation: str) -> Container:
        made.append(Container(propagation))
        return made[-1]

    yield make_one
    for one in made:
        one.end()


@pytest.fixture
def elsewhere(workspace: Workspace) -> Iterator[Path]:
    """An empty folder, from which what is mounted is taken away in the end."""
    path = workspace.path / "elsewhere"
    path.mkdir()
    yield path
    while is_mounted(path):
        run("umount", "--lazy", path)


def test_a_bind_mount_is_the_mount(daemon: Daemon, elsewhere: Path, tmp_path: Path, tally: Tally) -> None:
    """Also for drafts, and of a single version."""
    corner = Corner(daemon, "p")
    source = make(tmp_path / "source", {"file": "content", "folder/inner": "x"})
    corner.log(source)
    run("mount", "--bind", daemon.mountpoint, elsewhere)
    assert picture(elsewhere / "p" / "c" / "latest") == picture(source)
    assert (elsewhere / "p").stat().st_ino == corner.path.stat().st_ino
    draft = corner.begin("c:latest")
    (elsewhere / "drafts" / "p" / "c:latest" / "file").write_text("changed")
    assert (draft / "file").read_text() == "changed"
    # In use through the other name: as through its own.
    with (elsewhere / "drafts" / "p" / "c:latest" / "file").open("a"):
        done = corner.artfs("commit", "p/c:latest", check=False)
        assert (done.returncode, "open for writing" in done.stderr) == (5, True)
    corner.artfs("commit", "p/c:latest")
    assert (elsewhere / "p" / "c" / "latest" / "file").read_text() == "changed"
    run("umount", elsewhere)
    # One version alone, as one would give it to a container: it stays that version.
    run("mount", "--bind", "-o", "ro", corner.path / "c" / "latest", elsewhere)
    corner.log(make(tmp_path / "more", {"file": "later"}))
    assert (corner.path / "c" / "latest" / "file").read_text() == "later"
    assert (elsewhere / "file").read_text() == "changed"
    tally("bind mounts", 2)


@pytest.mark.parametrize("end", ["umount", "SIGTERM"])
def test_the_end_does_not_wait_for_bind_mounts_and_containers(
    daemon: Daemon, elsewhere: Path, container: Callable[[str], Container], end: str, tally: Tally
) -> None:
    """Their file system is gone then (ENOTCONN), and they can be unmounted."""
    run("mount", "--bind", daemon.mountpoint, elsewhere)
    inside = container("private")
    assert inside.run("ls", daemon.mountpoint).stdout == "drafts\n"
    if end == "umount":
        daemon.workspace.artfs("umount", daemon.mountpoint)
    else:
        daemon.terminate()
    assert daemon.wait() == 0
    assert not is_mounted(daemon.mountpoint)
    assert fails_with(errno.ENOTCONN, elsewhere)
    assert os.strerror(errno.ENOTCONN) in inside.run("ls", daemon.mountpoint).stderr
    run("umount", elsewhere)
    assert inside.run("umount", daemon.mountpoint).returncode == 0
    daemon.start()
    assert os.listdir(daemon.mountpoint) == ["drafts"]
    tally("ends behind bind mounts and containers")


def test_a_mountpoint_that_somebody_took_away(daemon: Daemon, elsewhere: Path, tally: Tally) -> None:
    """The daemon serves what else shows its file system; `artfs umount` ends it all the same, and a new one is refused until
    then, in a line that says what to do."""
    run("mount", "--bind", daemon.mountpoint, elsewhere)
    run("umount", daemon.mountpoint)
    assert os.listdir(elsewhere) == ["drafts"]
    assert daemon.is_running
    refused = daemon.workspace.artfs("mount", daemon.mountpoint, check=False)
    assert refused.returncode
    assert f"{daemon.mountpoint} is served by a running artfs already" in refused.stderr
    assert f"`artfs umount {daemon.mountpoint}` first" in refused.stderr
    daemon.workspace.artfs("umount", daemon.mountpoint)
    assert daemon.wait() == 0
    tally("mountpoints that were taken away")


def test_a_daemon_that_comes_back_shows_in_containers_whose_mounts_follow(
    shared: Workspace, make_daemon: MakeDaemon, container: Callable[[str], Container], tmp_path: Path, tally: Tally
) -> None:
    """`rslave` (Docker's, Kubernetes' HostToContainer): mounts of the machine show in the container, later ones too. `private`:
    it keeps what there was when it began, which is dead then."""
    daemon = make_daemon(shared).start()
    Corner(daemon, "p").log(make(tmp_path / "source", {"file": "content"}))
    following, private = container("slave"), container("private")
    file = daemon.mountpoint / "p" / "c" / "latest" / "file"
    assert following.read(file) == private.read(file) == "content"
    daemon.kill()
    dead = os.strerror(errno.ENOTCONN)
    assert (following.read(file), private.read(file)) == (dead, dead)
    daemon.start()
    assert file.read_text() == "content"
    assert (following.read(file), private.read(file)) == ("content", dead)
    late = container("private")
    assert late.read(file) == "content"
    # What a container mounts or takes away is its own.
    assert private.run("umount", daemon.mountpoint).returncode == 0
    assert file.read_text() == following.read(file) == "content"
    tally("daemons that came back behind containers", 3)


def test_a_daemon_in_a_container_shows_outside_where_mounts_are_shared(
    shared: Workspace, container: Callable[[str], Container], tmp_path: Path, tally: Tally
) -> None:
    """`rshared` (Bidirectional): a mount that is made in the container shows outside, and goes when it is ended there."""
    inside = container("unchanged")
    account = shared.account
    environ = [f"{name}={value}" for name, value in shared.environ.items() if name.startswith(("ARTFS_", "PYTHONPATH"))]
    command = ["env", *environ, account.python, "-m", "artfs.cli"]
    source = make(tmp_path / "source", {"file": "content"})
    assert inside.run(*command, "log", source, "p/c").returncode == 0
    assert inside.run(*command, "mount", shared.mountpoint).returncode == 0
    try:
        assert (shared.mountpoint / "p" / "c" / "latest" / "file").read_text() == "content"
    finally:
        assert inside.run(*command, "umount", shared.mountpoint).returncode == 0
    assert not is_mounted(shared.mountpoint)
    tally("daemons in containers")
