"""When the daemon looks for versions whose time is up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from artfs.errors import CatalogError
from artfs.model.records import Member
from artfs.transfer.expiry import GAP_S, RETRY_S, Expiry

START = datetime(2026, 1, 1, tzinfo=UTC)
S = timedelta(seconds=1)


class Catalog:
    """Versions that expire at some times. Counts how often it was asked for the next."""

    def __init__(self, *times: datetime) -> None:
        self.times = list(times)
        self.token = 0
        self.asked = 0
        self.cost_s = 0.0
        self.broken = False
        self.time = Time()
        self.expiry = Expiry(self, wall=lambda: self.time.wall, clock=lambda: self.time.clock)  # type: ignore[arg-type]

    def change_token(self) -> int:
        if self.broken:
            raise CatalogError("the disk is away")
        return self.token

    def next_expiry(self) -> datetime | None:
        self.asked += 1
        self.time.wait(self.cost_s)
        return min(self.times, default=None)

    def expire(self, limit: int) -> list[Member]:
        self.times = [time for time in self.times if time > self.time.wall]
        self.token += 1
        return []

    def add(self, time: datetime) -> None:
        self.times.append(time)
        self.token += 1

    def tick(self, seconds: float) -> list[datetime]:
        """Lets so many seconds pass, then ticks; returns what is left."""
        self.time.wait(seconds)
        self.expiry.tick()
        return self.times


class Time:
    def __init__(self) -> None:
        self.wall = START
        self.clock = 0.0

    def wait(self, seconds: float) -> None:
        self.wall += seconds * S
        self.clock += seconds


def test_a_version_goes_when_it_is_due() -> None:
    catalog = Catalog(START + 10 * S, START + 20 * S)
    assert len(catalog.tick(0)) == 2
    assert len(catalog.tick(9.9)) == 2
    assert catalog.tick(0.1) == [START + 20 * S]
    assert catalog.tick(9.9) == [START + 20 * S]
    assert catalog.tick(0.1) == []


def test_nothing_is_asked_while_nothing_changes() -> None:
    catalog = Catalog(START + 1000 * S)
    for _ in range(100):
        catalog.tick(1)
    assert catalog.asked == 1
    catalog.add(START + 500 * S)
    catalog.tick(1)
    assert catalog.asked == 2


def test_a_busy_catalog_is_asked_now_and_then() -> None:
    catalog = Catalog()
    for _ in range(100):
        catalog.token += 1
        catalog.tick(GAP_S / 10)
    assert 9 <= catalog.asked <= 11


def test_a_slow_answer_is_asked_for_less_often() -> None:
    catalog = Catalog()
    catalog.cost_s = 0.5
    for _ in range(100):
        catalog.token += 1
        catalog.tick(0.2)
    assert catalog.asked == 2


def test_what_is_due_soon_does_not_wait_for_the_next_look() -> None:
    catalog = Catalog(START + 0.2 * S)
    assert catalog.tick(0) != []
    assert catalog.tick(0.2) == []


def test_an_error_is_logged_and_tried_again_later(expect_log: Callable[..., None]) -> None:
    expect_log("versions whose time is up cannot be deleted: the disk is away", level=logging.WARNING, count=1)
    catalog = Catalog(START)
    catalog.broken = True
    for _ in range(5):
        assert catalog.tick(1) != []
    catalog.broken = False
    assert catalog.tick(RETRY_S) == []
