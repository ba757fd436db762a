"""Folders of a newer artfs: refused in one clear line, with nothing touched."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from artfs.folders import FORMATS, NAME, Part
from artfs.testing.farside import FarWorkspace
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.torture import Tally
from artfs.testing.trees import make
from artfs.transfer.journal import JOURNAL

Artfs = Callable[..., subprocess.CompletedProcess[str]]
MakeDaemon = Callable[..., Daemon]

STORAGE = 9


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
