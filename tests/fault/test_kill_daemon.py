"""kill -9 of the daemon while files are written, closed and hashed, and in every phase of a commit: what was closed is
there, a version is there whole or not at all, and the next commit makes it.

The daemon kills itself, at steps that are chosen before (see doomed_daemon.py), so each kill is sure to be where it is
meant to be.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from artfs.errors import UnavailableError
from artfs.testing.account import open_fuse_device
from artfs.testing.corner import Corner
from artfs.testing.crash import Ledger, Toll, Writer, remove_unfinished
from artfs.testing.doom import Doom
from artfs.testing.mount import STOP_TIMEOUT_S, Daemon, Workspace
from artfs.testing.outside import StateFolder, check_tree
from artfs.testing.trees import make, picture

HERE = Path(__file__).parent
FILES, DIRS, SIZE, LARGE = 40, 40, 3000, 8_000_000
PIECES = LARGE // 2**20
"""Of a large file: it is hashed in that many pieces at least."""

AT_LEAST = {"writing": 5, "closing": 5, "hashing": 4, "moving": 3, "trees": 3, "catalog": 3}


class DoomedDaemon(Daemon):
    """See doomed_daemon.py."""

    @property
    def doom_path(self) -> Path:
        return self.workspace.path / "doom"

    def command(self) -> list[str]:
        python, _, _, *arguments = super().command()
        return [python, str(HERE / "doomed_daemon.py"), str(self.doom_path), *arguments]

    def dies(self) -> None:
        """Waits for it, and checks that it was by its own hand: nobody else kills it."""
        assert self.process.wait(STOP_TIMEOUT_S) == -signal.SIGKILL, self.log()


@dataclass
class Rig:
    """A daemon that is killed again and again, and what its draft must hold."""

    workspace: Workspace
    daemon: DoomedDaemon
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
        self.expected.clear()
        self.executable.clear()
        self.rounds += 1
        # A draft in which nothing was closed must not be what the last one was: its commit would make no version.
        (self.draft / f"round {self.rounds}").mkdir(parents=True)

    def writer(
        self,
        *,
        count: int = FILES,
        dirs: int = DIRS,
        size: int = SIZE,
        large: int = 0,
        way: str = "write",
    ) -> Writer:
        return Writer(
            HERE / "writer.py",
            self.draft,
            f"r{self.rounds}",
            count=count,
            dirs=dirs,
            size=size,
            large=large,
            way=way,
        )

    def wrote(self, ledger: Ledger) -> None:
        self.expected |= ledger.closed
        self.executable |= ledger.executable

    def doom(self, doom: Doom) -> None:
        """It dies at this step, if it comes to that, counted from here."""
        doom.write(self.daemon.doom_path)

    def revive(self, phase: str) -> None:
        """Sees that it is dead, counts it and mounts again, which clears the dead mount."""
        self.daemon.dies()
        self.toll.count("daemon", phase)
        self.doom(Doom())
        cleared = self.daemon.log().count("clearing the stale mount")
        self.daemon.start()
        assert self.daemon.log().count("clearing the stale mount") == cleared + 1

    def commit(self) -> dict[str, object]:
        """`artfs commit p/c`, as the command line asks for it."""
        with contextlib.suppress(FileNotFoundError):
            (self.daemon.mountpoint / ".artfs" / "barrier").stat()
        args = {"project": "p", "draft": "c", "options": {}}
        return self.daemon.client().call("commit", args, timeout_s=60.0)

    def commit_doomed(self, doom: Doom) -> None:
        self.doom(doom)
        with pytest.raises(UnavailableError):
            self.commit()
        self.revive(doom.phase)

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


@pytest.fixture
def rig(workspace: Workspace, chance: random.Random, toll: Toll) -> Iterator[Rig]:
    open_fuse_device()
    daemon = DoomedDaemon(workspace)
    made = Rig(workspace, daemon, chance, toll)
    made.doom(Doom())
    with daemon:
        yield made


WRITES = [
    # the request at which the daemon dies, how files are written (see writer.py), and where the writer is then ("": that is the
    # kernel's affair)
    *(("create", "write", "writing"),) * 5,
    *(("write", "map", "closing"),) * 5,
    ("write", "write", ""),
    ("release", "write", ""),  # comes after the close, to a writer that has gone on
]


def kill_while_it_writes(rig: Rig) -> None:
    for request, way, phase in WRITES:
        rig.begin()
        # Each file is at least one request of each kind, and a request is two steps: it comes, and it was done.
        number = rig.chance.randint(1, 7)
        rig.doom(Doom(request, 2 * number - rig.chance.randint(0, 1)))
        ledger = rig.writer(count=9, dirs=3, size=200_000, way=way).finish()
        assert ledger.errno, f"it lived through {request} {number}"
        if phase:
            assert ledger.phase == phase
        if request != "write":
            assert len(ledger.closed) >= number - (request == "create")
        rig.wrote(ledger)
        rig.revive(ledger.phase)
        remove_unfinished(rig.draft, ledger)
        rig.check_and_commit()


COMMITS = [
    *(("moving", way) for way in ("first", "step", "link", "link")),
    *(("trees", way) for way in ("step", "step", "last")),
    ("syncing", "first"),
    *(("catalog", way) for way in ("first", "step", "end")),
    *(("removing", way) for way in ("first", "step")),
]
CERTAIN = {"moving": 3 * FILES, "trees": 3 * (DIRS + 1), "catalog": 10, "removing": 2 * FILES}
"""Steps of a phase that there always are, at least."""


def kill_while_it_commits(rig: Rig) -> None:
    for phase, way in COMMITS:
        rig.begin()
        rig.wrote(rig.writer().finish())
        if way == "link":
            doom = Doom(phase, rig.chance.randint(1, FILES), "os.link")
        elif way == "end":
            doom = Doom(phase, 1, "commit")
        else:
            last = CERTAIN.get(phase, 1)
            doom = Doom(phase, {"first": 1, "last": last}.get(way) or rig.chance.randint(1, last))
        rig.commit_doomed(doom)
        rig.check_and_commit()


HASHINGS = 2


def kill_while_it_hashes(rig: Rig) -> None:
    """First after the last close, then, as it has forgotten by then what it had hashed, in the commit."""
    for _ in range(HASHINGS):
        rig.begin()
        rig.doom(Doom("hashing", rig.chance.randint(1, PIECES)))
        ledger = rig.writer(large=LARGE).finish()
        assert not ledger.errno
        rig.wrote(ledger)
        rig.revive("hashing")
        rig.commit_doomed(Doom("hashing", rig.chance.randint(1, PIECES)))
        rig.check_and_commit()


@pytest.mark.parametrize(
    ("kill", "rounds", "phases"),
    [
        (kill_while_it_writes, len(WRITES), ("writing", "closing")),
        (kill_while_it_commits, len(COMMITS), ("moving", "trees", "catalog")),
        (kill_while_it_hashes, HASHINGS, ("hashing",)),
    ],
    ids=["writing", "committing", "hashing"],
)
def test_a_killed_daemon_loses_nothing_that_was_closed(
    rig: Rig, kill: Callable[[Rig], None], rounds: int, phases: tuple[str, ...]
) -> None:
    rig.begin()
    rig.wrote(rig.writer().finish())
    rig.commit()  # a first version, so that the others find a collection
    rig.versions += 1
    kill(rig)
    rig.state.verify()
    assert rig.versions == rig.rounds == rounds + 1
    mine = rig.toll.of("daemon")
    for phase in phases:
        assert mine[phase] >= AT_LEAST[phase], mine


MOVES = {
    "an inherited file": ("mine", "sub/mine"),
    "a changed file": ("changed", "sub/changed"),
    "an inherited folder": ("one", "sub/one"),
    "a changed folder": ("two", "sub/two"),
    "a file to a name that was removed": ("mine", "removed"),
    "a new folder to a name that was removed": ("sub", "removed"),
}


@pytest.mark.parametrize("what", MOVES)
def test_a_move_in_a_draft_is_done_or_not(rig: Rig, tmp_path: Path, what: str) -> None:
    """Whichever system call of it was the last one: no name is there twice, and none is back that was removed."""
    old, new = MOVES[what]
    source = make(tmp_path / "source", {name: name for name in ("mine", "changed", "removed", "one/x", "two/y", "two/z")})
    corner = Corner(rig.daemon, "p")
    kills = 0
    while True:
        corner.log(source)
        draft = corner.begin("c:latest")
        (draft / "changed").write_text("changed here")
        (draft / "two" / "y").write_text("changed here")
        (draft / "removed").unlink()
        (draft / "sub").mkdir()
        before = picture(draft)
        after = {new + name.removeprefix(old) if f"{name}/".startswith(f"{old}/") else name: it for name, it in before.items()}
        rig.doom(Doom("rename", kills + 2))  # the first step is its beginning
        try:
            os.rename(draft / old, draft / new)
        except OSError:
            rig.revive("moving in a draft")
            kills += 1
            assert picture(draft) in (before, after)
            corner.commit("c:latest")
            assert picture(corner.path / "c" / "latest") in (before, after)
        else:
            assert picture(draft) == after
            break
    assert kills or old == "sub"  # which takes one system call
