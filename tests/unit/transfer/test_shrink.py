"""When memory is given back after transfers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from artfs.transfer.shrink import Shrinker


def test_memory_is_given_back_once_after_many_transfers() -> None:
    given: list[int] = []
    under_way = {1, 2, 3}
    with ThreadPoolExecutor(2) as aside:
        shrinker = Shrinker(aside, lambda: not under_way, lambda: given.append(len(under_way)))
        for number in (1, 2, 3):
            under_way.discard(number)
            shrinker.ended()
        shrinker.ended()
    assert given == [0]


def test_nothing_is_given_back_while_more_comes() -> None:
    given: list[int] = []
    looks = iter([True, False])  # idle when the transfer ended, not any more after a while
    with ThreadPoolExecutor(1) as aside:
        Shrinker(aside, lambda: next(looks), lambda: given.append(1)).ended()
    assert given == []


def test_the_end_may_have_come() -> None:
    aside = ThreadPoolExecutor(1)
    aside.shutdown()
    Shrinker(aside, lambda: True, lambda: None).ended()
