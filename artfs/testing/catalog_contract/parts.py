"""Parts of versions that several runs make together."""

from __future__ import annotations

from typing import Any

import pytest

from artfs.catalog.base import Catalog
from artfs.errors import ConflictError, InvalidNameError, LatestMovedError, NotFoundError, TypeConflictError
from artfs.model.records import NewPart
from artfs.testing.catalog_contract.making import C, E, P, digest, log, new


def part(content: object, distributed_id: str = "job", **more: Any) -> NewPart:
    fields: dict[str, Any] = {
        "entity": E, "project": P, "collection": C, "type": "dataset", "distributed_id": distributed_id,
        "digest": digest(content), **more,
    }
    return NewPart(**fields)


def waiting(catalog: Catalog, distributed_id: str = "job") -> list[str]:
    return [found.digest for found in catalog.parts(E, P, C, distributed_id)]


class PartsContract:
    def test_parts_wait_for_their_version(self, catalog: Catalog) -> None:
        assert catalog.parts(E, P, C, "job") == []
        catalog.add_part(part(1, aliases=("best",)))
        catalog.add_part(part(2))
        catalog.add_part(part(3, "other"))
        assert catalog.try_collection(E, P, C) is None
        assert waiting(catalog) == [digest(1), digest(2)]
        found = catalog.parts(E, P, C, "job")
        assert [it.aliases for it in found] == [("best",), ()]
        assert sorted(catalog.live_roots()) == sorted([digest(1), digest(2), digest(3)])
        done = catalog.commit(new(4, distributed_id="job", parts=tuple(it.id for it in found)))
        assert done.created
        assert (waiting(catalog), waiting(catalog, "other")) == ([], [digest(3)])
        assert sorted(catalog.live_roots()) == sorted([digest(3), digest(4)])

    def test_the_runs_of_parts_have_logged_the_version(self, catalog: Catalog) -> None:
        runs = [catalog.create_run(E, P, group="job") for _ in range(3)]
        for number, run in enumerate(runs[:2]):
            catalog.add_part(part(number, run_id=run.id))
        parts = tuple(it.id for it in catalog.parts(E, P, C, "job"))
        member = log(catalog, "all", run_id=runs[2].id, distributed_id="job", parts=parts)
        assert member.version.run_id == runs[2].id
        assert {run.id for run in catalog.logged_by(member.version.id)} == {run.id for run in runs}
        catalog.add_part(part(3, run_id=runs[0].id))
        again = tuple(it.id for it in catalog.parts(E, P, C, "job"))
        assert not catalog.commit(new("all", distributed_id="job", parts=again)).created
        assert waiting(catalog) == []

    def test_a_version_holds_all_parts_or_is_not_made(self, catalog: Catalog) -> None:
        catalog.add_part(part(1))
        (first,) = catalog.parts(E, P, C, "job")
        catalog.add_part(part(2))
        for parts in ((first.id,), (), (first.id, first.id + 100)):
            with pytest.raises(LatestMovedError):
                catalog.commit(new("all", distributed_id="job", parts=parts))
        assert catalog.try_collection(E, P, C) is None
        assert waiting(catalog) == [digest(1), digest(2)]
        log(catalog, "without")
        assert waiting(catalog) == [digest(1), digest(2)]

    def test_parts_of_what_cannot_be(self, catalog: Catalog) -> None:
        log(catalog, 1)
        catalog.link(log(catalog, 2).version.id, E, P, "links")
        for error, bad in (
            (TypeConflictError, part(3, type="model")),
            (ConflictError, part(3, collection="links")),
            (ConflictError, part(3, project="wandb-registry-model")),
            (InvalidNameError, part(3, collection="a/b")),
            (InvalidNameError, part(3, type="job")),
            (InvalidNameError, part(3, aliases=("v3",))),
            (InvalidNameError, part(3, "")),
            (NotFoundError, part(3, run_id="nobody")),
        ):
            with pytest.raises(error):
                catalog.add_part(bad)
        assert digest(3) not in set(catalog.live_roots())
        assert catalog.parts(E, "nowhere", C, "job") == catalog.parts(E, P, "\udcff", "job") == []

    def test_a_run_may_choose_its_id(self, catalog: Catalog) -> None:
        run = catalog.create_run(E, P, run_id="mine.1", group="all of them", tags=["b", "a", "b"], notes="of June")
        assert (run.id, run.name, run.group, run.tags, run.notes) == ("mine.1", "mine.1", "all of them", ("b", "a"), "of June")
        assert catalog.run("mine.1") == run
        with pytest.raises(ConflictError, match=r"there is a run 'mine\.1' already"):
            catalog.create_run(E, "elsewhere", run_id="mine.1")
        assert catalog.try_project(E, "elsewhere") is None
        for bad in ({"run_id": "a/b"}, {"run_id": "r" * 65}, {"group": ""}, {"tags": [""]}, {"tags": ["a\nb"]}):
            with pytest.raises(InvalidNameError):
                catalog.create_run(E, P, **bad)
        assert [found.id for found in catalog.runs(E, P)] == ["mine.1"]

    def test_what_describes_a_run_can_be_changed(self, catalog: Catalog) -> None:
        run = catalog.create_run(E, P, name="n", tags=["a"], notes="x")
        assert catalog.update_run(run.id, config={"lr": 1}).tags == ("a",)
        changed = catalog.update_run(run.id, name="better", tags=["b", "c"], notes="y")
        assert (changed.name, changed.tags, changed.notes) == ("better", ("b", "c"), "y")
        cleared = catalog.update_run(run.id, name="", tags=[], notes="")
        assert (cleared.name, cleared.tags, cleared.notes) == (run.id, (), None)
        with pytest.raises(InvalidNameError):
            catalog.update_run(run.id, tags=["a\nb"])
