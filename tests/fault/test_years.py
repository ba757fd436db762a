"""Folders of a newer artfs: refused in one clear line, with nothing touched."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from artfs.folders import FORMATS, NAME, Part
from artfs.testing.farside import FarWorkspace
from artfs.testing.mount import Daemon, Workspace, is_mounted
from artfs.testing.torture import Tally
from artfs.testing.trees import make
from artfs.testing.waiting import until
from artfs.transfer.journal import JOURNAL

Artfs = Callable[..., subprocess.CompletedProcess[str]]
MakeDaemon = Callable[..., Daemon]

STORAGE = 9
RCLONE = Path(sys.executable).with_name("rclone")


def newer(folder: Path, part: Part) -> None:
    (folder / NAME).write_text(json.dumps({"format": FORMATS[part] + 1, "something": "else"}))


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    """What is in a folder: sizes, times and bytes. SQLite's own files beside a database come and go by reading."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and not path.name.endswith(("-wal", "-shm"))
    }


@pytest.fixture
def home(workspace: Workspace, artfs: Artfs, make_daemon: MakeDaemon) -> Path:
    """A state folder with a version, and a draft in the middle of a commit, as a newer artfs may have left it."""
    make(workspace.path / "source", {"file": "content"})
    assert artfs("log", workspace.path / "source", "demo/c").returncode == 0
    daemon = make_daemon(workspace).start()
    draft = daemon.mountpoint / "drafts" / "demo" / "d"
    draft.mkdir(parents=True)
    (draft / "mine").write_text("mine")
    daemon.terminate()
    (workspace.home / "drafts" / "local" / "demo" / "d" / JOURNAL).write_bytes(b"what only a newer artfs understands")
    return workspace.home


@pytest.mark.parametrize("part", ["state", "store", "drafts"])
def test_a_newer_state_folder_is_refused(
    workspace: Workspace, home: Path, artfs: Artfs, make_daemon: MakeDaemon, part: Part, tally: Tally
) -> None:
    """Journals, records of hashes, and what a draft knows of itself are below the drafts' number."""
    folder = home if part == "state" else home / part
    newer(folder, part)
    before = everything(home)
    known = FORMATS[part]
    line = f"{folder} was made by a newer artfs (its format is {known + 1}, this program knows {known}): update artfs"
    commands: list[tuple[str | os.PathLike[str], ...]] = [
        ("commit", "demo/d"), ("draft", "list"), ("draft", "abandon", "demo/d", "--yes"), ("gc",), ("status",),
    ]  # fmt: skip
    if part != "drafts":
        commands += [("ls", "demo/c"), ("log", workspace.path / "source", "demo/other"), ("verify", "demo/c")]
    for command in commands:
        done = artfs(*command)
        assert (done.returncode, done.stderr) == (STORAGE, f"artfs: {line}\n"), command
        tally("commands on folders of a newer artfs")
    code, said = make_daemon(workspace).failed_start()
    assert (code, said.splitlines()[-1]) == (1, f"artfsd: {line}")
    after = everything(home)
    after = {name: what for name, what in after.items() if not name.startswith(("run/", "catalog.db.lock"))}
    before = {name: what for name, what in before.items() if not name.startswith(("run/", "catalog.db.lock"))}
    assert after == before
    (folder / NAME).unlink()
    assert artfs("ls", "demo/c").returncode == 0


def test_a_newer_catalog_is_refused(workspace: Workspace, home: Path, artfs: Artfs, make_daemon: MakeDaemon) -> None:
    with closing(sqlite3.connect(home / "catalog.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    done = artfs("ls", "demo/c")
    assert done.returncode == 10
    assert "was made by a newer artfs (its schema is 9999, this program knows " in done.stderr
    assert "Traceback" not in done.stderr
    code, said = make_daemon(workspace).failed_start()
    assert code == 1
    assert "update artfs" in said.splitlines()[-1]


@pytest.mark.parametrize("what", ["format", "index", "names"])
def test_a_newer_cache_is_refused(far: FarWorkspace, make_daemon: MakeDaemon, what: str) -> None:
    """The names that were seen are in the state folder, beside the drafts of that server."""
    make(far.path / "source", {"file": "content"})
    far.artfs("log", far.path / "source", "demo/c")
    far.artfs("ls", "demo/c")
    cache = far.settings.cache_path
    database = {"index": cache / "index.db", "names": far.settings.state_path / "names.db"}.get(what)
    if database is None:
        newer(cache, "cache")
    else:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA user_version = 99")
    done = far.artfs("cat", "demo/c:latest/file", check=False)
    assert done.returncode == STORAGE
    assert "was made by a newer artfs" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    code, said = make_daemon(far).failed_start()
    assert code == 1
    assert "was made by a newer artfs" in said.splitlines()[-1]
    if database is not None:
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (99,)


@pytest.fixture
def remote_folder(workspace: Workspace) -> Iterator[Path]:
    """A folder behind a file system of a network that this machine can mount: rclone's."""
    source, mountpoint = workspace.path / "remote", workspace.path / "remote-mnt"
    source.mkdir()
    mountpoint.mkdir()
    command = [RCLONE, "--config", "/dev/null", "mount", source, mountpoint, "--vfs-cache-mode", "off"]
    with subprocess.Popen([*command, "--cache-dir", workspace.path / "rclone"], stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: is_mounted(mountpoint), "rclone mounts")
            yield mountpoint
        finally:
            subprocess.run(["fusermount3", "-u", mountpoint], check=True)
            process.wait()


def test_a_state_folder_on_a_file_system_of_a_network_is_refused(
    workspace: Workspace, artfs: Artfs, remote_folder: Path, tmp_path: Path, make_daemon: MakeDaemon
) -> None:
    """Before anything is made there; by commands, daemons and servers. So is a cache."""
    home = remote_folder / "home"
    line = (
        f"artfs: {home} is on a file system (fuse.rclone) on which SQLite's locks are not safe: "
        "set ARTFS_HOME to a folder on a disk of this machine\n"
    )
    for command in (("ls",), ("log", tmp_path, "p/c"), ("gc",)):
        done = artfs(*command, ARTFS_HOME=str(home))
        assert (done.returncode, done.stderr) == (2, line), command
    daemon = make_daemon(workspace)
    daemon.command = lambda: [str(home) if word == str(workspace.home) else word for word in Daemon.command(daemon)]  # type: ignore[method-assign]
    code, said = daemon.failed_start()
    assert (code, "ARTFS_HOME" in said.splitlines()[-1]) == (1, True)
    served = artfs("serve", "--no-auth", "--listen", "127.0.0.1:0", ARTFS_HOME=str(home))
    assert served.returncode == 2
    assert "(fuse.rclone)" in served.stderr
    cache = remote_folder / "cache"
    done = artfs("ls", ARTFS_CACHE_PATH=str(cache), ARTFS_SERVER="http://127.0.0.1:9")
    assert (done.returncode, "set ARTFS_CACHE_PATH to" in done.stderr) == (2, True)
    assert os.listdir(remote_folder) == []


def test_an_older_state_folder_is_used(workspace: Workspace, home: Path, artfs: Artfs, make_daemon: MakeDaemon) -> None:
    """Of a time when folders had no number."""
    (home / "drafts" / "local" / "demo" / "d" / JOURNAL).unlink()
    for folder in (home, home / "store", home / "drafts"):
        (folder / NAME).unlink()
    daemon = make_daemon(workspace).start()
    assert (daemon.mountpoint / "demo" / "c" / "latest" / "file").read_text() == "content"
    assert (daemon.mountpoint / "drafts" / "demo" / "d" / "mine").read_text() == "mine"
    daemon.terminate()
    assert artfs("commit", "demo/d").returncode == 0
    for folder in (home, home / "store", home / "drafts"):
        assert (folder / NAME).exists()
