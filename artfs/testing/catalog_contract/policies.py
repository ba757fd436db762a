"""How long versions live, protected aliases, pages, and what runs log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from artfs.catalog.base import Catalog
from artfs.errors import (
    AliasProtectedError,
    ConflictError,
    InvalidArgumentError,
    InvalidNameError,
    NotFoundError,
)
from artfs.model.paging import Page, PageRequest
from artfs.model.records import HistoryRow
from artfs.model.ttl import INHERIT
from artfs.testing.catalog_contract.making import C, E, P, digest, log, new

DAY = timedelta(days=1)


def walk(ask: Callable[[PageRequest], Page[Any]], order: str, limit: int) -> list[Any]:
    """All items by pages of `limit`."""
    found: list[Any] = []
    cursor = None
    while True:
        page = ask(PageRequest(order, limit, cursor))
        assert (page.total is None) == (cursor is not None)
        assert len(page.items) <= limit
        found.extend(page.items)
        if page.cursor is None:
            return found
        assert len(page.items) == limit
        cursor = page.cursor


class PoliciesContract:
    # how long versions live ---------------------------------------------------------------------------------------

    def test_a_version_has_its_own_policy_or_what_it_inherits(self, catalog: Catalog) -> None:
        plain, own, never = log(catalog, 1), log(catalog, 2, ttl=3 * DAY), log(catalog, 3, ttl=None)
        catalog.set_default_ttl(E, None, 7 * DAY)

        def lifetimes() -> list[timedelta | None]:
            return [catalog.member(member.id).version.lifetime for member in (plain, own, never)]

        assert lifetimes() == [7 * DAY, 3 * DAY, None]
        catalog.set_default_ttl(E, P, 5 * DAY)
        assert lifetimes() == [5 * DAY, 3 * DAY, None]
        assert (catalog.default_ttl(E), catalog.default_ttl(E, P)) == (7 * DAY, 5 * DAY)
        catalog.set_default_ttl(E, P, None)
        assert lifetimes() == [None, 3 * DAY, None]
        assert catalog.default_ttl(E, P) is None
        catalog.set_default_ttl(E, P, INHERIT)
        assert lifetimes() == [7 * DAY, 3 * DAY, None]
        assert catalog.default_ttl(E, P) is INHERIT
        catalog.set_default_ttl(E, None, INHERIT)
        assert lifetimes() == [None, 3 * DAY, None]
        assert catalog.default_ttl(E) is None
        version = catalog.member(own.id).version
        assert (version.ttl, version.expires_at) == (3 * DAY, version.created_at + 3 * DAY)
        link = catalog.link(own.version.id, E, "elsewhere", "prod")
        assert link.version == version

    def test_the_policy_of_a_version_can_be_changed(self, catalog: Catalog) -> None:
        member = log(catalog, 1)
        assert member.version.ttl is INHERIT
        changed = catalog.update_version(member.version.id, ttl=DAY + timedelta(milliseconds=3))
        assert changed.ttl == DAY
        assert changed.updated_at > member.version.updated_at
        assert catalog.update_version(member.version.id, description="d").ttl == DAY
        assert catalog.update_version(member.version.id, ttl=None).ttl is None
        assert catalog.update_version(member.version.id, ttl=INHERIT).ttl is INHERIT

    def test_a_policy_must_be_one(self, catalog: Catalog) -> None:
        member = log(catalog, 1)
        for bad in (timedelta(0), -DAY, timedelta(milliseconds=500), timedelta(days=10**6)):
            for act in (
                lambda bad=bad: catalog.update_version(member.version.id, ttl=bad),
                lambda bad=bad: catalog.commit(new(2, ttl=bad)),
                lambda bad=bad: catalog.set_default_ttl(E, P, bad),
            ):
                with pytest.raises(InvalidArgumentError):
                    act()
        with pytest.raises(TypeError):
            catalog.update_version(member.version.id, ttl=3600)  # type: ignore[arg-type]
        assert [found.version.ttl for found in catalog.members(member.collection_id)] == [INHERIT]

    def test_nothing_expires_before_its_time(self, catalog: Catalog) -> None:
        assert catalog.next_expiry() is None
        first, second = log(catalog, 1), log(catalog, 2, ttl=3 * DAY)
        assert catalog.next_expiry() == second.version.created_at + 3 * DAY
        catalog.set_default_ttl(E, P, 2 * DAY)
        assert catalog.next_expiry() == first.version.created_at + 2 * DAY
        assert catalog.expire() == []
        assert len(catalog.members(first.collection_id)) == 2
        catalog.update_version(first.version.id, ttl=None)
        assert catalog.next_expiry() == second.version.created_at + 3 * DAY
        catalog.delete_version(second.id, delete_aliases=True)
        assert catalog.next_expiry() is None

    def test_what_a_protected_alias_names_or_a_registry_holds_does_not_expire(self, catalog: Catalog) -> None:
        first, second = log(catalog, 1, aliases=("prod",), ttl=DAY), log(catalog, 2, ttl=DAY)
        catalog.protect_aliases(E, P, add=["prod"])
        assert catalog.next_expiry() == second.version.created_at + DAY
        link = catalog.link(second.version.id, E, "wandb-registry-model", "best")
        assert catalog.next_expiry() is None
        catalog.unlink(link.id)
        catalog.link(second.version.id, E, "wandbXregistry-model", "best")
        assert catalog.next_expiry() == second.version.created_at + DAY
        catalog.protect_aliases(E, P, remove=["prod"])
        assert catalog.next_expiry() == first.version.created_at + DAY

    # protected aliases --------------------------------------------------------------------------------------------

    def test_aliases_are_protected_for_all_collections_of_a_project(self, catalog: Catalog) -> None:
        assert catalog.protect_aliases(E, P, add=["prod", "gold", "prod"]) == ["gold", "prod"]
        assert catalog.protect_aliases(E, P, remove=["gold", "absent"]) == ["prod"]
        assert catalog.protected_aliases(E, P) == ["prod"]
        catalog.create_project(E, "other")
        assert catalog.protected_aliases(E, "other") == []
        for bad, error in (("latest", InvalidArgumentError), ("v1", InvalidNameError)):
            with pytest.raises(error):
                catalog.protect_aliases(E, P, add=[bad])
        with pytest.raises(NotFoundError):
            catalog.protected_aliases(E, "nowhere")

    def test_a_protected_alias_changes_only_when_that_is_allowed(self, catalog: Catalog) -> None:
        first, second = log(catalog, 1, aliases=("prod",)), log(catalog, 2)
        link = catalog.link(first.version.id, E, P, "best", ["gold"])
        catalog.protect_aliases(E, P, add=["prod", "gold"])
        version, collection = first.version.id, first.collection_id
        acts: list[Callable[..., object]] = [
            lambda **more: catalog.set_aliases(second.id, add=["x", "gold"], **more),
            lambda **more: catalog.set_aliases(second.id, add=["prod"], **more),
            lambda **more: catalog.set_aliases(second.id, remove=["prod"], **more),
            lambda **more: catalog.commit(new(3, aliases=("prod",), **more)),
            lambda **more: catalog.commit(new(3, aliases=("gold",), **more)),
            lambda **more: catalog.link(version, E, P, "best", ["prod"], **more),
            lambda **more: catalog.link(version, E, P, "other", ["prod"], **more),
            lambda **more: catalog.unlink(link.id, **more),
            lambda **more: catalog.delete_version(first.id, delete_aliases=True, **more),
            lambda **more: catalog.delete_collection(collection, **more),
        ]
        for number, act in enumerate(acts):
            token = catalog.change_token()
            with pytest.raises(AliasProtectedError, match="is protected in local/vision"):
                act()
            assert catalog.change_token() == token, number
            act(allow_protected=True)
            if number == 2:
                catalog.set_aliases(first.id, add=["prod"], allow_protected=True)
            if number == 7:
                link = catalog.link(version, E, P, "best", ["gold"], allow_protected=True)
        assert catalog.try_collection(E, P, C) is None

    def test_what_changes_no_protected_alias_is_free(self, catalog: Catalog) -> None:
        first = log(catalog, 1, aliases=("prod",))
        catalog.protect_aliases(E, P, add=["prod"])
        second = log(catalog, 2, aliases=("other",))
        assert catalog.set_aliases(first.id, add=["prod", "x"]).aliases == ("prod", "x")
        catalog.set_aliases(second.id, remove=["prod"])
        catalog.delete_version(second.id, delete_aliases=True)
        assert catalog.resolve(E, P, C, "latest").id == first.id
        assert catalog.commit(new(1, aliases=("prod",))).member.aliases == ("latest", "prod", "x")

    # pages --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
    def test_versions_come_in_pages(self, catalog: Catalog, limit: int) -> None:
        made = [log(catalog, number, size=number // 3, tags=("even",) if number % 2 == 0 else ()) for number in range(7)]
        catalog.delete_version(made[3].id)
        living = [member.index for member in made if member.index != 3]
        here = made[0].collection_id

        def ask(request: PageRequest) -> Page[Any]:
            return catalog.page_of_members(here, request)

        for order in ("index", "+index", "created_at", "size"):
            assert [member.index for member in walk(ask, order, limit)] == living
            if not order.startswith("+"):
                assert [member.index for member in walk(ask, f"-{order}", limit)] == living[::-1]
        assert catalog.page_of_members(here, PageRequest("index")).total == 6
        assert walk(ask, "index", limit) == catalog.members(here)
        even = walk(lambda request: catalog.page_of_members(here, request, tags=["even"]), "-index", limit)
        assert [member.index for member in even] == [6, 4, 2, 0]
        assert walk(lambda request: catalog.page_of_members(here, request, tags=["even", "x"]), "index", limit) == []

    def test_a_cursor_names_a_place_whatever_changes_meanwhile(self, catalog: Catalog) -> None:
        made = [log(catalog, number) for number in range(6)]
        here = made[0].collection_id
        first = catalog.page_of_members(here, PageRequest("-index", 2))
        assert [member.index for member in first.items] == [5, 4]
        log(catalog, "more")
        for gone in (5, 4, 3):
            catalog.delete_version(made[gone].id)
        second = catalog.page_of_members(here, PageRequest("-index", 2, first.cursor))
        assert [member.index for member in second.items] == [2, 1]

    def test_collections_and_runs_come_in_pages(self, catalog: Catalog) -> None:
        for name in ("b", "c", "a"):
            catalog.create_collection(E, P, name, type="model" if name == "b" else "dataset")
        runs = [catalog.create_run(E, P, name=f"n{number % 2}") for number in range(3)]

        def names(order: str, **more: Any) -> list[str]:
            return [found.name for found in walk(lambda r: catalog.page_of_collections(E, P, r, **more), order, 2)]

        assert (names("name"), names("-name"), names("created_at")) == (["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"])
        assert names("name", type="dataset") == ["a", "c"]
        found = walk(lambda request: catalog.page_of_runs(E, P, request), "-created_at", 2)
        assert [run.created_at for run in found] == sorted((run.created_at for run in runs), reverse=True)
        assert sorted(run.id for run in found) == sorted(run.id for run in runs)
        assert [run.name for run in walk(lambda request: catalog.page_of_runs(E, P, request), "name", 1)] == ["n0", "n0", "n1"]
        for number in range(3):
            catalog.record_use(runs[0].id, log(catalog, number, run_id=runs[1].id).version.id)
        for run, used in ((runs[0], True), (runs[1], False)):
            listed = walk(
                lambda request, run=run, used=used: catalog.page_of_run_versions(run.id, request, used=used),  # type: ignore[misc]
                "-created_at", 2,
            )
            assert [member.index for member in listed] == [2, 1, 0]

    def test_bad_pages_are_refused(self, catalog: Catalog) -> None:
        member = log(catalog, 1)
        log(catalog, 2)
        cursor = catalog.page_of_members(member.collection_id, PageRequest("index", 1)).cursor
        for request in (
            PageRequest("digest"), PageRequest("--index"), PageRequest(""), PageRequest("index", 0),
            PageRequest("index", 10**9), PageRequest("index", 1, "x"), PageRequest("index", 1, "nö"),
            PageRequest("-index", 1, cursor), PageRequest("size", 1, cursor),
        ):
            with pytest.raises(InvalidArgumentError):
                catalog.page_of_members(member.collection_id, request)
        with pytest.raises(NotFoundError):
            catalog.page_of_members(10**6, PageRequest("index"))

    # collections and runs -----------------------------------------------------------------------------------------

    def test_a_registry_holds_portfolios_only(self, catalog: Catalog) -> None:
        registry = "wandb-registry-model"
        for act in (
            lambda: catalog.commit(new(1, project=registry)),
            lambda: catalog.create_collection(E, registry, C),
        ):
            with pytest.raises(ConflictError, match="registry"):
                act()
        assert catalog.try_project(E, registry) is None
        link = catalog.link(log(catalog, 1).version.id, E, registry, "best")
        assert catalog.create_collection(E, registry, "best", kind="portfolio").id == link.collection_id

    def test_the_type_of_a_sequence_can_be_changed(self, catalog: Catalog) -> None:
        member = log(catalog, 1)
        assert catalog.update_collection(member.collection_id, type="model").type == "model"
        assert catalog.resolve(E, P, C, "v0").version.type == "model"
        link = catalog.link(member.version.id, E, P, "prod")
        with pytest.raises(ConflictError, match="portfolio"):
            catalog.update_collection(link.collection_id, type="dataset")
        with pytest.raises(InvalidNameError):
            catalog.update_collection(member.collection_id, type="job")

    def test_what_a_run_logs_is_kept_by_step(self, catalog: Catalog) -> None:
        run = catalog.create_run(E, P)
        when = datetime(2026, 1, 1, tzinfo=UTC)
        rows = [HistoryRow(0, when, {"loss": 1.5, "name": "a"}), HistoryRow(2, when + DAY, {"loss": 0.5})]
        after = catalog.add_history(run.id, rows)
        assert (after.history_steps, after.summary) == (3, {"loss": 0.5, "name": "a"})
        assert catalog.history(run.id) == rows
        assert catalog.history(run.id, after=0) == rows[1:]
        assert catalog.history(run.id, limit=1) == rows[:1]
        catalog.add_history(run.id, [HistoryRow(2, when, {"acc": 1})])
        assert catalog.history(run.id, after=1) == [HistoryRow(2, when + DAY, {"loss": 0.5, "acc": 1})]
        changed = catalog.update_run(run.id, summary={"best": 3, "loss": 0}, config={"lr": 1})
        assert (changed.summary, changed.config) == ({"loss": 0, "name": "a", "acc": 1, "best": 3}, {"lr": 1})
        assert catalog.run(run.id) == changed
        with pytest.raises(NotFoundError):
            catalog.history("nobody")

    def test_who_logged_a_version_is_known(self, catalog: Catalog) -> None:
        one, two = catalog.create_run(E, P), catalog.create_run(E, P)
        member = log(catalog, 1, run_id=one.id)
        catalog.commit(new(1, run_id=two.id))
        assert [run.id for run in catalog.logged_by(member.version.id)] == [one.id, two.id]
        other = catalog.create_run(E, P)
        for _ in range(2):
            catalog.record_log(other.id, member.version.id)
        assert [run.id for run in catalog.logged_by(member.version.id)] == [one.id, two.id, other.id]
        assert [found.id for found in catalog.versions_of_run(other.id, used=False)] == [member.id]
        with pytest.raises(NotFoundError):
            catalog.record_log(other.id, 10**6)
        assert catalog.logged_by(log(catalog, 2).version.id) == []
        assert member.version.digest == digest(1)
