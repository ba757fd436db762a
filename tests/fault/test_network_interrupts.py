"""Ctrl-C and kill -9 of what sends to a server and gets from it, at moments of all phases: no half-made version, no wrong file,
nothing that grows, and the same call again does it."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from artfs.model.digests import digest_bytes
from artfs.model.draft import DraftInfo
from artfs.store.memory import MemoryStore
from artfs.store.staging import DraftArea
from artfs.testing.crash import Toll
from artfs.testing.farside import FarServer, FarWorkspace, check_sound
from artfs.testing.interrupting import Interrupted
from artfs.testing.store_contract import some_bytes
from artfs.testing.trees import make, picture
from artfs.testing.waiting import until
from artfs.transfer.push import push_directory

HERE = Path(__file__).parent
COMMANDS = ("log", "commit", "push")
MOMENTS = 36
DOWNLOADS = 14


@pytest.fixture
def interrupted(far: FarWorkspace) -> Iterator[Interrupted]:
    far.artfs("ls")  # makes the state folder
    with contextlib.closing(Interrupted(HERE / "interrupted.py", far.environ)) as started:
        yield started


def write_files(folder: Path, seed: int) -> Path:
    """Small ones, and one that has several parts."""
    small = {f"d{number % 4}/f{number:03}": some_bytes(2000 + number, seed=1000 * seed + number) for number in range(40)}
    return make(folder, {**small, "large": some_bytes(5_000_000, seed=seed)})


def digest_of(folder: Path) -> str:
    with MemoryStore().begin() as batch:
        return push_directory(batch, folder).root


def versions(far: FarWorkspace, project: str) -> dict[str, str]:
    """Of everything that is committed: `collection:vN` -> digest."""
    with far.session() as session:
        return {
            f"{member.collection}:v{member.index}": member.version.digest
            for member in session.catalog.versions() if member.project == project
        }


class Job:
    """A command, and the version that it makes. `arguments` of the command line; `environ`: more of its environment."""

    def __init__(self, far: FarWorkspace, project: str, command: str, number: int) -> None:
        self.command = command
        self.name = f"c{number}"
        self.environ: dict[str, str] = {}
        place = f"{project}/{self.name}"
        self.arguments = ["commit", place]
        if command == "commit":
            info = DraftInfo("local", project, self.name, self.name, datetime.now(UTC).isoformat())
            folder = write_files(DraftArea(far.settings.drafts_path).create(info).path / "files", number)
        else:
            folder = write_files(far.path / "source" / self.name, number)
            self.arguments = ["log", str(folder), place]
        self.digest = digest_of(folder)
        if command == "push":
            own = FarWorkspace(far=far.far, extra={"ARTFS_SERVER": ""})
            try:
                self.environ = {"ARTFS_SERVER": "", "ARTFS_HOME": str(far.path / "own")}
                own.extra = self.environ
                own.artfs(*self.arguments)
            finally:
                own.remove()
            self.arguments = ["push", place, "--to", far.far.url]

    def run(self, interrupted: Interrupted, phase: str = "", step: int = 0, sent: int = 0) -> Any:
        return interrupted.run("command", phase, step, sent, arguments=self.arguments, environ=self.environ)


def test_sending_that_is_interrupted_leaves_a_version_or_nothing(
    far: FarWorkspace, project: str, interrupted: Interrupted, chance: random.Random, toll: Toll
) -> None:
    before = server_leftovers(far.far)  # of servers that other tests have killed
    lived: dict[str, dict[str, int]] = {}
    expected: dict[str, str] = {}
    for number, command in enumerate(COMMANDS):
        job = Job(far, project, command, number)
        end = job.run(interrupted)
        assert not end.early, end
        lived[command], expected[f"{job.name}:v0"] = end.steps, job.digest
    assert versions(far, project) == expected
    print(lived)
    early = 0
    for number in range(MOMENTS):
        command, sent = COMMANDS[number % 3], [signal.SIGKILL, signal.SIGINT][number % 2]
        phases = list(lived[command])
        phase = phases[number // 3 % len(phases)]
        job = Job(far, project, command, number + 3)
        # How often something is received differs a little from one to the next.
        step = chance.randint(1, max(1, lived[command][phase] * 6 // 10))
        end = job.run(interrupted, phase, step, sent)
        end.check(sent)
        early += end.early
        if end.early:
            toll.count(f"artfs {command} to a server", f"{phase}, {signal.Signals(sent).name}")
        made = versions(far, project)
        assert made.keys() - expected.keys() <= {f"{job.name}:v0"}
        expected[f"{job.name}:v0"] = job.digest
        assert made.items() <= expected.items()
        again = job.run(interrupted)
        gone = command == "commit" and re.search("no draft|had been committed already", again.said)
        assert gone or not again.early, again
        assert versions(far, project) == expected
        assert leftovers(far) == []
    assert early >= MOMENTS - 6
    until(lambda: server_leftovers(far.far) <= before, "the server has put everything in its place")
    check_sound(far, project)


def leftovers(far: FarWorkspace) -> list[str]:
    """What only work in progress may have on the workstation."""
    drafts = far.settings.drafts_path
    found = [*drafts.rglob("sealing"), *(drafts / ".trash").glob("*"), *drafts.glob("*/*/*/tmp/*")]
    found += [path for path in (far.path / "cache" / "drafts").rglob("*") if path.is_file()]
    found += [path for path in (far.path / "cache" / "tmp").rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(far.path)) for path in found)


def server_leftovers(far: FarServer) -> set[str]:
    """Uploads that nobody has ended, objects on their way, and objects that nobody knows."""
    home = far.home / "server"
    with contextlib.closing(sqlite3.connect(home / "catalog.db")) as database:
        found = {f"upload of {key}" for key, in database.execute("SELECT key FROM uploads WHERE key NOT LIKE 'done/%'")}
        known = {key for table in ("blobs", "packs") for key, in database.execute(f"SELECT key FROM {table}")}
    found |= {str(path) for path in (home / "blobs" / "tmp").rglob("*") if path.is_file()}
    for folder in ("blobs", "packs", "uploads"):
        for path in (home / "blobs" / folder).rglob("*"):
            key = str(path.relative_to(home / "blobs"))
            if path.is_file() and key not in known and key.rpartition(".")[0] not in known:
                found.add(key)
    return found


def test_getting_that_is_interrupted_leaves_whole_files(
    far: FarWorkspace, project: str, interrupted: Interrupted, chance: random.Random, toll: Toll, tmp_path: Path
) -> None:
    """Not a file under its name that is not whole, and nothing wrong in the cache; the same call again gets the rest."""
    source = write_files(tmp_path / "source", 1)
    far.artfs("log", source, f"{project}/c")
    wanted = {path.read_bytes() for path in source.rglob("*") if path.is_file()}
    digests = {digest_bytes(data) for data in wanted}

    def get(name: str, phase: str = "", step: int = 0, sent: int = 0) -> Any:
        words = ["get", f"{project}/c", str(tmp_path / name), "--overwrite"]
        return interrupted.run("command", phase, step, sent, arguments=words, environ={"ARTFS_CACHE_PATH": str(cache)})

    cache = tmp_path / "cache of lived"
    lived = get("lived")
    assert not lived.early
    assert picture(tmp_path / "lived") == picture(source)
    phases = [phase for phase in ("read", "locate", "trees", "objects") if lived.steps.get(phase)]
    assert phases
    early = 0
    for number in range(DOWNLOADS):
        cache, dest = tmp_path / f"cache{number}", tmp_path / f"dest{number}"
        sent = [signal.SIGKILL, signal.SIGINT][number % 2]
        phase = phases[number // 2 % len(phases)]
        end = get(dest.name, phase, chance.randint(1, max(1, lived.steps[phase] * 6 // 10)), sent)
        end.check(sent)
        early += end.early
        if end.early:
            toll.count("artfs get from a server", f"{phase}, {signal.Signals(sent).name}")
        for path in dest.rglob("*"):
            if path.is_file() and not any(part.startswith(".artfs-") for part in path.relative_to(dest).parts):
                assert digest_bytes(path.read_bytes()) in digests, path
        if sent == signal.SIGINT:
            assert list(dest.rglob(".artfs-*")) == []
        done = get(dest.name)
        assert not done.early, done
        assert picture(dest) == picture(source)
        checked = FarWorkspace(far=far.far, extra={"ARTFS_CACHE_PATH": str(cache)})
        assert checked.check_cache().damaged == []
        checked.remove()
        shutil.rmtree(cache)
    assert early >= DOWNLOADS - 4
    check_sound(far, project)
