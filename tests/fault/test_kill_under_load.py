"""kill -9 of the daemon at random moments under a load of fio, rsync and a writer in drafts and of readers of versions: its
supervisor (what systemd/user/artfs.service says) brings it back without a manual step, and nothing that was closed is lost."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from artfs.errors import UnavailableError
from artfs.testing.account import open_fuse_device
from artfs.testing.crash import Toll, Writer
from artfs.testing.mount import Daemon, Workspace, is_mounted, unannounced
from artfs.testing.outside import StateFolder, sha256sum
from artfs.testing.store_contract import some_bytes
from artfs.testing.supervisor import Supervisor
from artfs.testing.torture import Tally

HERE = Path(__file__).parent
UNIT = HERE.parents[1] / "systemd" / "user" / "artfs.service"
LOAD_S, COMMIT_S = 0.8, 0.4
"""A kill comes at some moment of so long a load, or commit, in seconds."""
COMMIT_EVERY = 4
FIO = """
[global]
directory={folder}
rw=randwrite
bs=4k
size=256k
nrfiles=4
openfiles=2
verify=crc32c
verify_fatal=1
verify_state_save=0
randseed={seed}
[{name}]
"""


@dataclass
class Load:
    """What works in one draft until the daemon dies, and what must be there then.

    Attributes:
        closed: path -> digest of each file whose close() returned.
        source: what rsync copies to `rsync/N`; a file gets its name there when it is whole.
    """

    mountpoint: Path
    source: Path
    scratch: Path
    closed: dict[str, str] = field(default_factory=dict)
    serial: int = 0

    def __post_init__(self) -> None:
        self.draft = self.mountpoint / "drafts" / "p" / "c"
        self.wanted = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.source.iterdir()}
        self._running: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        self.serial += 1
        folder = self.draft / f"fio{self.serial}"
        folder.mkdir()
        self._job = self.scratch / f"job{self.serial}"
        self._job.write_text(FIO.format(folder=folder, seed=self.serial, name="load"))
        self._running = [
            self._spawn("fio", "--do_verify=0", self._job),
            self._spawn("rsync", "-a", f"{self.source}/", self.draft / f"rsync{self.serial}"),
        ]
        self._writer = Writer(HERE / "writer.py", self.draft, f"w{self.serial}", count=400, dirs=7, size=20_000)

    @staticmethod
    def _spawn(*command: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/tmp")

    def ended(self) -> None:
        """After the daemon's death: notes what was closed, and removes what was not."""
        fio, rsync = self._running
        ledger = self._writer.finish()
        self.closed |= ledger.closed
        has_ended = fio.wait(60) == 0
        rsync.wait(60)
        self.unfinished = {ledger.unfinished} - {""}
        self.is_fio_done = has_ended
        if not has_ended:
            self._fio_failed()

    def back(self) -> None:
        """With the mount there again: takes in what fio and rsync had finished."""
        self._put_back()
        for path in self.unfinished:
            with contextlib.suppress(FileNotFoundError):
                (self.draft / path).unlink()
        copied = self.draft / f"rsync{self.serial}"
        for path in sorted(copied.iterdir()) if copied.exists() else ():
            if path.name in self.wanted:
                self.closed[f"{copied.name}/{path.name}"] = self.wanted[path.name]
            else:
                path.unlink()  # .NAME.XXXXXX: rsync had not finished it
        if self.is_fio_done:
            done = subprocess.run(
                ["fio", "--verify_only", self._job], capture_output=True, text=True, cwd="/tmp", check=False, timeout=120
            )
            assert done.returncode == 0, done.stdout + done.stderr
            for path in (self.draft / f"fio{self.serial}").iterdir():
                self.closed[f"fio{self.serial}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()

    def check(self) -> None:
        """Everything that was ever closed is there, whole, and nothing else."""
        found = {str(path.relative_to(self.draft)) for path in self.draft.rglob("*") if path.is_file()}
        assert found == set(self.closed)
        sha256sum({self.draft / path: digest for path, digest in self.closed.items()})


    def _put_back(self) -> None:
        """What programs wrote by its path while nothing was mounted was set aside; it goes where it was meant to go. But fio
        opens a file again and again, so a job that began before the mount was there has parts of each in both."""
        for aside in self.mountpoint.parent.glob(f"{self.mountpoint.name}.found-*"):
            folder = aside / self.draft.relative_to(self.mountpoint)
            if (folder / f"fio{self.serial}").exists():
                shutil.rmtree(folder / f"fio{self.serial}")
                self._fio_failed()
            if folder.exists():
                subprocess.run(["cp", "-a", f"{folder}/.", self.draft], check=True)
            shutil.rmtree(aside)

    def _fio_failed(self) -> None:
        self.is_fio_done = False
        self.unfinished |= {f"fio{self.serial}/load.0.{number}" for number in range(4)}


@dataclass
class Rig:
    workspace: Workspace
    supervisor: Supervisor
    daemon: Daemon
    state: StateFolder
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def commit(self) -> None:
        """`artfs commit p/c`."""
        with contextlib.suppress(OSError):
            (self.workspace.mountpoint / ".artfs" / "barrier").stat()
        self.daemon.client().call("commit", {"project": "p", "draft": "c", "options": {}}, timeout_s=120.0)

    def check_versions(self) -> None:
        assert {name: self.state.content_of(root) for name, root in self.state.versions().items()} == self.versions
        self.state.verify(alone=False)


@pytest.fixture
def rig(workspace: Workspace) -> Iterator[Rig]:
    open_fuse_device()
    programs = workspace.path / "bin"
    programs.mkdir()
    (programs / "artfsd").write_text(f'#!/bin/sh\nexec {workspace.account.python} -m artfsd "$@"\n')
    (programs / "artfsd").chmod(0o755)
    environ = {
        **workspace.environ,
        "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin",
        "MOUNTPOINT": str(workspace.mountpoint),
    }
    log = workspace.path / "supervised.log"
    log.touch()
    supervisor = Supervisor(UNIT, environ, log)
    supervisor.start()
    try:
        yield Rig(workspace, supervisor, Daemon(workspace), StateFolder(workspace.home))
    finally:
        code = supervisor.stop()
    assert code == 0, log.read_text()[-4000:]
    assert not is_mounted(workspace.mountpoint)
    assert unannounced(log.read_text(), [re.compile("while nothing was mounted there is in")]) == []


@contextlib.contextmanager
def reading(folder: Path, digests: dict[str, str]) -> Iterator[None]:
    """Somebody reads that version all the time, and never gets a wrong byte."""
    command = [sys.executable, "-S", "-E", str(HERE / "version_reader.py"), str(folder), json.dumps(digests)]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        said = reader.communicate(timeout=60)[0]
    assert "WRONG" not in said
    assert int(said.split()[1]) > 0


def test_a_daemon_that_is_killed_under_load_comes_back_and_nothing_is_lost(
    rig: Rig, chance: random.Random, toll: Toll, tmp_path: Path, scale: Callable[[int, int], int], tally: Tally
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(120):
        (source / f"f{number}").write_bytes(some_bytes(chance.randint(0, 60_000), seed=number))
    draft = rig.workspace.mountpoint / "drafts" / "p" / "c"
    draft.mkdir(parents=True)
    load = Load(rig.workspace.mountpoint, source, tmp_path)
    subprocess.run(["rsync", "-a", f"{source}/", draft / "first"], check=True)
    rig.versions["p/c:v0"] = {f"first/{name}": digest for name, digest in load.wanted.items()}
    rig.commit()
    rounds = scale(2, 80)
    with reading(rig.workspace.mountpoint / "p" / "c" / "v0", rig.versions["p/c:v0"]):
        for number in range(1, rounds + 1):
            draft.mkdir(exist_ok=True)
            load.begin()
            time.sleep(chance.uniform(0, LOAD_S))
            kill(rig, toll, "load")
            load.ended()
            load.back()
            load.check()
            check_order(rig)
            if number % COMMIT_EVERY == 0:
                kill_while_it_commits(rig, load, chance, toll)
    rig.check_versions()
    rig.state.verify()
    tally("kill -9 of the daemon under fio, rsync, a writer and readers", len(rig.supervisor.gaps))
    tally(f"  … longest until it was ready again: {max(rig.supervisor.gaps):.2f} s")


def kill(rig: Rig, toll: Toll, phase: str) -> None:
    """Until it is back, of which only the supervisor knows."""
    pid = rig.supervisor.pid
    os.kill(pid, signal.SIGKILL)
    toll.count("daemon under its supervisor", phase)
    rig.supervisor.wait_ready(but=pid)


def kill_while_it_commits(rig: Rig, load: Load, chance: random.Random, toll: Toll) -> None:
    """What was closed is a version then or the whole draft; from that the next commit makes it."""
    load.serial += 1
    name = f"p/c:v{len(rig.versions)}"

    def commit() -> None:
        with contextlib.suppress(UnavailableError):  # it was killed before it answered
            rig.commit()

    committing = threading.Thread(target=commit)
    committing.start()
    time.sleep(chance.uniform(0, COMMIT_S))
    kill(rig, toll, "a commit")
    committing.join()
    if name not in rig.state.versions():
        load.check()
        rig.commit()
    rig.versions[name] = dict(load.closed)
    load.closed.clear()
    assert not load.draft.exists()
    check_order(rig)
    rig.check_versions()


def check_order(rig: Rig) -> None:
    """One mount, and nothing that only work in progress may leave."""
    assert mounts_at(rig.workspace.mountpoint) == 1
    assert rig.state.leftovers() == []


def mounts_at(path: Path) -> int:
    return sum(line.split(" ")[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())
