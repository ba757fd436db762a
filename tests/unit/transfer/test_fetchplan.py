"""What a fetcher does next."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from artfs.transfer.fetchplan import (
    GATHER_NBYTES,
    GATHER_S,
    RANGE_BLOCKS,
    SMALL_COUNT,
    SMALL_NBYTES,
    Came,
    FetchPlan,
    Ranges,
    Smalls,
)


def nothing_here(key: str, index: int) -> bool:
    return False


@pytest.fixture
def plan() -> FetchPlan:
    return FetchPlan(nothing_here)


def test_what_is_waited_for_comes_before_what_is_ahead(plan: FetchPlan) -> None:
    plan.want_ahead("a", range(3))
    plan.want_small_ahead([("s", 10)])
    plan.want_small("t", 10)
    plan.want("b", [5])
    assert plan.next(may_look_ahead=True) == Ranges("b", 5, 6, False)
    assert plan.next(may_look_ahead=True) == Smalls(["t", "s"], 20, 1)
    assert plan.next(may_look_ahead=False) is None
    assert plan.has_work()
    assert plan.next(may_look_ahead=True) == Ranges("a", 0, 3, True)
    assert plan.next(may_look_ahead=True) is None
    assert not plan.has_work()


def test_a_range_goes_on_with_what_is_ahead_right_behind(plan: FetchPlan) -> None:
    plan.want_ahead("a", range(2, 10))
    plan.want("a", [1])
    assert plan.next(may_look_ahead=True) == Ranges("a", 1, 10, False)
    assert plan.next(may_look_ahead=True) is None


def test_a_range_does_not_go_on_over_a_gap(plan: FetchPlan) -> None:
    plan.want("a", [1, 3, 4])
    assert plan.next(may_look_ahead=True) == Ranges("a", 1, 2, False)
    assert plan.next(may_look_ahead=True) == Ranges("a", 3, 5, False)


def test_long_runs_are_cut(plan: FetchPlan) -> None:
    plan.want_ahead("a", range(RANGE_BLOCKS + 1))
    assert plan.next(may_look_ahead=True) == Ranges("a", 0, RANGE_BLOCKS, True)
    assert plan.next(may_look_ahead=True) == Ranges("a", RANGE_BLOCKS, RANGE_BLOCKS + 1, True)


def test_blobs_take_turns(plan: FetchPlan) -> None:
    plan.want("a", [0, 2])
    plan.want("b", [0])
    found = [plan.next(may_look_ahead=True) for _ in range(3)]
    assert found == [Ranges("a", 0, 1, False), Ranges("b", 0, 1, False), Ranges("a", 2, 3, False)]


def test_nothing_is_fetched_twice_at_once(plan: FetchPlan) -> None:
    plan.want("a", [0])
    plan.want_small("s", 1)
    plan.next(may_look_ahead=True)
    plan.next(may_look_ahead=True)
    plan.want("a", [0])
    plan.want_ahead("a", [0])
    plan.want_small("s", 1)
    plan.want_small_ahead([("s", 1)])
    assert plan.next(may_look_ahead=True) is None
    plan.landed("a", [0])
    plan.small_landed("s")
    plan.want("a", [0])
    plan.want_small("s", 1)
    assert plan.next(may_look_ahead=True) == Ranges("a", 0, 1, False)
    assert plan.next(may_look_ahead=True) == Smalls(["s"], 1, 1)


def test_what_came_meanwhile_is_passed_over() -> None:
    plan = FetchPlan(lambda key, index: index < 2)
    plan.want("a", range(3))
    plan.want_ahead("b", range(3))
    assert plan.next(may_look_ahead=True) == Ranges("a", 2, 3, False)
    assert plan.has_work()
    assert plan.next(may_look_ahead=True) == Came("a", [0, 1])
    assert plan.next(may_look_ahead=True) == Ranges("b", 2, 3, True)
    plan.want("c", [0])
    assert plan.next(may_look_ahead=True) == Came("c", [0])


def test_what_is_ahead_can_be_given_up(plan: FetchPlan) -> None:
    plan.want_ahead("a", range(3))
    plan.cancel_ahead("a")
    plan.cancel_ahead("unknown")
    assert plan.next(may_look_ahead=True) is None


def test_small_blobs_go_many_at_once(plan: FetchPlan) -> None:
    for number in range(SMALL_COUNT + 1):
        plan.want_small(f"{number}", 1)
    found = plan.next(may_look_ahead=True)
    assert isinstance(found, Smalls) and len(found.digests) == SMALL_COUNT
    assert plan.next(may_look_ahead=True) == Smalls([f"{SMALL_COUNT}"], 1, 1)


def test_how_many_bytes_they_have_may_not_be_known(plan: FetchPlan) -> None:
    plan.want_small("s", 10)
    plan.want_small("t", 0)
    assert plan.next(may_look_ahead=True) == Smalls(["s", "t"], None, 2)


def test_but_not_too_many_bytes(plan: FetchPlan) -> None:
    for number in range(4):
        plan.want_small_ahead([(f"{number}", SMALL_NBYTES // 2)])
    assert plan.next(may_look_ahead=True) == Smalls(["0", "1"], SMALL_NBYTES, 0)
    assert plan.next(may_look_ahead=True) == Smalls(["2", "3"], SMALL_NBYTES, 0)


def test_small_blobs_that_are_ahead_wait_for_others_a_moment(plan: FetchPlan) -> None:
    plan.want_small_ahead([("s", 10)], 100.0)
    plan.want_small_ahead([("t", 10)], 100.0 + GATHER_S / 2)
    assert plan.gathers_s(100.0 + GATHER_S / 2) == pytest.approx(GATHER_S / 2)
    assert plan.next(may_look_ahead=True, now=100.0 + GATHER_S / 2) is None
    assert not plan.has_work(100.0 + GATHER_S / 2) and plan.has_work()
    assert plan.next(may_look_ahead=True, now=100.0 + GATHER_S) == Smalls(["s", "t"], 20, 0)
    assert plan.gathers_s(100.0) == 0
    # Those after them wait anew.
    plan.want_small_ahead([("u", 10)], 200.0)
    assert plan.next(may_look_ahead=True, now=200.0) is None


def test_but_not_when_enough_are_together(plan: FetchPlan) -> None:
    plan.want_small_ahead([("s", GATHER_NBYTES - 1), ("t", 1)], 100.0)
    assert plan.next(may_look_ahead=True, now=100.0) == Smalls(["s", "t"], GATHER_NBYTES, 0)


def test_nor_when_somebody_waits_for_one(plan: FetchPlan) -> None:
    plan.want_small_ahead([("s", 10), ("t", 10)], 100.0)
    plan.want_small("t", 10)
    assert plan.next(may_look_ahead=False, now=100.0) == Smalls(["t", "s"], 20, 1)


def test_nor_does_anything_else_wait_for_them(plan: FetchPlan) -> None:
    plan.want_small_ahead([("s", 10)], 100.0)
    plan.want_ahead("a", [0])
    assert plan.next(may_look_ahead=True, now=100.0) == Ranges("a", 0, 1, True)


class Machine(RuleBasedStateMachine):
    """Whatever is asked for, in whatever order: what is waited for flies at last, and never twice at once."""

    flights = Bundle("flights")

    def __init__(self) -> None:
        super().__init__()
        self.here: set[tuple[str, int]] = set()
        self.flying: set[tuple[str, int]] = set()
        self.wanted: set[tuple[str, int]] = set()
        self.plan = FetchPlan(lambda key, index: (key, index) in self.here)

    keys = st.sampled_from("ab")
    indexes = st.sets(st.integers(0, 40), max_size=30)

    @rule(key=keys, indexes=indexes)
    def want(self, key: str, indexes: set[int]) -> None:
        absent = {index for index in indexes if (key, index) not in self.here}
        self.wanted |= {(key, index) for index in absent}
        self.plan.want(key, absent)

    @rule(key=keys, indexes=indexes)
    def want_ahead(self, key: str, indexes: set[int]) -> None:
        self.plan.want_ahead(key, sorted(indexes))

    @rule(key=keys)
    def cancel(self, key: str) -> None:
        self.plan.cancel_ahead(key)

    @rule(target=flights, ahead=st.booleans())
    def take(self, ahead: bool) -> Ranges | None:
        work = self.plan.next(may_look_ahead=ahead)
        if work is None:
            assert self.wanted <= self.flying
            return None
        if isinstance(work, Came):
            found = {(work.key, index) for index in work.indexes}
            assert found <= self.here
            self.wanted -= found
            return None
        assert isinstance(work, Ranges) and 0 < work.stop - work.first <= RANGE_BLOCKS
        new = {(work.key, index) for index in range(work.first, work.stop)}
        assert not new & self.flying
        self.flying |= new
        return work

    @rule(work=flights, came=st.booleans())
    def land(self, work: Ranges | None, came: bool) -> None:
        if work is None:
            return
        blocks = {(work.key, index) for index in range(work.first, work.stop)} & self.flying
        self.plan.landed(work.key, [index for _, index in blocks])
        self.flying -= blocks
        self.wanted -= blocks
        if came:
            self.here |= blocks

    @invariant()
    def counts(self) -> None:
        assert self.plan.counts()[2] == len(self.flying)

    def teardown(self) -> None:
        while (work := self.plan.next(may_look_ahead=True)) is not None:
            if isinstance(work, Came):
                self.wanted -= {(work.key, index) for index in work.indexes}
            else:
                assert isinstance(work, Ranges)
                self.flying |= {(work.key, index) for index in range(work.first, work.stop)}
        assert self.wanted <= self.flying


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
