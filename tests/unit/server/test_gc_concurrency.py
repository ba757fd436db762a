"""Garbage collection beside everything that others do at the same moment: nothing that a living version needs ever goes.

Hypothesis plans what happens: batches of work that threads do at once, among them collections with a grace period of a few
moments. Time is a clock that moves with each look at it, and in leaps between batches; so what one batch touched is old in the
next. After each batch every living version is read whole through the rights of each project that has it.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from artfs.catalog import open_catalog
from artfs.catalog.sql.engine import Database
from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.errors import AliasInUseError, BlobMissingError, NotFoundError
from artfs.model.digests import digest_bytes
from artfs.model.manifest import Manifest
from artfs.model.records import Member
from artfs.model.tree import PageCache
from artfs.store.bucket import Buffer, StoredObject
from artfs.store.folderbucket import FolderBucket
from artfs.testing.blobworld import BlobWorld, some_data
from artfs.testing.postgres import Postgres

GRACE_S = 1.0
"""Far longer than a batch takes: by the clock, each look at which is 50 µs."""

LEAP_US = 3_000_000
EXAMPLES = int(os.environ.get("ARTFS_TEST_GC_EXAMPLES", "12"))
MEMORY = Path("/dev/shm")
"""So that hundreds of syncs take no time."""

PROJECTS = ("p", "q")


class Ticks:
    """A clock whose every look is 50 µs after the one before. Thread-safe."""

    def __init__(self) -> None:
        self._now = 1_800_000_000_000_000
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self._now += 50
            return self._now

    def leap(self, by_us: int) -> None:
        with self._lock:
            self._now += by_us


class Dawdling(SqlBlobLedger):
    """Waits a moment before each transaction, so that others come in between."""

    def __init__(self, database: Database, seed: int) -> None:
        super().__init__(database, touch_every_us=200_000)
        self._dice = random.Random(seed)
        self.is_hurried = True

    def __getattribute__(self, name: str) -> Any:
        if name in _TRANSACTIONS and not self.is_hurried and (wait_s := self._dice.choice((0.0, 0.0, 0.001, 0.005, 0.01))):
            time.sleep(wait_s)
        return super().__getattribute__(name)


_TRANSACTIONS = frozenset({
    "hold", "find", "add", "close_trees", "share", "roots", "rows", "open_trees", "remove", "remove_blobs", "remove_packs",
    "packs_to_move", "move_packs", "unknown_keys",
})  # fmt: skip


class TimedBucket(FolderBucket):
    """Its objects were made when the clock says so."""

    def __init__(self, root: Path, clock: Ticks) -> None:
        super().__init__(root)
        self._clock = clock
        self._made: dict[str, float] = {}

    def put(self, key: str, data: Buffer) -> None:
        self._made[key] = self._clock() / 1e6
        super().put(key, data)

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        # What is on its way has another name, which nobody could have made before.
        return (
            each._replace(modified=self._made[each.key]) for each in super().objects(prefix) if each.key in self._made
        )


def content(number: int) -> bytes:
    """Small files, some of which have an object to themselves."""
    return some_data(150_000, number) if number % 7 == 0 else b"content %d" % number


paths = st.sampled_from(["a", "b/c", "b/d", "e/f", "e/g/h"])
numbers = st.integers(0, 9)
files = st.dictionaries(paths, numbers, min_size=1, max_size=5)
change = st.dictionaries(paths, numbers, min_size=1, max_size=1)
works = st.one_of(
    st.tuples(st.just("commit"), st.sampled_from(PROJECTS), files),
    st.tuples(st.just("rebase"), st.sampled_from(PROJECTS), st.tuples(change, st.integers(0, 9))),
    st.tuples(st.just("abandon"), st.sampled_from(PROJECTS), files),
    st.tuples(st.just("delete"), st.sampled_from(PROJECTS), st.integers(0, 5)),
    st.tuples(st.just("link"), st.sampled_from(PROJECTS), st.integers(0, 5)),
    st.tuples(st.just("unlink"), st.sampled_from(PROJECTS), st.integers(0, 5)),
    st.tuples(st.just("collect"), st.just(""), st.just(0)),
)
deletions = st.one_of(
    st.lists(st.tuples(st.sampled_from(["delete", "unlink"]), st.sampled_from(PROJECTS), st.integers(0, 5)), max_size=4),
    st.sampled_from(PROJECTS).map(lambda name: [("delete", name, 0)] * 20),
)
PORTFOLIO = {"p": "of-q", "q": "of-p"}
OTHER = {"p": "q", "q": "p"}


class Machine(RuleBasedStateMachine):
    """`databases`: makes an empty database, and says where it is."""

    databases: Callable[[ExitStack, Path], Path | str]
    threads = 4

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.folder = TemporaryDirectory(prefix="artfs-gc-", dir=MEMORY if MEMORY.is_dir() else None)
        self.stack = ExitStack()
        database = type(self).databases(self.stack, Path(self.folder.name))
        self.clock = Ticks()
        bucket = TimedBucket(Path(self.folder.name, "bucket"), self.clock)
        self.world = BlobWorld(database, bucket, clock=self.clock, make_ledger=lambda database: Dawdling(database, seed))
        self.readers = {name: self.world.token(f"e/{name} reader") for name in PROJECTS}
        for name in PROJECTS:
            self.world.project(name)
        self.pool = ThreadPoolExecutor(self.threads)
        # Every version that there ever was: its files, by project. Clients remember such.
        self.known: dict[str, list[dict[str, int]]] = {name: [] for name in PROJECTS}

    @rule(work=st.lists(works, min_size=1, max_size=6), leap=st.booleans())
    def batch(self, work: list[tuple[str, str, Any]], leap: bool) -> None:
        if leap:
            self.clock.leap(LEAP_US)
        self._run(work)

    @rule(gone=deletions, work=st.lists(works, min_size=1, max_size=4))
    def race(self, gone: list[tuple[str, str, int]], work: list[tuple[str, str, Any]]) -> None:
        """Versions went a while ago, so there is much to collect; and others work with what they remember."""
        for each in gone:
            self._work(*each)
        self.clock.leap(LEAP_US)
        self._run([("collect", "", 0), *work])

    def _run(self, work: list[tuple[str, str, Any]]) -> None:
        start = threading.Barrier(min(len(work), self.threads))

        def run(number: int, each: tuple[str, str, Any]) -> None:
            if number < start.parties:
                start.wait(30)
            self._work(*each)

        ledger = self.world.ledger
        assert isinstance(ledger, Dawdling)
        ledger.is_hurried = self.threads == 1
        futures = [self.pool.submit(run, *each) for each in enumerate(work)]
        try:
            for future in futures:
                future.result(120)
        finally:
            ledger.is_hurried = True

    def _work(self, name: str, where: str, argument: Any) -> None:
        getattr(self, f"_{name}")(where, argument)

    @rule()
    def leap_and_collect(self) -> None:
        """All that nobody needs, goes; so the invariant has something to find."""
        self.clock.leap(LEAP_US)
        self._collect("", 0)

    @invariant()
    def living_versions_can_be_read(self) -> None:
        if not hasattr(self, "world"):
            return
        for name, members in self._members().items():
            for member in members:
                self._read_whole(name, member.version.digest)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        # Nothing is left when everything was deleted.
        for name, members in self._members().items():
            for member in members:
                if not member.is_link:
                    self.world.catalog.delete_version(member.id, delete_aliases=True)
            del name
        for _ in range(3):
            self.clock.leap(2 * 3_600_000_000)
            self._collect("", 0)
        assert [self.world.ledger.usage(self.world.project(name).id)[:2] for name in PROJECTS] == [(0, 0)] * 2
        self.world.settle()
        assert self.world.keys("packs/") == []
        assert self.world.keys("blobs/") == []
        self.pool.shutdown()
        self.world.close()
        self.stack.close()
        self.folder.cleanup()

    # work -------------------------------------------------------------------------------------------------------
    def _commit(self, where: str, numbers: dict[str, int]) -> None:
        """As a client does that has all of it: asks, sends what is missing, commits. That is never refused."""
        self.world.commit({path: content(number) for path, number in numbers.items()}, where)
        self.known[where].append(numbers)

    def _rebase(self, where: str, given: tuple[dict[str, int], int]) -> None:
        """Commits a version that it remembers, with changes. Of what it did not change it has the trees, but no files: if they
        are not there any more, the commit is refused, and nothing of it is to be seen."""
        numbers, which = given
        known = self.known[where]
        if not known:
            return
        old = known[which % len(known)]
        files = {path: number for path, number in old.items() if _fits(path, numbers)} | numbers
        built, everything = self.world.build({path: content(number) for path, number in files.items()})
        mine = {digest_bytes(content(number)) for number in numbers.values()} | set(dict(built.objects))
        project = self.world.project(where)
        self.world.send(project, {digest: data for digest, data in everything.items() if digest in mine})
        with suppress(BlobMissingError):
            self.world.commit_tree(project, built)
            known.append(files)

    def _abandon(self, where: str, numbers: dict[str, int]) -> None:
        """Sends, and never commits."""
        _, blobs = self.world.build({path: content(number) for path, number in numbers.items()})
        self.world.send(self.world.project(where), blobs)

    def _delete(self, where: str, number: int) -> None:
        self._with(where, number, False, lambda member: self.world.catalog.delete_version(member.id, delete_aliases=True))

    def _link(self, where: str, number: int) -> None:
        def link(member: Member) -> None:
            try:
                self.world.link(member, OTHER[where], PORTFOLIO[OTHER[where]])
            except BlobMissingError:
                # Deleted since we looked, and swept.
                with pytest.raises(NotFoundError):
                    self.world.catalog.link(member.version.id, "e", OTHER[where], PORTFOLIO[OTHER[where]])

        self._with(where, number, False, link)

    def _unlink(self, where: str, number: int) -> None:
        self._with(where, number, True, lambda member: self.world.catalog.unlink(member.id))

    def _with(self, where: str, number: int, is_link: bool, call: Callable[[Member], object]) -> None:
        members = [member for member in self._members()[where] if member.is_link == is_link]
        if members:
            with suppress(NotFoundError, AliasInUseError):  # another thread was faster
                call(members[number % len(members)])

    def _collect(self, where: str, argument: object) -> None:
        assert self.world.collect(GRACE_S, least_grace_s=0.0).unread == []

    # looking ----------------------------------------------------------------------------------------------------
    def _members(self) -> dict[str, list[Member]]:
        found: dict[str, list[Member]] = {}
        for name in PROJECTS:
            collections = self.world.catalog.collections("e", name)
            found[name] = [member for each in collections for member in self.world.catalog.members(each.id)]
        return found

    def _page(self, where: str, digest: str) -> bytes:
        got = self.world.read(self.readers[where], digest)
        if digest not in got:
            raise BlobMissingError(f"no page {digest}", digest)
        assert digest_bytes(got[digest]) == digest
        return got[digest]

    def _read_whole(self, where: str, root: str) -> None:
        manifest = Manifest(PageCache(lambda digest: self._page(where, digest)), root)
        wanted = list(dict.fromkeys(manifest.objects()))
        got = self.world.read(self.readers[where], *wanted)
        assert set(got) == set(wanted), f"{set(wanted) - set(got)} of a living version of {where} is gone"
        assert all(digest_bytes(data) == digest for digest, data in got.items())


def _fits(path: str, others: dict[str, int]) -> bool:
    return not any(other == path or other.startswith(path + "/") or path.startswith(other + "/") for other in others)


def run(monkeypatch: pytest.MonkeyPatch, databases: Callable[[ExitStack, Path], Path | str], threads: int, examples: int) -> None:
    monkeypatch.setattr(Machine, "databases", staticmethod(databases), raising=False)
    monkeypatch.setattr(Machine, "threads", threads)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck),
            # What threads do differs from run to run, so an example that failed may not fail again.
            database=None, print_blob=False, phases=[Phase.generate],
        ),
    )


@pytest.mark.parametrize("threads", [1, 4])
def test_nothing_that_a_living_version_needs_ever_goes(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "template.db"
    open_catalog(template).close()
    run(monkeypatch, lambda stack, folder: Path(shutil.copy(template, folder / "catalog.db")), threads, EXAMPLES)


def test_nothing_that_a_living_version_needs_ever_goes_in_postgresql(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(stack: ExitStack, folder: Path) -> str:
        return postgres.url(stack.enter_context(postgres.database(postgres.template)))

    run(monkeypatch, make, 4, max(2, EXAMPLES // 3))
