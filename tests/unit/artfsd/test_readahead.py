"""What is asked for ahead of a reader."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfsd.readahead import MOST, Pattern, Walk


def moved(pattern: Pattern, reads: list[tuple[int, int]]) -> set[int]:
    """The blocks that are fetched for these reads, demand and ahead."""
    blocks: set[int] = set()
    for first, stop in reads:
        blocks.update(range(first, stop))
        ahead = pattern.note(first, stop)
        if ahead is not None:
            assert ahead[0] < ahead[1]
            blocks.update(range(*ahead))
    return blocks


def sequential(start: int, length: int) -> list[tuple[int, int]]:
    return [(index, index + 1) for index in range(start, start + length)]


def test_a_long_sequential_read_is_far_ahead() -> None:
    pattern = Pattern(100_000)
    window = 0
    asked = 0
    ranges = []
    for index in range(8192):
        ahead = pattern.note(index, index + 1)
        if ahead is not None:
            asked = ahead[1]
            ranges.append(ahead[1] - ahead[0])
        window = asked - index - 1
        assert index < 5000 or MOST // 2 <= window <= MOST
    assert ranges[-1] >= MOST // 2  # many blocks at a time


@pytest.mark.parametrize("length", [20, 40, 100, 1000])
def test_whoever_stops_has_moved_a_sixteenth_too_much(length: int) -> None:
    blocks = moved(Pattern(100_000), sequential(5000, length))
    assert len(blocks) <= length * 17 / 16 + 1


def test_scattered_reads_ask_for_nothing() -> None:
    chooser = random.Random(7)
    reads = [(at, at + 1) for at in chooser.sample(range(0, 100_000, 3), 500)]
    assert len(moved(Pattern(100_000), reads)) == 500


def test_a_small_blob_read_from_its_beginning_is_wanted_whole() -> None:
    assert Pattern(10).note(0, 1) == (1, 10)
    assert Pattern(10).note(5, 6) is None
    assert Pattern(100).note(0, 1) is None


def test_columns_of_the_same_length_are_asked_for_as_far_as_they_go() -> None:
    pattern = Pattern(4096)
    needed: set[int] = set()
    fetched: set[int] = set()
    for group in range(8):
        reads = sequential(group * 512 + 100, 33)
        needed.update(first for first, _ in reads)
        if group >= 2:
            ahead = pattern.note(*reads[0])
            assert ahead is not None and ahead[1] - reads[0][0] == 32  # at once, all but its last block
            fetched.update(range(*ahead))
        fetched |= moved(pattern, reads)
    assert len(fetched) <= len(needed) * 1.1


def test_a_reader_from_the_beginning_on_is_expected_to_go_on() -> None:
    """For a sixteenth at first, as anywhere; for a quarter after 32 MiB, and never for more than 64 MiB."""
    for length in (100, 200, 1000, 3000):
        blocks = moved(Pattern(100_000), [(at, at + 1) for at in range(length)])
        most = length // 4 if length >= 128 else length // 16
        assert length + min(most // 2, 100) <= len(blocks) <= length + min(most, 256) + 1, length


def test_several_readers_of_one_blob_are_told_apart() -> None:
    pattern = Pattern(100_000)
    reads = [read for turn in range(400) for read in ((7 + turn, 8 + turn), (50_000 + turn, 50_001 + turn))]
    blocks = moved(pattern, reads)
    assert {417, 50_410} <= blocks
    assert len(blocks) <= 2 * 400 * 17 / 16 + 4


def test_reads_that_arrive_out_of_order_are_one_stream() -> None:
    pattern = Pattern(100_000)
    order = [index + swap for index in range(0, 400, 2) for swap in (1, 0)]
    blocks = moved(pattern, [(index, index + 1) for index in order])
    assert max(blocks) > 410


@given(
    count=st.integers(1, 300),
    reads=st.lists(st.tuples(st.integers(0, 299), st.integers(1, 8)), max_size=60),
)
def test_what_is_asked_for_is_in_the_blob_and_was_not_asked_for_by_that_stream(
    count: int, reads: list[tuple[int, int]]
) -> None:
    pattern = Pattern(count)
    for first, length in reads:
        if first >= count:
            continue
        ahead = pattern.note(first, min(first + length, count))
        if ahead is not None:
            assert 0 <= ahead[0] < ahead[1] <= count
            assert ahead[1] - ahead[0] <= MOST + 8


def test_one_file_alone_asks_for_no_other() -> None:
    walk = Walk(10_000)
    assert walk.note(5) is None
    assert walk.note(500) is None
    assert walk.note(3) is None


def test_a_walk_asks_for_more_and_more() -> None:
    walk = Walk(10_000)
    asked = [ahead for index in range(3000) if (ahead := walk.note(index)) is not None]
    assert asked[0] == (2, 34)
    assert [first for first, _ in asked[1:]] == [stop for _, stop in asked[:-1]]
    assert max(stop - first for first, stop in asked) == Walk.MANY


def test_a_walk_that_skips_some_is_one() -> None:
    walk = Walk(10_000)
    assert walk.note(0) is None
    assert walk.note(9) == (10, 42)


def test_several_walkers_do_not_ask_twice() -> None:
    walk = Walk(10_000)
    asked: list[int] = []
    for turn in range(0, 200, 4):
        for index in (turn + 1, turn, turn + 3, turn + 2):
            ahead = walk.note(index)
            if ahead is not None:
                asked += range(*ahead)
    assert len(asked) == len(set(asked))


def asked_by(walk: Walk, order: list[int], size: int) -> tuple[set[int], int]:
    """Files that were asked for ahead, and how many were not here when they were read in this order."""
    asked: set[int] = set()
    missed: set[int] = set()
    for index in order:
        # As the mount does it: each is opened, and those that are not here are read from afar.
        found = [walk.note(index)] if walk.is_begun else []
        if index not in asked:
            missed.add(index)
            if not walk.is_begun:
                walk.note(index)
            found.append(walk.note_miss(index, size))
        for ahead in found:
            if ahead is not None:
                assert 0 <= ahead[0] < ahead[1]
                asked.update(range(*ahead))
    return asked, len(missed)


@pytest.mark.parametrize("count", [100, 20_000])
def test_whoever_reads_all_in_any_order_waits_for_few(count: int) -> None:
    order = list(range(count))
    random.Random(count).shuffle(order)
    _, missed = asked_by(Walk(count), order, 20_000)
    assert missed <= count / 10 + 4


def test_whoever_wants_some_of_many_moves_a_multiple_of_them_only() -> None:
    order = random.Random(1).sample(range(0, 1_000_000, 50), 50)
    asked, _ = asked_by(Walk(1_000_000), order, 20_000)
    assert len(asked) <= len(order) * Walk.SHARE
    asked, _ = asked_by(Walk(1_000_000), order, 1_000_000)
    assert len(asked) <= len(order) * 2


def test_after_directories_that_were_read_as_a_whole_the_first_file_asks_for_others() -> None:
    walk = Walk(100, eager=True)
    walk.note(7)
    ahead = walk.note_miss(7, 20_000)
    assert ahead is not None and ahead[0] <= 7 < ahead[1]
    assert ahead[1] - ahead[0] == 4 * Walk.SHARE
    assert walk.is_through


def test_what_could_not_be_asked_for_is_asked_for_again() -> None:
    walk = Walk(500)
    walk.note(0)
    assert walk.note(1) == (2, 34)
    walk.stopped(20)  # its page was not there
    found = walk.note(3)
    assert found is not None
    assert found[0] == 20
    walk = Walk(64)
    for index in (40, 41, 42):
        walk.note_miss(index, 100)
    walk.stopped(0)
    asked: set[int] = set()
    for index in (5, 6, 7, 8):
        if (more := walk.note_miss(index, 100)) is not None:
            asked.update(range(*more))
    assert {5, 6, 7, 8} <= asked


def test_all_of_a_directory() -> None:
    walk = Walk(300, eager=True)
    assert walk.all() == (0, 300)
    assert walk.is_through
    assert [walk.note(index) for index in range(290)] == [None] * 290
    assert walk.note_miss(299, 100) is None
