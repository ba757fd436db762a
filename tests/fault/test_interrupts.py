"""Ctrl-C and kill -9 of add_dir, save and download, at fifty moments: no half-made version, no wrong file, and nothing that
grows."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.testing.crash import Toll
from artfs.testing.interrupting import Interrupted
from artfs.testing.mount import Workspace
from artfs.testing.outside import StateFolder

HERE = Path(__file__).parent
LARGE = 3_000_000

MOMENTS = [
    *(("add_dir", sent) for sent in [signal.SIGKILL, signal.SIGINT] * 8),
    *(("save", sent) for sent in [signal.SIGKILL, signal.SIGINT] * 8),
]
DOWNLOADS = [signal.SIGKILL, signal.SIGINT] * 9


@pytest.fixture
def interrupted(workspace: Workspace) -> Iterator[Interrupted]:
    workspace.artfs("ls")  # makes the state folder
    with contextlib.closing(Interrupted(HERE / "interrupted.py", workspace.environ)) as started:
        yield started


def make_files(folder: Path, seed: str, count: int, dirs: int) -> dict[str, str]:
    """Path -> digest of what was made."""
    made = {}
    for number in range(count + 1):
        path = folder / f"d{number % dirs}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = f"{seed} {number} ".encode() * (LARGE // 20 if number == count else 50)
        path.write_bytes(data)
        made[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return made


def files(folder: Path) -> dict[str, str]:
    """Path -> digest of every file that one sees in it (so, not in the hidden folders of downloads)."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".artfs-")
    }


def hidden(folder: Path) -> list[Path]:
    return list(folder.rglob(".artfs-*"))


def test_logging_that_is_interrupted_leaves_a_version_or_nothing(
    workspace: Workspace, interrupted: Interrupted, chance: random.Random, toll: Toll
) -> None:
    state = StateFolder(workspace.home)
    source = workspace.path / "source"
    make_files(source / "whole", "whole", 120, 5)
    # The store's folders save steps when they are there already, so all are from the first.
    for fan in range(256):
        (workspace.home / "store" / "blobs" / f"{fan:02x}").mkdir(parents=True)
    lived = interrupted.run("log", name="whole", source=str(source / "whole"))
    assert not lived.early
    early = 0
    for number, (phase, sent) in enumerate(MOMENTS):
        name, folder = f"c{number}", source / str(number)
        wanted = make_files(folder, name, 120, 5)
        before = state.versions()
        step = chance.randint(1, max(1, lived.steps[phase] * 9 // 10))
        end = interrupted.run("log", phase, step, sent, name=name, source=str(folder))
        end.check(sent)
        early += end.early
        if end.early:
            toll.count("add_dir, save", f"{phase}, {signal.Signals(sent).name}")
        made = state.versions().keys() - before.keys()
        assert made in (set(), {f"p/{name}:v0"})
        if made:
            assert state.content(f"p/{name}:v0") == wanted
        again = interrupted.run("log", name=name, source=str(folder))
        assert not again.early, again
        assert state.content(f"p/{name}:v0") == wanted
        assert state.versions().keys() - before.keys() == {f"p/{name}:v0"}  # the same content, no second version
        assert state.leftovers() == []
    assert early >= len(MOMENTS) - 4
    state.verify()


def test_a_download_that_is_interrupted_leaves_whole_files(
    workspace: Workspace, interrupted: Interrupted, chance: random.Random, toll: Toll
) -> None:
    source = workspace.path / "source"
    wanted = make_files(source, "data", 1200, 6)
    assert not interrupted.run("log", name="data", source=str(source)).early
    lived = interrupted.run("download", name="data:v0", dest=str(workspace.path / "lived"))
    assert not lived.early
    assert files(workspace.path / "lived") == wanted
    early = 0
    for number, sent in enumerate(DOWNLOADS):
        dest = workspace.path / f"dest{number}"
        if number % 3 == 2:  # into a folder that has something, also of this name
            (dest / "d1").mkdir(parents=True)
            (dest / "d1" / "f1").write_bytes(b"something else")
            (dest / "mine").write_bytes(b"mine")
        # How much a helper takes off it differs from one to the next.
        step = chance.randint(1, max(1, lived.steps["download"] * 6 // 10))
        end = interrupted.run("download", "download", step, sent, name="data:v0", dest=str(dest))
        end.check(sent)
        early += end.early
        if end.early:
            toll.count("download", f"download, {signal.Signals(sent).name}")
        check_part(dest, wanted)
        if sent == signal.SIGINT:
            assert hidden(dest) == []
        elif dest.exists():
            assert len({path.relative_to(dest).parts[0] for path in hidden(dest)}) <= 1
            wait_for_helpers(dest)
            check_part(dest, wanted)
        again = interrupted.run("download", name="data:v0", dest=str(dest))
        assert not again.early, again
        assert hidden(dest) == []
        assert {path: digest for path, digest in files(dest).items() if path != "mine"} == wanted
    assert early >= len(DOWNLOADS) - 6


def check_part(dest: Path, wanted: dict[str, str]) -> None:
    """Every file that is there has its whole content (or what it had before)."""
    before = hashlib.sha256(b"something else").hexdigest()
    for path, digest in files(dest).items():
        if path != "mine":
            assert digest == wanted[path] or (path == "d1/f1" and digest == before), path


def wait_for_helpers(dest: Path) -> None:
    """A killed download's helpers finish the files that they have, and hold the lock until then."""
    for path in hidden(dest):
        if path.is_dir():
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.close(fd)
