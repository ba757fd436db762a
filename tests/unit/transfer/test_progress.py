import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest

from artfs.transfer.ahead import HEAVY_ABOVE, Ahead, Light, Ready, in_groups
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


def test_light_tasks_run_on_the_callers_thread_as_long_as_they_compute() -> None:
    elapsed, busy = 0.0, 0.0

    def compute() -> str:
        nonlocal elapsed, busy
        elapsed += 0.003
        busy += 0.002
        return threading.current_thread().name

    ahead = Ahead(4, clock=lambda: elapsed, busy_clock=lambda: busy)
    with closing(ahead.run(Light(compute) for _ in range(30))) as names:
        assert set(names) == {threading.current_thread().name}


def test_light_tasks_that_wait_run_side_by_side() -> None:
    begun = threading.Barrier(3)
    calls = itertools.count()

    def wait() -> None:
        if next(calls) < 8:
            time.sleep(0.002)
        else:
            begun.wait(20)

    with closing(Ahead(3).run(Light(wait) for _ in range(8 + 9))) as results:
        assert len(list(results)) == 17


def test_results_known_beforehand_keep_their_place() -> None:
    tasks = [Ready(0), partial(int, 1), Ready(2), Light(partial(int, 3)), Ready(4)]
    with closing(Ahead(2).run(tasks)) as results:
        assert list(results) == [0, 1, 2, 3, 4]


def test_large_items_are_tasks_of_their_own() -> None:
    sizes = [1, HEAVY_ABOVE + 1, 2, 3, HEAVY_ABOVE, 4, 2 * HEAVY_ABOVE]
    tasks = list(in_groups(sizes, int, tuple, 3))
    light = [task.task() for task in tasks if isinstance(task, Light)]
    heavy = [task() for task in tasks if not isinstance(task, Light)]
    assert light == [(1, 2, 3), (HEAVY_ABOVE, 4)]
    assert heavy == [(HEAVY_ABOVE + 1,), (2 * HEAVY_ABOVE,)]
