"""What a fetcher does next: pure bookkeeping, no I/O and no threads (its owner holds a lock).

Two kinds of things are fetched: blocks of large blobs, in ranges, and small blobs, many at once. Each is wanted (somebody
waits), ahead (somebody will probably read it), or flying (a transfer has it).
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

RANGE_BLOCKS = 64
"""Blocks in one range at the most (16 MiB): several ranges of that size are under way for one reader."""

SMALL_COUNT = 512
SMALL_NBYTES = 4 * 1024 * 1024
"""Small blobs in one request at the most."""

SMALL_AHEAD = 50_000
"""Small blobs that are ahead at the most; the oldest are given up."""

GATHER_S = 0.005
GATHER_NBYTES = 1024 * 1024
"""So long, in seconds, small blobs that are only ahead wait for others, unless so many bytes are together. Several readers of
one directory ask for it piece by piece within a few milliseconds, and a request costs more than what it brings."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Fetch the blocks first … stop - 1 of the large blob `key` (largeblob.large_key). `ahead`: nobody waits for them."""

    key: str
    first: int
    stop: int
    ahead: bool


@dataclass(frozen=True, slots=True)
class Came:
    """These blocks of the large blob `key` were waited for and are here: somebody else brought them. Nothing is to be
    fetched, but who waits must be told."""

    key: str
    indexes: list[int]
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class Smalls:
    """Fetch these small blobs. `nbytes`: of all together; None: nobody said. `waited`: somebody waits for so many of them, which
    are the first."""

    digests: list[str]
    nbytes: int | None
    waited: int

    @property
    def ahead(self) -> bool:
        """Whether nobody waits for any of them."""
        return not self.waited


@dataclass(slots=True)
class _Blocks:
    wanted: set[int] = field(default_factory=set)
    ahead: deque[int] = field(default_factory=deque)
    is_ahead: set[int] = field(default_factory=set)
    flying: set[int] = field(default_factory=set)


class FetchPlan:
    """`is_here(key, index)`: whether a block came meanwhile; asked when its turn comes. Times are in seconds, of one clock."""

    def __init__(self, is_here: Callable[[str, int], bool]) -> None:
        self._is_here = is_here
        self._blobs: dict[str, _Blocks] = {}
        self._urgent: OrderedDict[str, None] = OrderedDict()
        self._later: OrderedDict[str, None] = OrderedDict()
        self._came: dict[str, list[int]] = {}
        self._small: OrderedDict[str, int] = OrderedDict()
        self._small_ahead: OrderedDict[str, int] = OrderedDict()
        self._small_ahead_nbytes = 0
        self._gathering_until = -math.inf  # of those: when they have waited long enough for others
        self._small_flying: set[str] = set()

    # blocks -----------------------------------------------------------------------------------------------------
    def want(self, key: str, indexes: Iterable[int]) -> None:
        """Somebody waits for these blocks."""
        blob = self._blobs.setdefault(key, _Blocks())
        blob.wanted.update(index for index in indexes if index not in blob.flying)
        if blob.wanted:
            self._urgent[key] = None

    def want_ahead(self, key: str, indexes: Iterable[int]) -> None:
        """These blocks will probably be read, in this order."""
        blob = self._blobs.setdefault(key, _Blocks())
        new = [
            index for index in indexes
            if index not in blob.flying and index not in blob.is_ahead and index not in blob.wanted
        ]
        if new:
            blob.ahead.extend(new)
            blob.is_ahead.update(new)
            self._later[key] = None

    def cancel_ahead(self, key: str) -> None:
        """What is ahead and was not begun is not wanted any more."""
        blob = self._blobs.get(key)
        if blob is not None:
            blob.ahead.clear()
            blob.is_ahead.clear()
            self._later.pop(key, None)

    def landed(self, key: str, indexes: Iterable[int]) -> None:
        """A transfer is through with these blocks, well or not."""
        blob = self._blobs.get(key)
        if blob is not None:
            blob.flying.difference_update(indexes)
            self._tidy(key, blob)

    def is_flying(self, key: str) -> bool:
        """Whether any block of it is."""
        blob = self._blobs.get(key)
        return blob is not None and bool(blob.flying)

    def still_flying(self, key: str, first: int, stop: int) -> list[int]:
        blob = self._blobs.get(key)
        return [] if blob is None else [index for index in range(first, stop) if index in blob.flying]

    def _tidy(self, key: str, blob: _Blocks) -> None:
        if not (blob.wanted or blob.is_ahead or blob.flying):
            self._blobs.pop(key, None)

    # small blobs ------------------------------------------------------------------------------------------------
    def want_small(self, digest: str, size: int) -> None:
        """Somebody waits for it. `size`: in bytes; 0: nobody said."""
        if digest not in self._small_flying:
            self._small_ahead_nbytes -= self._small_ahead.pop(digest, 0)
            self._small[digest] = size

    def want_small_ahead(self, blobs: Iterable[tuple[str, int]], now: float = -math.inf) -> None:
        """(digest, size) of small blobs that will probably be read, in this order. `now`: see `gathers_s`."""
        if not self._small_ahead:
            self._gathering_until = now + GATHER_S
        for digest, size in blobs:
            if digest not in self._small_flying and digest not in self._small and digest not in self._small_ahead:
                self._small_ahead[digest] = size
                self._small_ahead_nbytes += size
        while len(self._small_ahead) > SMALL_AHEAD:
            self._small_ahead_nbytes -= self._small_ahead.popitem(last=False)[1]

    def gathers_s(self, now: float) -> float:
        """How long small blobs that are ahead still wait for others before they are fetched, in seconds; 0: not at all, or there
        are none. Those that somebody waits for take them along."""
        if not self._small_ahead or self._small_ahead_nbytes >= GATHER_NBYTES:
            return 0.0
        return max(0.0, self._gathering_until - now)

    def small_landed(self, digest: str) -> None:
        self._small_flying.discard(digest)

    # what next --------------------------------------------------------------------------------------------------
    def next(self, *, may_look_ahead: bool, now: float = math.inf) -> Came | Ranges | Smalls | None:
        """The most urgent work, which is flying from now on; None: there is none (that may be done now)."""
        work = self._next(may_look_ahead, now) if not self._came else None
        # Looking for work may have found that some is done.
        return Came(*self._came.popitem()) if self._came and work is None else work

    def _next(self, may_look_ahead: bool, now: float) -> Ranges | Smalls | None:
        while self._urgent:
            key = next(iter(self._urgent))
            blob = self._blobs[key]
            run = self._take_wanted(key, blob)
            if blob.wanted:
                self._urgent.move_to_end(key)
            else:
                del self._urgent[key]
            if run is not None:
                return Ranges(key, *run, ahead=False)
            self._tidy(key, blob)
        if self._small:
            return self._take_small()
        if not may_look_ahead:
            return None
        if self._small_ahead and not self.gathers_s(now):
            smalls = self._take_small()
            if smalls.digests:
                return smalls
        while self._later:
            key = next(iter(self._later))
            found = self._blobs.get(key)
            run = self._take_ahead(key, found) if found is not None else None
            if found is not None and found.ahead:
                self._later.move_to_end(key)
            else:
                del self._later[key]
            if run is not None:
                return Ranges(key, *run, ahead=True)
            if found is not None:
                self._tidy(key, found)
        return None

    def has_work(self, now: float = math.inf) -> bool:
        """That may be done now."""
        small_ahead = self._small_ahead and not self.gathers_s(now)
        return bool(self._came or self._urgent or self._small or small_ahead or self._later)

    def _take_wanted(self, key: str, blob: _Blocks) -> tuple[int, int] | None:
        """The first blocks that somebody waits for, with those right behind them that are ahead."""
        while blob.wanted:
            first = min(blob.wanted)
            blob.wanted.discard(first)
            if first in blob.flying:
                continue
            if self._is_here(key, first):
                self._came.setdefault(key, []).append(first)
                continue
            stop = first + 1
            while stop - first < RANGE_BLOCKS and stop not in blob.flying and (
                stop in blob.wanted or stop in blob.is_ahead
            ):
                blob.wanted.discard(stop)
                stop += 1
            self._fly(blob, first, stop)
            return first, stop
        return None

    def _take_ahead(self, key: str, blob: _Blocks) -> tuple[int, int] | None:
        while blob.ahead:
            first = blob.ahead.popleft()
            if first not in blob.is_ahead:
                continue
            if first in blob.flying or self._is_here(key, first):
                blob.is_ahead.discard(first)
                continue
            stop = first + 1
            while stop - first < RANGE_BLOCKS and stop in blob.is_ahead and stop not in blob.flying:
                stop += 1
            self._fly(blob, first, stop)
            return first, stop
        return None

    def _fly(self, blob: _Blocks, first: int, stop: int) -> None:
        blob.flying.update(range(first, stop))
        blob.is_ahead.difference_update(range(first, stop))

    def _take_small(self) -> Smalls:
        batch: list[str] = []
        waited = 0
        nbytes = 0
        is_known = True
        for queue in (self._small, self._small_ahead):
            while queue and len(batch) < SMALL_COUNT and nbytes < SMALL_NBYTES:
                digest, size = queue.popitem(last=False)
                if queue is self._small_ahead:
                    self._small_ahead_nbytes -= size
                if digest not in self._small_flying:
                    self._small_flying.add(digest)
                    batch.append(digest)
                    nbytes += size
                    is_known = is_known and size > 0
            if queue is self._small:
                waited = len(batch)
        return Smalls(batch, nbytes if is_known else None, waited)

    def counts(self) -> tuple[int, int, int]:
        """How many blocks and small blobs are (wanted, ahead, flying)."""
        blobs = self._blobs.values()
        return (
            len(self._small) + sum(len(blob.wanted) for blob in blobs),
            len(self._small_ahead) + sum(len(blob.is_ahead) for blob in blobs),
            len(self._small_flying) + sum(len(blob.flying) for blob in blobs),
        )

    def lines(self) -> list[str]:
        """What is not here yet, for people: blobs with their blocks, small blobs."""
        found = [
            f"blob {key}: wanted {_some(blob.wanted)}, ahead {_some(blob.is_ahead)}, under way {_some(blob.flying)}"
            for key, blob in self._blobs.items()
        ]
        found += [f"small blob {digest}: wanted" for digest in self._small]
        found += [f"small blob {digest}: ahead" for digest in self._small_ahead]
        return found + [f"small blob {digest}: under way" for digest in self._small_flying]


def _some(indexes: Iterable[int]) -> str:
    ordered = sorted(indexes)
    return ",".join(map(str, ordered[:20])) + (f" and {len(ordered) - 20} more" if len(ordered) > 20 else "") or "-"
