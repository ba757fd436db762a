"""Runs, the change token, backups, threads."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from artfs.catalog.base import Catalog
from artfs.errors import (
    NotFoundError,
    UsageError,
)
from artfs.testing.catalog_contract.making import C, E, P, log, new


class UpkeepContract:
    def test_a_run_has_a_life(self, catalog: Catalog) -> None:
        run = catalog.create_run(E, P, name="train", job_type="fit", config={"lr": 0.1})
        assert re.fullmatch("[a-z0-9]{8}", run.id)
        assert (run.entity, run.project, run.name, run.job_type, run.config) == (E, P, "train", "fit", {"lr": 0.1})
        assert (run.state, run.history_steps, run.finished_at) == ("running", 0, None)
        assert catalog.update_run(run.id, history_steps=3).history_steps == 3
        done = catalog.update_run(run.id, state="finished")
        assert done.state == "finished"
        assert done.finished_at is not None
        assert done.finished_at >= done.created_at
        assert catalog.update_run(run.id, state="failed").finished_at == done.finished_at
        assert catalog.update_run(run.id, state="running").finished_at is None
        for wrong in ({"state": "asleep"}, {"history_steps": -1}):
            with pytest.raises(UsageError):
                catalog.update_run(run.id, **wrong)
        assert catalog.run(run.id).history_steps == 3

    def test_runs_are_listed_in_their_order(self, catalog: Catalog) -> None:
        made = [catalog.create_run(E, P).id for _ in range(3)]
        catalog.create_run(E, "other")
        assert [run.id for run in catalog.runs(E, P)] == made
        assert len(set(made)) == 3
        for unknown in ("nobody", "\udcff"):
            with pytest.raises(NotFoundError):
                catalog.run(unknown)

    def test_what_a_run_logged_and_used_is_known(self, catalog: Catalog) -> None:
        one, two = catalog.create_run(E, P), catalog.create_run(E, P)
        first = log(catalog, 1, run_id=one.id, history_step=4)
        second = log(catalog, 2)
        link = catalog.link(first.version.id, E, P, "prod")
        assert (first.version.run_id, first.version.history_step) == (one.id, 4)
        for _ in range(2):
            catalog.record_use(two.id, link.version.id)
            catalog.record_use(two.id, second.version.id)
        assert [member.id for member in catalog.versions_of_run(one.id, used=False)] == [first.id]
        assert catalog.versions_of_run(one.id, used=True) == []
        assert [member.id for member in catalog.versions_of_run(two.id, used=True)] == [first.id, second.id]
        assert [run.id for run in catalog.used_by(first.version.id)] == [two.id]
        with pytest.raises(NotFoundError):
            catalog.used_by(10**6)
        with pytest.raises(NotFoundError):
            catalog.record_use("nobody", first.version.id)

    def test_logging_what_is_there_counts_for_the_run_too(self, catalog: Catalog) -> None:
        one, two = catalog.create_run(E, P), catalog.create_run(E, P)
        first = log(catalog, 1, run_id=one.id)
        assert catalog.commit(new(1, run_id=two.id)).member.version.run_id == one.id
        assert [member.id for member in catalog.versions_of_run(two.id, used=False)] == [first.id]

    def test_the_change_token_changes_with_every_commit_only(self, catalog: Catalog) -> None:
        log(catalog, 1)
        tokens = [catalog.change_token()]
        catalog.projects(E)
        catalog.resolve(E, P, C, "latest")
        assert catalog.change_token() == tokens[0]
        for act in (
            lambda: catalog.create_project(E, "other"),
            lambda: log(catalog, 2),
            lambda: catalog.set_aliases(catalog.resolve(E, P, C, "v0").id, add=["x"]),
            lambda: catalog.delete_version(catalog.resolve(E, P, C, "v0").id, delete_aliases=True),
        ):
            act()
            tokens.append(catalog.change_token())
        assert len(set(tokens)) == len(tokens)

    def test_a_backup_is_a_whole_copy(self, catalog: Catalog, tmp_path: Path) -> None:
        log(catalog, 1)
        target = tmp_path / "copy of the catalog"
        catalog.backup(target)
        assert target.stat().st_mode & 0o777 == 0o600
        assert [found.name for found in tmp_path.iterdir() if found.name.startswith((".", target.name))] == [target.name]

    def test_threads_commit_at_once(self, catalog: Catalog) -> None:
        indexes: list[int] = []
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for step in range(5):
                    indexes.append(catalog.commit(new((number, step))).member.index)
                    catalog.resolve(E, P, C, "latest")
                    catalog.change_token()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert sorted(indexes) == list(range(30))
