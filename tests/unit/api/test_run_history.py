"""What a run logs: its values by step, its config and summary, and what becomes of them while the catalog cannot be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from artfs.api import tracking
from artfs.api.artifact import Artifact, log
from artfs.api.begin import init
from artfs.api.current import try_run
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.api.tracking import FLUSH_ROWS, auto_run
from artfs.catalog.base import Catalog
from artfs.errors import (
    InvalidArgumentError,
    InvalidMetadataError,
    NotFoundError,
    UnavailableError,
)


def history(run: Any) -> list[dict[str, Any]]:
    return Api().run(run.id).history()


def test_values_are_kept_by_step(session: Session) -> None:
    with init() as run:
        run.log({"loss": 1.5, "text": "a"})
        run.log({"loss": 0.5})
        assert run.step == 2
        assert run.summary == {"loss": 0.5, "text": "a"}
    assert history(run) == [{"_step": 0, "loss": 1.5, "text": "a"}, {"_step": 1, "loss": 0.5}]
    found = Api().run(run.id)
    assert (found.summary, found.last_history_step) == ({"loss": 0.5, "text": "a"}, 1)


@pytest.mark.parametrize(
    ("calls", "steps"),
    [
        ([({"a": 1}, None, None)], {0: {"a": 1}}),
        ([({"a": 1}, 5, None), ({"b": 2}, 5, None)], {5: {"a": 1, "b": 2}}),
        ([({"a": 1}, 5, None), ({"a": 2}, 3, None)], {5: {"a": 2}}),
        ([({"a": 1}, 5, None), ({"a": 2}, None, None)], {5: {"a": 1}, 6: {"a": 2}}),
        ([({"a": 1}, None, False), ({"b": 2}, None, None), ({"b": 3}, None, True)], {0: {"a": 1, "b": 2}, 1: {"b": 3}}),
        ([({"b": 2}, None, None), ({"a": 1}, None, False)], {0: {"b": 2}, 1: {"a": 1}}),
        ([({}, None, None), ({"a": 1}, None, None)], {0: {}, 1: {"a": 1}}),
    ],
)
def test_steps(session: Session, calls: list[Any], steps: dict[int, dict[str, Any]]) -> None:
    with init() as run:
        for data, step, commit in calls:
            run.log(data, step=step, commit=commit)
    assert history(run) == [{"_step": step, **values} for step, values in steps.items()]


def test_values_are_in_the_catalog_when_an_artifact_is_logged(session: Session) -> None:
    with init() as run:
        run.log({"a": 1}, step=3)
        assert session.catalog.history(run.id) == []
        run.log_artifact(Artifact("ds", "dataset"))
        assert [row.values for row in session.catalog.history(run.id)] == [{"a": 1}]
        run.log({"b": 2}, step=3)
    assert history(run) == [{"_step": 3, "a": 1, "b": 2}]


def test_many_values_go_to_the_catalog_as_they_come(session: Session) -> None:
    with init() as run:
        for number in range(FLUSH_ROWS):
            run.log({"n": number})
        assert len(session.catalog.history(run.id, limit=10_000)) == FLUSH_ROWS
    assert [row["n"] for row in Api().run(run.id).scan_history(page_size=7)] == list(range(FLUSH_ROWS))


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


class Broken:
    """As a tensor whose device is gone."""

    shape = (1,)

    def tolist(self) -> Any:
        raise RuntimeError("gone")

    def __str__(self) -> str:
        raise RuntimeError("gone")

    __repr__ = __str__


class Array:
    """As NumPy's and PyTorch's look from outside."""

    def __init__(self, *values: float, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._values = values

    def tolist(self) -> Any:
        return list(self._values) if self.shape else self._values[0]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (True, True), (None, None), (3, 3), (0.5, 0.5), ("text", "text"), ([1, (2, 3)], [1, [2, 3]]),
        ({"a": {1: 2}}, {"a": {"1": 2}}),
        (float("nan"), "NaN"), (float("inf"), "Infinity"), (-float("inf"), "-Infinity"), ("\udcff", "?"),
        (Odd(), {"_type": "Odd", "text": "<odd>"}), (Array(1.5, shape=()), 1.5), (Array(1, 2, shape=(2,)), [1, 2]),
        (Array(shape=(1000, 1000)), {"_type": "Array", "shape": [1000, 1000]}),
        (Broken(), {"_type": "Broken", "text": "(it cannot be shown: RuntimeError)"}),
        ({"\udcff": 1}, {"?": 1}), ({Broken(): 1}, {"(it cannot be shown: RuntimeError)": 1}),
        (10**30, 10**30),
    ],
)  # fmt: skip
def test_whatever_is_logged_is_kept_somehow(session: Session, value: Any, kept: Any) -> None:
    with init() as run:
        run.log({"value": value})
    assert history(run) == [{"_step": 0, "value": kept}]


def test_a_number_that_nobody_could_read(session: Session) -> None:
    with init() as run:
        run.log({"a": 10**5000, "\udcff": 1})
        for values in (run.config, run.summary):
            with pytest.raises(InvalidMetadataError, match="digits"):
                values["a"] = 10**5000
    assert history(run) == [{"_step": 0, "a": {"_type": "int", "text": "(it cannot be shown: ValueError)"}, "?": 1}]


@pytest.mark.parametrize("step", ["3", 2.5, 2**63, float("nan")])
def test_a_step_that_is_none_is_refused_at_once(session: Session, step: Any) -> None:
    with init() as run:
        run.log({"a": 1})
        with pytest.raises((TypeError, InvalidArgumentError), match="step"):
            run.log({"a": 2}, step=step)
        run.log_artifact(Artifact("a", "t"))
    assert history(run) == [{"_step": 0, "a": 1}]


def test_steps_that_are_taken_for_whole_numbers(session: Session) -> None:
    with init() as run:
        run.log({"a": 1}, step=-4)
        run.log({"a": 2}, step=3.0)  # type: ignore[arg-type]
        run.log({"b": 2}, step=True)
    assert history(run) == [{"_step": 0, "a": 1}, {"_step": 3, "a": 2, "b": 2}]


def test_history_by_keys_and_steps(session: Session) -> None:
    with init() as run:
        for step in range(4):
            run.log({"a": step} if step % 2 else {"a": step, "b": -step})
    found = Api().run(run.id)
    assert found.history(keys=["b"]) == [{"_step": 0, "b": 0}, {"_step": 2, "b": -2}]
    assert [row["a"] for row in found.scan_history(min_step=1, max_step=3, page_size=1)] == [1, 2]
    with pytest.raises(InvalidArgumentError, match="0 steps"):
        next(found.scan_history(page_size=0))


def test_config_and_summary_can_be_changed(session: Session) -> None:
    with init(config={"lr": 0.1}) as run:
        run.config.update({"lr": 0.2, "batch": 8})
        assert session.catalog.run(run.id).config == {"lr": 0.2, "batch": 8}
        run.log({"loss": 3})
        run.summary["best"] = 2
        run.summary.late = 0
        assert run.summary == {"loss": 3, "best": 2, "late": 0}
    found = Api().run(run.id)
    assert (found.summary, found.config) == ({"loss": 3, "best": 2, "late": 0}, run.config)
    found.config["late"] = 1
    found.summary["late"] = 2
    found.update()
    found.config["lost"] = 1
    found.load()
    assert (found.config["late"], found.summary["late"], "lost" in found.config) == (1, 2, False)


def test_values_can_be_merged(session: Session) -> None:
    with init(config={"lr": 0.1}) as run:
        run.config |= {"lr": 0.2, "batch": 8}
        config = run.config
        config |= [("depth", 3)]
        run.summary |= {"best": 1}
        for name in ("config", "summary"):
            with pytest.raises(InvalidArgumentError, match="update"):
                setattr(run, name, {"lr": 1})
    found = Api().run(run.id)
    assert (found.config, found.summary) == ({"lr": 0.2, "batch": 8, "depth": 3}, {"best": 1})


def test_values_that_only_python_takes_for_equal_are_kept(session: Session) -> None:
    with init(config={"flag": 1}) as run:
        run.config["flag"] = True
        run.summary["done"] = 0
    with init(id=run.id, resume="must") as run:
        assert run.config["flag"] is True
        run.summary["done"] = False
    assert Api().run(run.id).summary["done"] is False


# a catalog that cannot be written ---------------------------------------------------------------------


class Failing:
    """A catalog whose calls of these names raise, as those of a server that is away."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.calls: dict[str, Exception] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self.calls:
            raise self.calls[name]
        return getattr(self._catalog, name)


AWAY = UnavailableError("the server does not answer")


@pytest.fixture
def failing(session: Session) -> Failing:
    return Failing(session.catalog)


@pytest.fixture
def behind(session: Session, failing: Failing) -> Session:
    """A session whose catalog may be failing."""
    return Session(session.settings, cast(Catalog, failing), session.store)


def test_a_run_goes_on_while_what_it_logs_cannot_be_sent(
    behind: Session, failing: Failing, expect_log: Callable[..., None]
) -> None:
    expect_log("cannot be sent now", count=1)
    with init(session=behind) as run:
        failing.calls = {"add_history": AWAY, "update_run": AWAY}
        for number in range(2 * FLUSH_ROWS):
            run.log({"a": number})
        failing.calls = {}
    assert [row["a"] for row in history(run)] == list(range(2 * FLUSH_ROWS))


def test_what_waits_to_be_sent_has_an_end(
    behind: Session, failing: Failing, expect_log: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "MOST_ROWS", FLUSH_ROWS + 1)
    expect_log("cannot be sent now", count=1)
    with init(session=behind) as run:
        failing.calls = {"add_history": AWAY}
        for number in range(FLUSH_ROWS):
            run.log({"a": number})
        with pytest.raises(UnavailableError):
            run.log({"a": FLUSH_ROWS})
        failing.calls = {}
    assert len(history(run)) == FLUSH_ROWS + 1


def test_a_run_whose_catalog_refuses_is_told_so(behind: Session, failing: Failing) -> None:
    with init(session=behind) as run:
        failing.calls = {"add_history": NotFoundError("the run was deleted")}
        with pytest.raises(NotFoundError):
            for number in range(FLUSH_ROWS):
                run.log({"a": number})
        failing.calls = {}


def test_a_run_that_could_not_be_ended_goes_on(behind: Session, failing: Failing) -> None:
    run = init(session=behind)
    failing.calls = {"update_run": AWAY}
    with pytest.raises(UnavailableError):
        run.finish()
    assert (run.state, try_run()) == ("running", run)
    failing.calls = {}
    run.finish()
    assert (run.state, try_run()) == ("finished", None)


def test_an_error_in_a_run_is_not_hidden_by_that_of_its_end(
    behind: Session, failing: Failing, expect_log: Callable[..., None]
) -> None:
    expect_log("cannot be marked as failed")
    with pytest.raises(ZeroDivisionError), init(session=behind) as run:
        failing.calls = {"update_run": AWAY}
        raise ZeroDivisionError
    failing.calls = {}
    run.finish(1)


def test_what_was_saved_is_saved_though_its_run_cannot_be_ended(
    behind: Session, failing: Failing, expect_log: Callable[..., None]
) -> None:
    expect_log("cannot be marked as finished")
    expect_log("cannot be marked as failed")
    artifact = Artifact("ds", "t")
    failing.calls = {"update_run": AWAY}
    with auto_run(behind, "p") as made:
        log(artifact, made.target())
    assert artifact.version == "v0"
    with pytest.raises(ZeroDivisionError), auto_run(behind, "p"):
        raise ZeroDivisionError
