"""Runs that are described, found by that, and go on."""

from __future__ import annotations

from typing import Any

import pytest

from artfs.api.ambient import current_run
from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import ConflictError, InvalidArgumentError, InvalidNameError, NotFoundError


def test_what_describes_a_run(session: Session) -> None:
    with init(id="first", group="sweep", tags=["a", "b"], notes="of June") as run:
        assert (run.id, run.name, run.group, run.tags, run.notes) == ("first", "first", "sweep", ("a", "b"), "of June")
        run.name, run.tags, run.notes = "better", [*run.tags, "c"], None
        assert (run.name, run.tags, run.notes) == ("better", ("a", "b", "c"), None)
    run.notes = "late"
    found = Api().run("first")
    assert (found.name, found.group, found.tags, found.notes) == ("better", "sweep", ["a", "b", "c"], "late")
    found.name, found.notes = "best", ""
    found.tags.remove("a")
    found.update()
    found = Api().run("first")
    assert (found.name, found.tags, found.notes) == ("best", ["b", "c"], None)
    with init() as other:
        assert (other.group, other.tags, other.notes) == (None, (), None)


def test_runs_are_found_by_what_describes_them(session: Session) -> None:
    for number in range(3):
        init(id=f"r{number}", group="even" if number % 2 == 0 else None, tags=["all", f"t{number}"], notes=f"n {number}").finish()

    def found(filters: Any) -> list[str]:
        return [run.id for run in Api().runs(filters=filters)]

    assert found({"group": "even"}) == ["r0", "r2"]
    assert found({"tags": "all"}) == ["r0", "r1", "r2"]
    assert found({"tags": {"$in": ["t1", "t2"]}}) == ["r1", "r2"]
    assert found({"notes": {"$regex": "1$"}}) == ["r1"]


@pytest.mark.parametrize(
    "bad", [{"id": "a/b"}, {"id": ""}, {"id": "x" * 65}, {"group": ""}, {"tags": ["a\nb"]}, {"tags": ["x" * 129]}]
)
def test_bad_descriptions(session: Session, bad: Any) -> None:
    with pytest.raises(InvalidNameError):
        init(**bad)
    assert current_run() is None
    assert session.catalog.try_project("local", "uncategorized") is None


@pytest.mark.parametrize("resume", ["allow", "auto", "must", True])
def test_a_run_goes_on(session: Session, resume: Any) -> None:
    with init(id="r", config={"lr": 1, "a": 2}, job_type="train", tags=["t"], name="n") as run:
        run.log({"loss": 3})
        run.log({"loss": 2})
    with init(id="r", resume=resume, config={"lr": 5}, notes="again") as run:
        assert (run.id, run.state, run.step, run.job_type, run.name) == ("r", "running", 2, "train", "n")
        assert (run.config, run.summary, run.tags, run.notes) == ({"lr": 5, "a": 2}, {"loss": 2}, ("t",), "again")
        run.log({"loss": 1})
        assert run.log_artifact(Artifact("ds", "dataset")).history_step == 2
    found = Api().run("r")
    assert (found.state, found.last_history_step) == ("finished", 2)
    assert [row["loss"] for row in found.history()] == [3, 2, 1]
    assert len(Api().runs()) == 1


@pytest.mark.parametrize("resume", [None, False, "never"])
def test_a_run_that_is_there_is_not_begun_again(session: Session, resume: Any) -> None:
    init(id="r", config={"lr": 1}).finish()
    with pytest.raises(ConflictError, match='there is a run \'r\' already; give another id, or resume="allow"'):
        init(id="r", resume=resume)
    assert (Api().run("r").config, current_run()) == ({"lr": 1}, None)


def test_a_run_that_is_to_go_on(session: Session) -> None:
    with pytest.raises(NotFoundError, match="no run 'r' to go on with"):
        init(id="r", resume="must")
    with pytest.raises(InvalidArgumentError, match="needs the id"):
        init(resume="must")
    with pytest.raises(InvalidArgumentError, match="resume must be"):
        init(id="r", resume="sometimes")
    with init(id="r", resume="allow") as run:
        assert run.id == "r"
    with pytest.raises(ConflictError, match="is of local/uncategorized, not of local/p"):
        init(project="p", id="r", resume="allow")
    with init(resume="allow") as run:
        assert run.id != "r"
