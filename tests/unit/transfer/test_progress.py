import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest

from artfs.transfer.ahead import Ahead
from artfs.transfer.progress import Meter
from artfs.wire.control import Progress


def test_the_last_numbers_are_told() -> None:
    told: list[Progress] = []
    with Meter(told.append, "work", 1000, 5000) as meter:
        for _ in range(1000):
            meter.advance(1, 5)
    assert told[0] == Progress("work", 1, 1000, 5, 5000)
    assert told[-1] == Progress("work", 1000, 1000, 5000, 5000)
    assert len(told) < 1000


def test_nothing_is_told_after_an_error() -> None:
    told: list[Progress] = []
    with pytest.raises(KeyError), Meter(told.append, "work"):
        raise KeyError
    assert told == []


def test_nobody_may_listen() -> None:
    with Meter(None, "work") as meter:
        meter.advance(1)


def test_threads_may_count_at_once() -> None:
    told: list[Progress] = []
    with Meter(told.append, "work") as meter:
        threads = [
            threading.Thread(target=lambda: [meter.advance(1, 2) for _ in range(1000)]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert told[-1] == Progress("work", 8000, 0, 16000, 0)
    assert [item.files for item in told] == sorted(item.files for item in told)


def test_results_come_in_order_and_work_is_bounded() -> None:
    begun = 0

    def tasks() -> Iterator[Callable[[], int]]:
        nonlocal begun
        for number in range(1000):
            begun += 1
            yield partial(int, number)

    taken = 0
    with closing(Ahead(3).run(tasks())) as results:
        for result in results:
            assert result == taken
            taken += 1
            assert begun - taken < 100
    assert taken == 1000


def test_the_first_error_ends_the_rest() -> None:
    ahead = Ahead(2)
    advance = ahead.count(Meter(None, "work"))
    began = threading.Event()
    ended = threading.Event()

    def work() -> None:
        began.set()
        try:
            while True:
                advance(1)
        finally:
            ended.set()

    def fail() -> None:
        assert began.wait(20)
        raise KeyError("first")

    with pytest.raises(KeyError, match="first"), closing(ahead.run([fail, work])) as results:
        list(results)
    assert ended.is_set()


def test_leaving_early_ends_the_rest() -> None:
    ahead = Ahead(1)
    done: list[int] = []
    with closing(ahead.run(partial(done.append, number) for number in range(10_000))) as results:
        next(results)
    assert len(done) < 100
