"""A power cut at every write of a commit: the catalog opens, each version is whole or absent, and the draft survives, or is
committed.

A commit runs over a disk that writes down what happens to it (recording_disk.py); artfs.testing.powercut then makes of each
prefix what a disk may hold after a power cut: what was not synced is dropped, torn, or kept, and directories are rolled back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from artfs.api.session import open_session
from artfs.cli.checks import check_catalog, check_folder
from artfs.model.draft import DraftInfo
from artfs.settings import load_settings
from artfs.store import recovery
from artfs.store.staging import DraftArea
from artfs.testing.mount import Workspace
from artfs.testing.outside import StateFolder
from artfs.testing.powercut import Disk, Survival, restarted, signature
from artfs.testing.recordingdisk import DiskVictims, RecordingDisk
from artfs.testing.store_contract import some_bytes
from artfs.testing.torture import Tally
from artfs.transfer.begin import begin_draft
from artfs.transfer.verify import verify_version

HERE = Path(__file__).parent
LARGE = 1_100_000
MOMENTS = 5
"""At which the power is cut in short form, for each scene."""

Artfs = Callable[..., subprocess.CompletedProcess[str]]
Content = dict[str, str]


def write_files(folder: Path, files: dict[str, bytes]) -> Content:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}


def some_files(seed: int, count: int = 5) -> dict[str, bytes]:
    made = {f"d{number % 2}/f{number}": some_bytes(1500 + number, seed=seed + number) for number in range(count)}
    return made | {"empty": b"", "large": some_bytes(LARGE, seed=seed)}


@dataclass
class Scene:
    """What is recorded: a command over a state folder, and what must be there afterwards.

    Attributes:
        before: versions that were there, and what they hold.
        after: that and the version that the command makes.
    """

    command: tuple[str, ...]
    before: dict[str, Content] = field(default_factory=dict)
    after: dict[str, Content] = field(default_factory=dict)


class Stage:
    """Where scenes are made and played."""

    def __init__(self, workspace: Workspace, artfs: Artfs, folder: Path) -> None:
        self.workspace = workspace
        self.artfs = artfs
        self.folder = folder
        self.home = folder / "home"

    def source(self, name: str, files: dict[str, bytes]) -> tuple[Path, Content]:
        return self.folder / name, write_files(self.folder / name, files)

    def first_version(self) -> Content:
        source, content = self.source("v0", some_files(1))
        assert self.artfs("log", source, "p/c", ARTFS_HOME=str(self.home)).returncode == 0
        return content


def first_log(stage: Stage) -> Scene:
    """A state folder, its catalog and its first version are made."""
    stage.home.mkdir()
    source, content = stage.source("source", some_files(100))
    return Scene(("log", str(source), "p/c"), after={"p/c:v0": content})


def log_of_many(stage: Stage) -> Scene:
    """More blobs than are synced one by one."""
    before = {"p/c:v0": stage.first_version()}
    source, content = stage.source("source", some_files(100, count=40))
    return Scene(("log", str(source), "p/c"), before, before | {"p/c:v1": content})


def commit(stage: Stage) -> Scene:
    """Of a draft that began empty."""
    before = {"p/c:v0": stage.first_version()}
    info = DraftInfo("local", "p", "c", "c", datetime.now(UTC).isoformat())
    draft = DraftArea(stage.home / "drafts").create(info)
    content = write_files(draft.path / "files", some_files(200))
    return Scene(("commit", "p/c"), before, before | {"p/c:v1": content})


def commit_from_latest(stage: Stage) -> Scene:
    """Of a draft that began as a version, in which a file was changed, one added, and one has two names."""
    before = {"p/c:v0": stage.first_version()}
    with open_session(load_settings({**stage.workspace.environ, "ARTFS_HOME": str(stage.home)})) as session:
        area = DraftArea(stage.home / "drafts")
        draft = begin_draft(area, session.catalog, "local", "p", "c", "latest", "c:latest")
    mine = write_files(draft.path / "files", {"empty": b"not any more", "more": some_bytes(3000, seed=300)})
    os.link(draft.path / "files" / "more", draft.path / "files" / "again")
    content = before["p/c:v0"] | mine | {"again": mine["more"]}
    return Scene(("commit", "p/c:latest"), before, before | {"p/c:v1": content})


def play(stage: Stage, scene: Scene) -> tuple[Disk, list[list[object]]]:
    """Plays the scene: the disk before, and what happened to it."""
    with RecordingDisk(HERE / "recording_disk.py", stage.folder / "recorded", stage.home) as disk:
        victims = DiskVictims(HERE / "disk_victims.py", stage.workspace.environ)
        with contextlib.closing(victims):
            done = victims.run(disk.mountpoint, *scene.command)
        assert done.code == 0, done.err
        return disk.before, disk.log


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory: what is synced there takes no time."""
    folder = Path(tempfile.mkdtemp(prefix="artfs-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("make", [first_log, log_of_many, commit, commit_from_latest], ids=lambda make: make.__name__)
def test_a_power_cut_at_every_write_leaves_the_version_or_the_draft(
    make: Callable[[Stage], Scene], workspace: Workspace, artfs: Artfs, tmp_path: Path, memory: Path,
    chance: random.Random, scale: Callable[[int, int], int], tally: Tally, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery.log, "disabled", True)  # it warns of torn blobs, if there are any
    stage = Stage(workspace, artfs, tmp_path)
    scene = make(stage)
    disk, log = play(stage, scene)
    seen: set[bytes] = set()
    for number, record in enumerate(log):
        for survival in chosen(chance, scale, len(log)):
            image = disk.after_power_cut(survival, chance)
            if (mark := signature(image)) in seen:
                continue
            seen.add(mark)
            what = f"before change {number} of {len(log)}, {record[:3]!r}; {survival.value}"
            with restarted(image, memory / f"{number}-{survival.name}", what) as home:
                check(scene, home, workspace, artfs)
        disk.apply(record)
    tally("power cuts during a commit", len(seen))


def chosen(chance: random.Random, scale: Callable[[int, int], int], length: int) -> list[Survival]:
    """What is tried at one of so many moments: in full form some at each; in short form seldom one."""
    if scale(0, 1):
        return chance.sample(list(Survival), 4 if length < 200 else 1)
    return [chance.choice(list(Survival))] if chance.random() < MOMENTS / length else []


def check(scene: Scene, home: Path, workspace: Workspace, artfs: Artfs) -> None:
    """After the power cut: what was committed is whole, and the same command makes what it would have made."""
    settings = load_settings({**workspace.environ, "ARTFS_HOME": str(home)})
    blobs = {path.stat().st_ino for path in (home / "store" / "blobs").rglob("*")}
    for draft in (home / "drafts" / "local").glob("*/*"):
        mine = {path.stat().st_ino for path in (draft / "files").rglob("*") if not path.is_symlink()}
        assert mine.isdisjoint(blobs) or (draft / "sealing").exists(), "who writes to the draft changes a blob"
    with open_session(settings) as session:
        found = StateFolder(home).versions()
        assert set(found) in (set(scene.before), set(scene.after))
        for name, digest in found.items():
            assert verify_version(session.store, digest) == [], name
    done = artfs(*scene.command, ARTFS_HOME=str(home))
    is_gone = scene.command[0] == "commit" and set(found) == set(scene.after)
    assert done.returncode == 0 or (is_gone and done.returncode == 3), done.stderr
    state = StateFolder(home)
    assert {name: state.content_of(digest) for name, digest in state.versions().items()} == scene.after
    state.verify()
    assert state.leftovers() == []
    assert list((home / "drafts").rglob("draft.json")) == []
    for look in (check_catalog(settings), check_folder(settings.home, settings.home)):
        assert look.status == "ok", look.detail
