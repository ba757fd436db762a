"""What a daemon does beside serving when its catalog is a server's."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

import pytest

from artfs.client.reach import Reach
from artfs.errors import UnavailableError, WaitTimeoutError
from artfs.store.cache.index import Pin
from artfsd import serverside
from artfsd.serverside import ServerSide

SERVER = "https://server.example"


class World:
    """A session with one pin, whose alias means `answers`, one after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: queue.Queue[str] = queue.Queue()
        self.reach = Reach(SERVER, patience_s=100)
        cache = SimpleNamespace(pins=lambda: [Pin(1, SERVER, "e/p/c:prod", "root", 0)])
        remote = SimpleNamespace(server=SERVER, fetcher=SimpleNamespace(cache=cache), reach=self.reach)
        settings = SimpleNamespace(network_timeout_s=1.0, entity="e", project="p")
        self.session: Any = SimpleNamespace(remote=remote, pages=None, settings=settings, catalog=self)

    def resolve(self, entity: str, project: str, collection: str, alias: str) -> Any:
        answer = self.answers.pop(0)
        self.asked.put(f"{collection}:{alias}")
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(version=SimpleNamespace(digest=answer))


def test_a_pin_that_could_not_follow_does_so_when_the_server_is_back(expect_log: Any) -> None:
    expect_log("the pin of e/p/c:prod stays as it is: away")
    world = World(UnavailableError("away"), "root")
    side = ServerSide(world.session)
    came_back: list[bool] = []
    side.on_online = lambda: came_back.append(True)
    world.reach.contact(False, "away")
    side.names_moved()
    assert world.asked.get(timeout=10) == "c:prod"
    with pytest.raises(queue.Empty):
        world.asked.get(timeout=0.2)
    world.reach.contact(True, "")
    assert world.asked.get(timeout=10) == "c:prod"
    assert came_back
    side.close()


def test_a_pin_that_was_too_slow_is_tried_again(monkeypatch: pytest.MonkeyPatch, expect_log: Any) -> None:
    expect_log("the pin of e/p/c:prod stays as it is: slow")
    monkeypatch.setattr(serverside, "AGAIN_S", 0.05)
    world = World(WaitTimeoutError("slow"), "root")
    side = ServerSide(world.session)
    side.names_moved()
    for _ in range(2):
        assert world.asked.get(timeout=10) == "c:prod"
    with pytest.raises(queue.Empty):
        world.asked.get(timeout=0.3)
    side.close()
