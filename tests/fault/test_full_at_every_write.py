"""A disk that is full, or a quota that is used up, from any write on (ENOSPC, EDQUOT): of a commit, a draft, the cache, and of
the catalog's making. Whoever asked is told what to free, nothing that was there is lost, and with room again all goes on.

The disk is recording_disk.py, which fails from the write on that it is told: real ones cannot be filled to the byte, and
kernels without CONFIG_QFMT_V2 have no quotas of their own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from artfs.model.digests import BLOCK_SIZE
from artfs.model.draft import DraftInfo
from artfs.store.staging import DraftArea
from artfs.testing.corner import Corner
from artfs.testing.crash import Writer, remove_unfinished
from artfs.testing.farside import FarWorkspace
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.outside import StateFolder, check_tree
from artfs.testing.recordingdisk import WORDS, DiskVictims, Done, RecordingDisk
from artfs.testing.store_contract import some_bytes
from artfs.testing.torture import Tally
from artfs.testing.trees import make

HERE = Path(__file__).parent
ADVICE = {errno.ENOSPC: "artfs gc", errno.EDQUOT: "quota"}
NO_FLOOR = {"ARTFS_FREE_FLOOR": "0"}
FILES = {f"d{number % 2}/f{number}": some_bytes(1500 + number, seed=number) for number in range(5)}
FILES["large"] = some_bytes(1_100_000, seed=99)
Artfs = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def victims(workspace: Workspace) -> Iterator[DiskVictims]:
    with contextlib.closing(DiskVictims(HERE / "disk_victims.py", workspace.environ | NO_FLOOR)) as made:
        yield made


@dataclass
class Scene:
    """A command, the version that it makes, and the state folder that it finds; None: it makes it."""

    command: tuple[str, ...]
    version: str
    home: Path | None


def first(tmp_path: Path, artfs: Artfs) -> Scene:
    return Scene(("log", str(tmp_path / "source"), "p/c"), "p/c:v0", None)


def log(tmp_path: Path, artfs: Artfs) -> Scene:
    make(tmp_path / "other", {"d0/f0": b"other"})
    assert artfs("log", tmp_path / "other", "p/c", ARTFS_HOME=str(tmp_path / "home")).returncode == 0
    return Scene(("log", str(tmp_path / "source"), "p/c"), "p/c:v1", tmp_path / "home")


def commit(tmp_path: Path, artfs: Artfs) -> Scene:
    scene = log(tmp_path, artfs)
    draft = DraftArea(tmp_path / "home" / "drafts").create(DraftInfo("local", "p", "c", "c", datetime.now(UTC).isoformat()))
    shutil.copytree(tmp_path / "source", draft.path / "files", dirs_exist_ok=True)
    return Scene(("commit", "p/c"), scene.version, scene.home)


@pytest.mark.parametrize("prepare", [first, log, commit], ids=lambda prepare: prepare.__name__)
def test_a_disk_that_is_full_from_any_write_on(
    prepare: Callable[[Path, Artfs], Scene], victims: DiskVictims, artfs: Artfs, tmp_path: Path, chance: random.Random,
    scale: Callable[[int, int], int], tally: Tally,
) -> None:
    make(tmp_path / "source", FILES)
    scene = prepare(tmp_path, artfs)
    last = writes_of(scene, victims, tmp_path / "counted")
    count = scale(4, 60)
    moments = range(1, last + 1) if count >= last else sorted(chance.sample(range(1, last + 1), count))
    backing = tmp_path / "backing"
    for at in moments:
        shutil.copytree(scene.home, backing / str(at), symlinks=True) if scene.home else (backing / str(at)).mkdir(parents=True)
    with RecordingDisk(HERE / "recording_disk.py", tmp_path / "disk", backing) as disk:
        for at in moments:
            number = chance.choice(list(WORDS))
            disk.fail(number, at)
            done = victims.run(disk.mountpoint / str(at), *scene.command)
            try:
                check_refusal(done, number)
                disk.heal()
                check(scene, backing / str(at), disk.mountpoint / str(at), victims)
            except Exception as error:
                error.add_note(f"{errno.errorcode[number]} at write {at} of {last}: {done}")
                raise
            tally(f"{errno.errorcode[number]} at a write of a log or commit")


def writes_of(scene: Scene, victims: DiskVictims, folder: Path) -> int:
    """How many there are when nothing fails."""
    backing = folder.with_name("counted-home")
    shutil.copytree(scene.home, backing / "0", symlinks=True) if scene.home else (backing / "0").mkdir(parents=True)
    with RecordingDisk(HERE / "recording_disk.py", folder, backing) as disk:
        disk.heal()
        assert victims.run(disk.mountpoint / "0", *scene.command).code == 0
        return disk.count()


def check_refusal(done: Done, number: int) -> None:
    """One clear line that says what to do, and the exit code for "the disk said no"; or nobody noticed."""
    if done.code == 0:
        return  # the version was made; what came afterwards is only tidying up
    assert done.code == 9, done
    lines = [line for line in done.err.splitlines() if line.startswith("artfs: ")]
    assert len(lines) == 1 and "Traceback" not in done.err, done
    assert WORDS[number] in lines[0]
    assert ADVICE[number] in lines[0]


def check(scene: Scene, home: Path, shown: Path, victims: DiskVictims) -> None:
    """What was there is sound; the same command makes the version, and nothing is left."""
    state = StateFolder(home)
    had = scene.version in state.versions()
    state.verify(alone=False)
    done = victims.run(shown, *scene.command)
    assert done.code == 0 or (had and done.code == 3), done
    assert state.content(scene.version) == digests(FILES)
    state.verify()
    assert state.leftovers() == []


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}


def test_a_draft_on_a_disk_that_is_full_from_any_write_on(
    workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path, chance: random.Random,
    scale: Callable[[int, int], int], tally: Tally,
) -> None:
    closed: dict[str, str] = {}
    with RecordingDisk(HERE / "recording_disk.py", tmp_path / "disk", mountpoint=workspace.home) as disk:
        daemon = make_daemon(workspace, environ=NO_FLOOR)
        daemon.expect_log("No space left on device|Disk quota exceeded")
        daemon.start()
        drafts = daemon.mountpoint / "drafts" / "p"
        (drafts / "c").mkdir(parents=True)
        for at in range(1, scale(7, 40)):
            number = chance.choice(list(WORDS))
            disk.fail(number, at)
            begun = errno_of(lambda: (drafts / f"x{at}").mkdir())  # noqa: B023
            disk.fail(number, at)
            ledger = Writer(HERE / "writer.py", drafts / "c", f"w{at}", count=4, dirs=2, size=9000).finish()
            disk.heal()
            assert begun in (0, number) and ledger.errno in (0, number)
            assert (drafts / f"x{at}").exists() == (begun == 0)
            closed |= ledger.closed
            remove_unfinished(drafts / "c", ledger)
            check_tree(drafts / "c", closed)
            tally(f"{errno.errorcode[number]} at a write of a draft")
        daemon.client().call("commit", {"project": "p", "draft": "c", "options": {}}, timeout_s=60.0)
        assert daemon.terminate() == 0
    state = StateFolder(disk.backing)
    assert state.content("p/c:v0") == closed
    state.verify()


def errno_of(call: Callable[[], object]) -> int:
    """0: it succeeded."""
    try:
        call()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def test_a_cache_on_a_disk_that_is_full_from_any_write_on(
    far: FarWorkspace, make_daemon: Callable[..., Daemon], project: str, tmp_path: Path, chance: random.Random,
    scale: Callable[[int, int], int], tally: Tally,
) -> None:
    """Readers get what they read, from the server; the cache keeps less."""
    moments = range(scale(6, 40))
    plan = {f"m{at}/f{number}": some_bytes(2000 + number, seed=50 * at + number) for at in moments for number in range(6)}
    plan |= {f"m{at}/large": some_bytes(5 * BLOCK_SIZE + at, seed=50 * at + 40) for at in moments}
    assert far.far.process is not None
    elsewhere = FarWorkspace(far=far.far, extra={"ARTFS_SERVER": far.far.process.url})
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(elsewhere.remove)
        Corner(Daemon(elsewhere), project).log(make(tmp_path / "v0", plan), refresh=False)
    with RecordingDisk(HERE / "recording_disk.py", tmp_path / "disk", mountpoint=far.path / "cache") as disk:
        daemon = make_daemon(far, environ={"ARTFS_CACHE_FLOOR": "0"})
        daemon.expect_log("No space left on device|Disk quota exceeded|cache")
        daemon.start()
        root = daemon.mountpoint / project / "c" / "latest"
        for at in moments:
            number = chance.choice(list(WORDS))
            disk.fail(number, chance.randint(1, 15))
            for path, data in plan.items():
                if path.startswith(f"m{at}/"):
                    assert (root / path).read_bytes() == data, f"{path}, {errno.errorcode[number]}"
            disk.heal()
            tally(f"{errno.errorcode[number]} at a write of the cache")
        for path, data in plan.items():
            assert (root / path).read_bytes() == data
        assert daemon.terminate() == 0
