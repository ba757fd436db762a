"""Memory for bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from artfs.server.budget import Budget


def test_bodies_wait_for_room_in_their_order() -> None:
    async def run() -> None:
        budget = Budget(10)
        order: list[str] = []
        ends = {name: asyncio.Event() for name in "abcde"}

        async def take(name: str, nbytes: int) -> None:
            async with budget.take(nbytes):
                order.append(name)
                await ends[name].wait()

        tasks = {}
        # One that is larger than all there is, and one that needs nothing.
        for name, nbytes in (("a", 6), ("b", 4), ("c", 99), ("d", 1), ("e", 0)):
            tasks[name] = asyncio.create_task(take(name, nbytes))
            await asyncio.sleep(0)
        assert order == ["a", "b", "e"]
        ends["a"].set()
        await tasks["a"]
        await asyncio.sleep(0)
        assert order == ["a", "b", "e"]
        ends["b"].set()
        await tasks["b"]
        await asyncio.sleep(0)
        assert order == ["a", "b", "e", "c"]
        for end in ends.values():
            end.set()
        await asyncio.gather(*tasks.values())
        assert order[-1] == "d"
        await whole(budget)

    asyncio.run(run())


def test_who_goes_away_takes_nothing_along() -> None:
    async def run() -> None:
        budget = Budget(10)
        hold, end = budget.take(8), asyncio.Event()

        async def take(nbytes: int) -> None:
            async with budget.take(nbytes):
                await end.wait()

        await hold.__aenter__()
        first, second, third = (asyncio.create_task(take(nbytes)) for nbytes in (9, 2, 8))
        await asyncio.sleep(0)
        # The one at the head goes: the one behind it had room all the time.
        assert await cancelled(first)
        await asyncio.sleep(0)
        assert not second.done()
        # One whose turn has just come goes.
        await hold.__aexit__(None, None, None)
        assert await cancelled(third)
        end.set()
        await second
        await whole(budget)

    asyncio.run(run())


async def cancelled(task: asyncio.Task[None]) -> bool:
    task.cancel()
    return (await asyncio.gather(task, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def whole(budget: Budget) -> None:
    """All of it is there again."""

    async def all_of_it() -> None:
        async with budget.take(10):
            pass

    waiting: Coroutine[Any, Any, None] = all_of_it()
    await asyncio.wait_for(waiting, 1)


def test_room_that_comes_while_somebody_is_being_cancelled_goes_to_the_next() -> None:
    async def run() -> None:
        budget = Budget(10)
        done: list[str] = []

        async def take(name: str) -> None:
            async with budget.take(10):
                done.append(name)

        async with budget.take(10):
            leaving, staying = asyncio.create_task(take("leaving")), asyncio.create_task(take("staying"))
            await asyncio.sleep(0)
            leaving.cancel()  # it hears of it once the loop runs again, which is after this room is free
        await asyncio.wait_for(staying, 10)
        assert done == ["staying"]
        assert leaving.cancelled()
        async with asyncio.timeout(10), budget.take(10):
            assert budget._left == 0
        assert (budget._left, len(budget._waiting)) == (10, 0)

    asyncio.run(run())
