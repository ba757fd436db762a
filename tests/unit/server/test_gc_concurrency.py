"""Garbage collection beside everything that others do at the same moment: nothing that a living version needs ever goes.

Hypothesis plans what happens: batches of work that threads do at once, among them collections with a grace period of a few
moments. Time is a clock that moves with each look at it, and in leaps between batches; so what one batch touched is old in the
next. After each batch every living version is read whole through the rights of each project that has it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from artfs.catalog import open_catalog
from artfs.errors import AliasInUseError, BlobMissingError, NotFoundError
from artfs.model.digests import digest_bytes
from artfs.model.entry import FileEntry
from artfs.model.manifest import Manifest, build_manifest
from artfs.model.records import Member
from artfs.model.tree import PageCache
from artfs.store.bucket import Buffer, StoredObject
from artfs.store.folderbucket import FolderBucket
from artfs.testing.blobworld import BlobWorld, some_data

GRACE_S = 1.0
"""Far longer than a batch takes: by the clock, each look at which is 50 µs."""

LEAP_US = 3_000_000
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


files = st.dictionaries(
    st.sampled_from(["a", "b/c", "b/d", "b/e/f", "g/h", "g/i/j", "g/i/k"]), st.integers(0, 20), min_size=1, max_size=7
)
works = st.one_of(
    st.tuples(st.just("commit"), st.sampled_from(PROJECTS), files),
    st.tuples(st.just("rebase"), st.sampled_from(PROJECTS), files),
    st.tuples(st.just("abandon"), st.sampled_from(PROJECTS), files),
    st.tuples(st.just("delete"), st.sampled_from(PROJECTS), st.integers(0, 5)),
    st.tuples(st.just("link"), st.sampled_from(PROJECTS), st.integers(0, 5)),
    st.tuples(st.just("unlink"), st.sampled_from(PROJECTS), st.integers(0, 5)),
    st.tuples(st.just("collect"), st.just(""), st.just(0)),
)
PORTFOLIO = {"p": "of-q", "q": "of-p"}
OTHER = {"p": "q", "q": "p"}


class Machine(RuleBasedStateMachine):
    template: Path
    threads = 4

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory(prefix="artfs-gc-", dir=MEMORY if MEMORY.is_dir() else None)
        database = Path(self.folder.name, "catalog.db")
        database.write_bytes(self.template.read_bytes())
        self.clock = Ticks()
        bucket = TimedBucket(Path(self.folder.name, "bucket"), self.clock)
        self.world = BlobWorld(database, bucket, clock=self.clock, touch_every_us=200_000)
        self.readers = {name: self.world.token(f"e/{name} reader") for name in PROJECTS}
        for name in PROJECTS:
            self.world.project(name)
        self.pool = ThreadPoolExecutor(self.threads)
        self.lock = threading.Lock()
        self.refused = self.done = 0

    @rule(work=st.lists(works, min_size=1, max_size=6), leap=st.booleans())
    def batch(self, work: list[tuple[str, str, object]], leap: bool) -> None:
        if leap:
            self.clock.leap(LEAP_US)
        start = threading.Barrier(min(len(work), self.threads))

        def run(number: int, name: str, where: str, argument: object) -> None:
            if number < start.parties:
                start.wait(30)
            getattr(self, f"_{name}")(where, argument)

        futures = [self.pool.submit(run, number, *each) for number, each in enumerate(work)]
        for future in futures:
            future.result(120)

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
        self.folder.cleanup()

    # work -------------------------------------------------------------------------------------------------------
    def _commit(self, where: str, numbers: dict[str, int]) -> None:
        """As a client does: asks, sends what is missing, commits."""
        try:
            self.world.commit({path: content(number) for path, number in numbers.items()}, where)
        except BlobMissingError:
            # A collection was faster than somebody whose touches are too old. Never so here: a batch is short.
            raise AssertionError("a commit lost what it had touched") from None

    def _rebase(self, where: str, numbers: dict[str, int]) -> None:
        """Commits what it knows of the project's versions with changes, and sends only what it changed: if a directory is there,
        it does not look below, and has nothing of it to send. That may be refused, when the version went in the meantime."""
        members = [member for member in self._members()[where] if not member.is_link]
        if not members:
            return
        try:
            base = Manifest(PageCache(lambda digest: self._page(where, digest)), members[-1].version.digest)
            held = {path: entry for path, entry in base.walk() if isinstance(entry, FileEntry)}
        except BlobMissingError:
            return
        changed = {path: _entry(path, content(number)) for path, number in numbers.items()}
        kept = {path: entry for path, entry in held.items() if _fits(path, changed)}
        built = build_manifest({**kept, **changed})
        blobs = {digest_bytes(content(number)): content(number) for number in numbers.values()} | dict(built.objects)
        project = self.world.project(where)
        self.world.send(project, blobs)
        try:
            self.world.commit_tree(project, built)
        except BlobMissingError:
            self.refused += 1

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
        done = self.world.collect(GRACE_S, least_grace_s=0.0)
        assert done.unread == []
        with self.lock:
            self.done += done.removed

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


def _entry(path: str, data: bytes) -> FileEntry:
    return FileEntry(path.rpartition("/")[2].encode(), len(data), bytes.fromhex(digest_bytes(data)), b"", False)


def _fits(path: str, changed: dict[str, FileEntry]) -> bool:
    return not any(other == path or other.startswith(path + "/") or path.startswith(other + "/") for other in changed)


@pytest.mark.parametrize("threads", [1, 4])
def test_nothing_that_a_living_version_needs_ever_goes(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_catalog(tmp_path / "template.db").close()
    monkeypatch.setattr(Machine, "template", tmp_path / "template.db", raising=False)
    monkeypatch.setattr(Machine, "threads", threads)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck),
            # What threads do differs from run to run, so an example that failed may not fail again.
            database=None, print_blob=False,
        ),
    )
