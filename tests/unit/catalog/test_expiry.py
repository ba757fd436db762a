"""Versions whose time is up, by a clock that the test sets."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.parts import PARTS_LIVE
from artfs.catalog.sql.sqlite.opening import open_file
from artfs.errors import NotFoundError
from artfs.model.ttl import INHERIT
from artfs.testing.catalog_contract.making import C, E, P, digest, log
from artfs.testing.catalog_contract.parts import part

DAY = timedelta(days=1)
# Commits that have the same time by the clock are a microsecond apart.
A_MOMENT = timedelta(milliseconds=1)


class Clock:
    """Microseconds since 1970 UTC, as `wait` sets them."""

    def __init__(self) -> None:
        self.now = 1_000_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def wait(self, time: timedelta) -> None:
        self.now += time // timedelta(microseconds=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalog(empty_catalog: Path, clock: Clock) -> Iterator[SqlCatalog]:
    with open_file(empty_catalog, clock=clock) as catalog:
        yield catalog


def test_a_version_becomes_deleted_when_its_time_is_up(catalog: SqlCatalog, clock: Clock) -> None:
    member = log(catalog, 1, aliases=("best",), ttl=DAY)
    link = catalog.link(member.version.id, E, P, "prod")
    clock.wait(DAY - timedelta(microseconds=1))
    assert catalog.expire() == []
    clock.wait(timedelta(microseconds=1))
    assert [gone.id for gone in catalog.expire()] == [member.id]
    assert catalog.member(member.id).version.state == "DELETED"
    assert list(catalog.live_roots()) == []
    assert catalog.members(link.collection_id) == []
    for alias in ("v0", "latest", "best"):
        with pytest.raises(NotFoundError):
            catalog.resolve(E, P, C, alias)
    assert catalog.expire() == []


def test_latest_moves_to_the_newest_that_stays(catalog: SqlCatalog, clock: Clock) -> None:
    log(catalog, 1, ttl=None)
    log(catalog, 2, ttl=DAY)
    clock.wait(DAY + A_MOMENT)
    assert len(catalog.expire()) == 1
    assert catalog.resolve(E, P, C, "latest").index == 0


@pytest.mark.parametrize(
    ("own", "project", "entity", "left"),
    [
        (INHERIT, INHERIT, None, None),
        (INHERIT, INHERIT, 2 * DAY, 2),
        (INHERIT, 3 * DAY, 2 * DAY, 3),
        (INHERIT, None, 2 * DAY, None),
        (DAY, 3 * DAY, 2 * DAY, 1),
        (None, 3 * DAY, 2 * DAY, None),
        (5 * DAY, None, 2 * DAY, 5),
    ],
)
def test_the_nearest_policy_counts(
    catalog: SqlCatalog, clock: Clock, own: object, project: object, entity: timedelta | None, left: int | None
) -> None:
    log(catalog, 1, ttl=own)
    catalog.set_default_ttl(E, P, project)  # type: ignore[arg-type]
    catalog.set_default_ttl(E, None, entity)
    lived = next((day for day in range(10) if clock.wait(DAY) or catalog.expire()), None)
    assert lived == (None if left is None else left - 1)


def test_a_policy_that_is_set_late_counts_from_the_commit(catalog: SqlCatalog, clock: Clock) -> None:
    member = log(catalog, 1)
    clock.wait(10 * DAY)
    catalog.update_version(member.version.id, ttl=DAY)
    next_expiry = catalog.next_expiry()
    assert next_expiry == member.version.created_at + DAY
    assert len(catalog.expire()) == 1
    assert catalog.next_expiry() is None


def test_protected_and_registered_versions_stay_and_do_not_count(catalog: SqlCatalog, clock: Clock) -> None:
    protected = log(catalog, 1, aliases=("prod",), ttl=DAY)
    registered = log(catalog, 2, ttl=DAY)
    log(catalog, 3, ttl=DAY)
    catalog.protect_aliases(E, P, add=["prod"])
    catalog.link(registered.version.id, E, "wandb-registry-model", "best")
    clock.wait(DAY + A_MOMENT)
    assert [gone.index for gone in catalog.expire()] == [2]
    assert set(catalog.live_roots()) == {digest(1), digest(2)}
    assert (catalog.expire(), catalog.next_expiry()) == ([], None)
    catalog.protect_aliases(E, P, remove=["prod"])
    assert [gone.id for gone in catalog.expire()] == [protected.id]


def test_many_expire_in_portions_the_oldest_first(catalog: SqlCatalog, clock: Clock) -> None:
    for number in range(5):
        log(catalog, number, ttl=DAY)
        clock.wait(timedelta(seconds=1))
    clock.wait(DAY)
    assert [[gone.index for gone in catalog.expire(2)] for _ in range(4)] == [[0, 1], [2, 3], [4], []]


def test_parts_that_nobody_makes_a_version_of_are_forgotten(catalog: SqlCatalog, clock: Clock) -> None:
    catalog.add_part(part(1))
    clock.wait(20 * DAY)
    catalog.add_part(part(2))
    catalog.add_part(part(3, "other"))
    clock.wait(PARTS_LIVE)
    catalog.add_part(part(4, "late"))
    assert catalog.expire() == []
    assert len(catalog.parts(E, P, C, "job")) == 2
    clock.wait(A_MOMENT)
    assert catalog.expire() == []
    assert catalog.parts(E, P, C, "job") == catalog.parts(E, P, C, "other") == []
    assert list(catalog.live_roots()) == [digest(4)]
