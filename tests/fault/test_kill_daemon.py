"""kill -9 of the daemon while files are written, closed and hashed, and in every phase of a commit: what was closed is
there, a version is there whole or not at all, and the next commit makes it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from artfs.errors import UnavailableError
from artfs.testing.crash import Ledger, Toll, Writer, remove_unfinished
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.outside import StateFolder, check_tree

SCRIPT = Path(__file__).parent / "writer.py"
AT_LEAST = {"writing": 5, "closing": 5, "hashing": 4, "moving": 3, "trees": 3, "catalog": 3}
MOST_ROUNDS = 60


@dataclass
class Rig:
    """A daemon that is killed again and again, and what its draft must hold."""

    workspace: Workspace
    daemon: Daemon
    chance: random.Random
    toll: Toll
    state: StateFolder = field(init=False)
    expected: dict[str, str] = field(default_factory=dict)
    executable: set[str] = field(default_factory=set)
    versions: int = 0
    rounds: int = 0

    def __post_init__(self) -> None:
        self.state = StateFolder(self.workspace.home)

    @property
    def draft(self) -> Path:
        return self.daemon.mountpoint / "drafts" / "p" / "c"

    def begin(self) -> None:
        self.draft.mkdir(parents=True)
        self.expected.clear()
        self.executable.clear()
        self.rounds += 1

    def writer(self, *, count: int, dirs: int, size: int, large: int = 0) -> Writer:
        return Writer(SCRIPT, self.draft, f"r{self.rounds}", count=count, dirs=dirs, size=size, large=large)

    def wrote(self, ledger: Ledger) -> None:
        self.expected |= ledger.closed
        self.executable |= ledger.executable

    def kill(self) -> None:
        self.daemon.kill()

    def revive(self, phase: str) -> None:
        """Counts the dead one and mounts again, which clears the dead mount."""
        self.toll.count("daemon", phase)
        cleared = self.daemon.log().count("clearing the stale mount")
        self.daemon.start()
        assert self.daemon.log().count("clearing the stale mount") == cleared + 1

    def commit(self, on_phase: Callable[[str], None] = lambda phase: None) -> dict[str, object]:
        """`artfs commit p/c`, as the command line asks for it; `on_phase` hears the phases that the daemon logs."""
        with contextlib.suppress(FileNotFoundError):
            (self.daemon.mountpoint / ".artfs" / "barrier").stat()
        args = {"project": "p", "draft": "c", "options": {}}
        with listening(self.daemon, on_phase):
            return self.daemon.client().call("commit", args, timeout_s=60.0)

    def check_and_commit(self) -> None:
        """After a kill: everything committed is sound, everything closed is there, and the next commit makes exactly
        that (unless the killed one had)."""
        found = len(self.state.versions())
        assert found in (self.versions, self.versions + 1)
        self.state.verify()
        if found == self.versions:
            check_tree(self.draft, self.expected)
            reply = self.commit()
            assert reply["version"] == f"v{self.versions}" and reply["created"]
        assert not self.draft.exists()
        entries = self.state.files(self.state.versions()[f"p/c:v{self.versions}"])
        assert {path: entry.digest for path, entry in entries.items()} == self.expected
        assert {path for path, entry in entries.items() if entry.executable} == self.executable
        self.versions += 1
        self.state.verify_alone()  # its bytes are read after the next kill
        assert self.state.leftovers() == []


@contextlib.contextmanager
def listening(daemon: Daemon, on_phase: Callable[[str], None]) -> Iterator[None]:
    """Follows the daemon's log and calls `on_phase` with each phase of a commit as it comes."""
    ended = threading.Event()

    def follow() -> None:
        with daemon.log_path.open(errors="replace") as log:
            log.seek(0, 2)
            while not ended.is_set():
                line = log.readline()
                if not line:
                    time.sleep(0.0002)
                elif "commit of draft p/c: " in line:
                    on_phase(line.split("commit of draft p/c: ", 1)[1].strip())

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def phase_at_death(daemon: Daemon) -> str:
    """The last phase in the log; "committed" when it had ended."""
    lines = [line for line in daemon.log().splitlines() if "draft p/c" in line]
    return lines[-1].rsplit("commit of draft p/c: ", 1)[1] if "commit of draft" in lines[-1] else "committed"


@pytest.fixture
def rig(workspace: Workspace, daemon: Daemon, chance: random.Random, toll: Toll) -> Rig:
    return Rig(workspace, daemon, chance, toll)


def test_a_killed_daemon_loses_nothing_that_was_closed(rig: Rig) -> None:
    rig.begin()
    rig.wrote(rig.writer(count=40, dirs=40, size=3000).finish())
    durations = measure(rig)
    while (wanted := most_wanted(rig.toll)) is not None:
        assert rig.rounds < MOST_ROUNDS, f"{wanted} was not hit often enough: {rig.toll.of('daemon')}"
        rig.begin()
        if wanted in ("writing", "closing"):
            kill_while_it_writes(rig, wanted)
        elif wanted == "hashing" and rig.chance.random() < 0.5:
            kill_while_it_hashes(rig)
        else:
            kill_while_it_commits(rig, wanted, durations.get(wanted, 0.02))
        rig.check_and_commit()
    rig.state.verify()
    assert rig.versions == rig.rounds
    assert sum(rig.toll.of("daemon").values()) >= sum(AT_LEAST.values())


def most_wanted(toll: Toll) -> str | None:
    """The phase that still needs the most kills; None when all have enough."""
    so_far = toll.of("daemon")
    missing = {phase: number - so_far.get(phase, 0) for phase, number in AT_LEAST.items()}
    wanted = max(missing, key=lambda phase: missing[phase])
    return wanted if missing[wanted] > 0 else None


def measure(rig: Rig) -> dict[str, float]:
    """How long each phase of an undisturbed commit takes, in seconds."""
    began: dict[str, float] = {}
    rig.commit(lambda phase: began.setdefault(phase, time.monotonic()))
    ended = time.monotonic()
    rig.versions += 1
    moments = [*began.values(), ended]
    return {phase: later - at for (phase, at), later in zip(began.items(), moments[1:], strict=True)}


def kill_while_it_writes(rig: Rig, phase: str) -> None:
    """Kills it when the writer says that it writes, or closes, one of its files."""
    letter = "W" if phase == "writing" else "C"
    last = rig.chance.randint(1, 8)
    seen = 0

    def now(said: str, ledger: Ledger) -> bool:
        nonlocal seen
        seen += said == letter
        return seen == last

    # Files of a megabyte: closing one takes as long as sending its pages does.
    writer = rig.writer(count=9, dirs=3, size=1_500_000)
    assert writer.follow(until=now)
    time.sleep(rig.chance.uniform(0, 0.0005))
    rig.kill()
    ledger = writer.finish()
    rig.wrote(ledger)
    rig.revive(ledger.phase if ledger.errno else "idle")
    remove_unfinished(rig.draft, ledger)


def kill_while_it_hashes(rig: Rig) -> None:
    """Kills it when it says that it reads a closed file in order to hash it."""
    rig.wrote(rig.writer(count=5, dirs=1, size=3000, large=16_000_000).finish())
    phase = "idle"
    for _ in range(200):
        if rig.daemon.status()["hashing"]:
            phase = "hashing"
            break
    rig.kill()
    rig.revive(phase)


def kill_while_it_commits(rig: Rig, wanted: str, duration: float) -> None:
    """Kills it at a random moment of a phase of the commit."""
    rig.wrote(rig.writer(count=40, dirs=40, size=3000, large=10_000_000 if wanted == "hashing" else 0).finish())
    if wanted == "hashing":  # what it had hashed when the files were closed, it does not know any more
        rig.kill()
        rig.revive("idle")

    killed = False

    def on_phase(phase: str) -> None:
        nonlocal killed
        if phase == wanted:
            time.sleep(rig.chance.uniform(0, duration))
            rig.kill()
            killed = True

    with contextlib.suppress(UnavailableError):
        rig.commit(on_phase)
    if killed:
        rig.revive(phase_at_death(rig.daemon))
