"""Programs that ask much of a file system work in drafts (docs/semantics.md, "Drafts"): SQLite with a write-ahead log, git, pip,
vim, writers of checkpoints. What they made is then right in the version, too."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.trees import make, picture


def run(*command: str | os.PathLike[str], cwd: Path | None = None, **environ: str) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environ})
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


# SQLite ---------------------------------------------------------------------------------------------------------------
WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
assert database.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
database.execute("CREATE TABLE t (round INTEGER, x BLOB)")
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    database.execute("BEGIN")
    database.executemany("INSERT INTO t VALUES (?, randomblob(500))", [(number,)] * 20)
    database.execute("COMMIT")
    if number % 7 == 6:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
"""

READER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60)
seen = 0
while seen < int(sys.argv[2]):
    for number, count in database.execute("SELECT round, count(*) FROM t GROUP BY round"):
        assert count == 20, (number, count)
        seen = max(seen, number + 1)
assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
"""

CLOSE = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
database.close()
"""


def test_a_database_with_a_write_ahead_log_is_written_and_read_at_once(corner: Corner) -> None:
    """Two processes share its index by a map, and see whole transactions only."""
    path, rounds = corner.begin() / "data.db", "40"
    with subprocess.Popen([sys.executable, "-c", WRITER, path, rounds], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        run(sys.executable, "-c", READER, path, rounds)
        assert writer.wait() == 0
    run(sys.executable, "-c", CLOSE, path)  # both of them ended at once, so each may have left that to the other
    assert os.listdir(path.parent) == ["data.db"]
    corner.commit()
    version = f"file:{corner.path / 'c' / 'latest' / 'data.db'}?immutable=1"
    count = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1], uri=True).execute('SELECT count(*) FROM t').fetchone())"
    assert run(sys.executable, "-c", count, version) == f"({20 * int(rounds)},)\n"


# git ------------------------------------------------------------------------------------------------------------------
PERSON = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"), ("DATE", "2026-01-01T00:00:00Z"))
}


def git(where: Path, *arguments: str | Path) -> str:
    config = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    return run("git", "-c", "safe.directory=*", "-c", "core.fsync=all", "-C", where, *arguments, **PERSON, **config)


def test_git_commits_and_clones_in_a_draft(corner: Corner) -> None:
    """Its objects are read-only files, linked to a clone of the same file system; gc packs them and maps the packs."""
    draft, dice = corner.begin(), random.Random(0)
    origin, clone = draft / "origin", draft / "clone"
    git(draft, "init", "--quiet", "--initial-branch=main", origin)
    for number in range(4):
        for name in range(12):
            (origin / f"file {name}").write_bytes(dice.randbytes(2000) if name % 4 == number else b"text %d\n" % name)
        (origin / f"run{number}").write_text("#!/bin/sh\n")
        (origin / f"run{number}").chmod(0o755)
        git(origin, "add", "--all")
        git(origin, "commit", "--quiet", "-m", f"commit {number}")
    git(origin, "branch", "other", "HEAD~2")
    git(draft, "clone", "--quiet", origin, clone)
    git(origin, "gc", "--quiet", "--prune=now")
    git(clone, "switch", "--quiet", "other")
    git(clone, "switch", "--quiet", "main")
    (clone / "run0").unlink()
    git(clone, "commit", "--quiet", "--all", "-m", "in the clone")
    git(clone, "push", "--quiet", "origin", "HEAD:refs/heads/pushed")
    for repository in (origin, clone):
        assert git(repository, "status", "--porcelain") == ""
        git(repository, "fsck", "--full", "--strict")
    log = git(clone, "log", "--stat", "--all")
    corner.commit()
    version = corner.path / "c" / "latest" / "clone"
    git(version, "--no-optional-locks", "fsck", "--full", "--strict")
    assert git(version, "--no-optional-locks", "log", "--stat", "--all") == log


# pip ------------------------------------------------------------------------------------------------------------------
def wheel(folder: Path) -> Path:
    """A package with a module, data and a command."""
    info = "small-1.0.dist-info"
    files = {
        "small/__init__.py": "from pathlib import Path\nTOLD = (Path(__file__).parent / 'data.txt').read_text()\n",
        "small/data.txt": "told by data",
        "small/main.py": "def main():\n    print('ran')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nsmall = small.main:main\n",
    }
    path = folder / "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
        packed.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))
    return path


def test_pip_installs_into_a_draft(corner: Corner, tmp_path: Path) -> None:
    """Also over what is there, which it moves away and removes."""
    draft = corner.begin()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "install", "--no-index", "--no-deps"]
    for more in ([], ["--upgrade"]):
        run(*pip, *more, "--target", draft / "lib", wheel(tmp_path), PIP_ROOT_USER_ACTION="ignore")
    corner.commit()
    lib = corner.path / "c" / "latest" / "lib"
    assert run(sys.executable, "-c", "import small; print(small.TOLD)", PYTHONPATH=str(lib)) == "told by data\n"
    assert run(lib / "bin" / "small", PYTHONPATH=str(lib)) == "ran\n"


# vim ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["auto", "yes", "no"])
def test_vim_edits_a_file_of_a_draft(corner: Corner, tmp_path: Path, how: str) -> None:
    """With a swap file, a backup, and either way of saving: in place, or as a new file of the name."""
    source = make(tmp_path / "source", {"file*": "one\nwords\nthree\n"})
    corner.log(source)
    draft = corner.begin("c:latest")
    settings = f"set swapfile directory=. backup writebackup backupdir=. backupskip= backupcopy={how} fsync"
    vim = ["vim.tiny", "-N", "-u", "NONE", "-i", "NONE", "-es", "--cmd", settings]
    run(*vim, "-c", "%s/words/edited/", "-c", "write", "-c", "$s/e$/e\\rfour/", "-c", "wq", "file", cwd=draft)
    assert (draft / "file").read_text() == "one\nedited\nthree\nfour\n"
    assert (draft / "file~").read_text() in ("one\nwords\nthree\n", "one\nedited\nthree\n")
    assert sorted(os.listdir(draft)) == ["file", "file~"]
    assert (draft / "file").stat().st_mode & 0o777 == 0o755
    assert corner.commit("c:latest").warnings == ("ignored 1: file~",)
    shown = picture(corner.path / "c" / "latest")
    assert list(shown) == ["file"]
    assert shown["file"].executable


# checkpoints ----------------------------------------------------------------------------------------------------------
def save(path: Path, step: int) -> None:
    """As a trainer does: a zip file that is written beside it, with sizes patched in afterwards, made durable, moved over it."""
    dice, temp = random.Random(step), path.with_suffix(".tmp")
    with temp.open("wb") as stream:
        with zipfile.ZipFile(stream, "w") as packed:
            for name in range(5):
                with packed.open(f"archive/data/{name}", "w") as entry:
                    for _ in range(4):
                        entry.write(dice.randbytes(60_000))
            packed.writestr("archive/step", str(step))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temp, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def load(path: Path) -> int:
    with zipfile.ZipFile(path) as packed:
        step, dice = int(packed.read("archive/step")), random.Random(int(packed.read("archive/step")))
        for name in range(5):
            assert packed.read(f"archive/data/{name}") == b"".join(dice.randbytes(60_000) for _ in range(4))
        return step


def test_checkpoints_are_always_whole(corner: Corner) -> None:
    """Whoever holds an older one open reads it to its end."""
    draft = corner.begin()
    path = draft / "model.pt"
    save(path, 0)
    for step in range(1, 6):
        with path.open("rb") as older:
            save(path, step)
            assert load(path) == step
            with zipfile.ZipFile(older) as packed:
                assert packed.testzip() is None
                assert packed.read("archive/step") == b"%d" % (step - 1)
    assert os.listdir(draft) == ["model.pt"]
    corner.commit()
    assert load(corner.path / "c" / "latest" / "model.pt") == 5


def test_a_checkpoint_is_filled_through_a_map(corner: Corner) -> None:
    """Made at its full length first, then written in any order, as numpy's memmap and writers of shards do."""
    size, dice = 3_000_000, random.Random(1)
    data, path = dice.randbytes(size), corner.begin() / "shard.bin"
    script = """
import mmap, os, sys
size = int(sys.argv[2])
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, size)
data = sys.stdin.buffer.read()
with mmap.mmap(fd, size) as view:
    for at in sorted(range(0, size, 70_001), key=lambda at: at * 7919 % 1009):
        view[at:at + 70_001] = data[at:at + 70_001]
    view.flush()
"""
    subprocess.run([sys.executable, "-c", script, path, str(size)], input=data, check=True)
    corner.commit()
    found = (corner.path / "c" / "latest" / "shard.bin").read_bytes()
    assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()
