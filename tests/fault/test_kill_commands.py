"""kill -9 of `artfs commit` (no daemon runs) and of `artfs log`, in every phase: nothing is ever half."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from artfs.model.draft import DraftInfo
from artfs.store.staging import DraftArea, StagedDraft
from artfs.testing.crash import Toll, Writer
from artfs.testing.doom import Doom
from artfs.testing.mount import Workspace
from artfs.testing.outside import StateFolder, check_tree

HERE = Path(__file__).parent
FILES, DIRS, SIZE, LARGE = 60, 20, 3000, 6_000_000


@dataclass
class Death:
    """How a victim ended: the phase that it said last, whether it was killed, what else it said."""

    phase: str = "starting"
    killed: bool = False
    steps: dict[str, int] = field(default_factory=dict)
    error: str = ""


class Victims:
    """A running victims.py."""

    def __init__(self, workspace: Workspace) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "victims.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=workspace.environ,
        )

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0
        self._process.stdout.close()

    def run(
        self,
        *arguments: str,
        phase: str = "",
        step: int = 0,
        event: str = "",
        at_phase: Callable[[str, int], None] | None = None,
    ) -> Death:
        """Runs one and returns how it ended. `at_phase(phase, pid)` is called when it says a phase."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(
            json.dumps({"arguments": arguments, "doom": vars(Doom(phase, step, event))})
        )
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        death, pid = Death(), 0
        for line in self._process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "PID":
                pid = int(rest)
            elif word == "PHASE":
                death.phase = rest
                if at_phase is not None:
                    at_phase(rest, pid)
            elif word == "STEPS":
                death.steps = json.loads(rest)
            elif word == "ERROR":
                death.error = rest
            elif word == "END":
                death.killed = int(rest) == -signal.SIGKILL
                return death
        raise AssertionError("victims.py ended")


@pytest.fixture
def victims(workspace: Workspace) -> Iterator[Victims]:
    started = Victims(workspace)
    with contextlib.closing(started):
        yield started


@dataclass
class Case:
    """One draft or folder whose commit is killed. `expected`: path -> digest; `executable`: of these."""

    expected: dict[str, str]
    executable: set[str]

    def with_more(self, more: Case) -> Case:
        return Case(self.expected | more.expected, self.executable | more.executable)


def write_files(folder: Path, seed: str, large: int = 0, all_executable: bool = False) -> Case:
    writer = Writer(HERE / "writer.py", folder, seed, count=FILES, dirs=DIRS, size=SIZE, large=large)
    ledger = writer.finish()
    assert ledger.errno == 0
    if all_executable:
        for path in ledger.closed:
            (folder / path).chmod(0o755)
        ledger.executable = set(ledger.closed)
    return Case(ledger.closed, ledger.executable)


def begin(workspace: Workspace) -> StagedDraft:
    """An empty draft local/p/c, as a daemon would have left it."""
    area = DraftArea(workspace.home / "drafts")
    return area.create(DraftInfo("local", "p", "c", "c", datetime.now(UTC).isoformat()))


def check_version(state: StateFolder, name: str, case: Case) -> None:
    found = state.files(state.versions()[name])
    assert {path: entry.digest for path, entry in found.items()} == case.expected
    assert {path for path, entry in found.items() if entry.executable} == case.executable


def check_draft(draft: Path, case: Case, state: StateFolder) -> None:
    """Every file that was closed is in the draft with its bytes: its own, or a stand-in for a blob of the store."""
    own: dict[str, str] = {}
    for path, digest in case.expected.items():
        place = draft / "files" / path
        if place.is_symlink():
            target = os.readlink(place).split("/")
            assert target[:4] == ["", ".artfs", "file", digest]
            assert state.blob(digest).exists()
        else:
            own[path] = digest
    check_tree(draft / "files", own)


CERTAIN = {"writing": 3 * FILES, "moving": 3 * FILES, "trees": 3 * (DIRS + 1)}
"""Steps of a phase that there always are: each file or tree page begins, is made, and gets its name. A folder of the store
that is not there yet is one more."""

PLANS = [
    *(("hashing", way) for way in ("time", "time")),
    *(("moving", way) for way in ("first", "step", "link", "link", "time")),
    *(("trees", way) for way in ("step", "step", "step")),
    *(("syncing", way) for way in ("first", "time")),
    *(("removing", way) for way in ("first", "step")),
    *(("catalog", way) for way in ("first", "step", "step", "last", "time")),
]


def test_a_killed_commit_leaves_the_version_or_the_draft(
    workspace: Workspace, victims: Victims, chance: random.Random, toll: Toll
) -> None:
    state = StateFolder(workspace.home)
    workspace.artfs("ls")  # makes the state folder
    for versions in (1, 2):  # the first one makes the collection besides, so the second one's steps count
        draft = begin(workspace)
        case = write_files(draft.path / "files", f"whole{versions}", LARGE)
        lived = victims.run("commit", "p/c")
        assert not lived.killed and not lived.error
        check_version(state, f"p/c:v{versions - 1}", case)
    durations = dict.fromkeys(("hashing", "moving", "trees", "syncing", "catalog", "removing"), 0.01)
    for number, (phase, way) in enumerate(PLANS):
        draft = begin(workspace)
        case = write_files(
            draft.path / "files", f"c{number}", LARGE if phase == "hashing" else 0, way == "link"
        )
        if way == "time":
            death = kill_in_time(victims, phase, durations[phase], chance, "commit", "p/c")
        elif way == "link":
            step = chance.randint(1, len(case.expected))
            death = victims.run("commit", "p/c", phase=phase, step=step, event="os.link")
            assert death.killed, f"it lived through link {step}: {death}"
        else:
            last = CERTAIN.get(phase) or lived.steps[phase]
            step = {"first": 1, "last": last}.get(way) or chance.randint(1, last)
            death = victims.run("commit", "p/c", phase=phase, step=step)
            assert death.killed and death.phase == phase, f"it lived through step {step} of {phase}: {death}"
        if death.killed:
            toll.count("artfs commit", death.phase)
        settle(victims, state, draft.path, case, versions)
        versions += 1
        assert not draft.path.exists()
        check_version(state, f"p/c:v{versions - 1}", case)
    state.verify()
    assert len(state.versions()) == versions == len(PLANS) + 2
    mine = toll.of("artfs commit")
    assert mine["moving"] >= 3 and mine["trees"] >= 3 and mine["catalog"] >= 4, mine


def settle(victims: Victims, state: StateFolder, draft: Path, case: Case, versions: int) -> None:
    """After a kill: checks that there is either one version more or the whole draft, and that the next commit makes a
    version of that, and leaves nothing behind."""
    assert len(state.versions()) in (versions, versions + 1)
    state.verify(alone=False)  # what the killed one linked into the store still has its name in the draft
    if len(state.versions()) == versions:
        check_draft(draft, case, state)
        done = victims.run("commit", "p/c")
        assert not done.error, done
        assert state.leftovers() == []
        state.verify_alone()
    else:
        done = victims.run("commit", "p/c")
        assert done.error.startswith("NotFoundError"), done


def kill_in_time(
    victims: Victims, phase: str, duration: float, chance: random.Random, *arguments: str
) -> Death:
    """Kills it at a random moment of `phase`, as far as that can be met."""

    def at_phase(said: str, pid: int) -> None:
        if said == phase:
            time.sleep(chance.uniform(0, duration))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    return victims.run(*arguments, at_phase=at_phase)


LOG_PLANS = [
    *(("writing", way) for way in ("first", "step", "time")),
    *(("trees", way) for way in ("first", "step", "last")),
    *(("syncing", way) for way in ("first", "time")),
    *(("catalog", way) for way in ("step", "last")),
]


def test_a_killed_log_leaves_a_version_or_nothing(
    workspace: Workspace, victims: Victims, chance: random.Random, toll: Toll
) -> None:
    state = StateFolder(workspace.home)
    source = workspace.path / "source"
    case = Case({}, set())
    # The first one makes the collection besides, so the second one's steps count.
    for version in ("v0", "v1"):
        case = case.with_more(write_files(source, version, LARGE))
        lived = victims.run("log", str(source), "p/c")
        assert not lived.killed and not lived.error
        check_version(state, f"p/c:{version}", case)
    for number, (phase, way) in enumerate(LOG_PLANS):
        before = len(state.versions())
        case = case.with_more(write_files(source, f"l{number}"))
        if way == "time":
            death = kill_in_time(victims, phase, 0.02, chance, "log", str(source), "p/c")
        else:
            last = CERTAIN.get(phase) or lived.steps[phase]
            step = {"first": 1, "last": last}.get(way) or chance.randint(1, last)
            death = victims.run("log", str(source), "p/c", phase=phase, step=step)
            assert death.killed and death.phase == phase, f"it lived through step {step} of {phase}: {death}"
        if death.killed:
            toll.count("artfs log", death.phase)
        assert len(state.versions()) in (before, before + 1)
        state.verify()
        done = victims.run("log", str(source), "p/c")
        assert not done.killed and not done.error, done
        assert len(state.versions()) == before + 1
        check_version(state, f"p/c:v{before}", case)
        assert state.leftovers() == []


def test_killed_processes_at_random_moments(workspace: Workspace, chance: random.Random, toll: Toll) -> None:
    state = StateFolder(workspace.home)
    began = time.monotonic()
    workspace.artfs("ls")
    quick = time.monotonic() - began
    source = workspace.path / "source"
    expected: list[Case] = []
    for number, command in enumerate(["log", "commit", "log", "commit"]):
        folder = source if command == "log" else begin(workspace).path / "files"
        case = write_files(folder, f"r{number}", LARGE)
        if command == "log":
            case = Case({**expected[-2].expected, **case.expected} if number else case.expected, set())
        expected.append(case)
        arguments = ["log", str(source), "p/logged"] if command == "log" else ["commit", "p/c"]
        process = subprocess.Popen(
            [sys.executable, "-m", "artfs.cli", *arguments],
            env=workspace.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.5, 1.2) * quick)
        process.kill()
        if process.wait() == -signal.SIGKILL:
            toll.count(f"process of artfs {command}", "some moment")
        state.verify(alone=False)
        done = workspace.artfs(*arguments, check=False)
        assert done.returncode == 0 or (done.returncode == 3 and command == "commit"), done.stderr
    versions = sorted(state.versions())
    assert versions == ["p/c:v0", "p/c:v1", "p/logged:v0", "p/logged:v1"]
    names = ["p/logged:v0", "p/c:v0", "p/logged:v1", "p/c:v1"]
    assert [state.content(name) for name in names] == [case.expected for case in expected]
    state.verify()
