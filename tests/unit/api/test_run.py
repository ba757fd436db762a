"""artfs.init and what a run does besides logging."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from artfs.api.ambient import current_run
from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.public import Api
from artfs.api.session import Session, open_session
from artfs.errors import (
    ConflictError,
    InvalidMetadataError,
    InvalidNameError,
    NotFoundError,
    TypeConflictError,
)
from artfs.settings import Settings


def test_defaults(session: Session) -> None:
    with init() as run:
        assert (run.entity, run.project, run.name, run.job_type, run.config, run.state, run.step) == (
            "local", "uncategorized", run.id, None, {}, "running", 0,
        )  # fmt: skip
        assert repr(run) == f"<Run local/uncategorized/{run.id} (running)>"
    assert run.state == "finished"


def test_arguments(session: Session) -> None:
    with init(
        project="p", entity="team", job_type="train", config={"lr": 0.1, "many": list(range(200))}, name="n"
    ) as run:
        pass
    record = session.catalog.runs("team", "p")[0]
    assert (record.id, record.name, record.job_type, record.config["lr"]) == (run.id, "n", "train", 0.1)
    assert run.config == record.config


def test_config_of_any_size_and_shape(session: Session) -> None:
    with init(config={str(n): n for n in range(200)}) as run:
        assert len(run.config) == 200
    with init(config=argparse.Namespace(lr=0.1)) as run:
        assert run.config == {"lr": 0.1}
    with pytest.raises(InvalidMetadataError):
        init(config={"x": float("inf")})
    with pytest.raises(TypeError):
        init(config={"x": object()})
    assert current_run() is None


@pytest.mark.parametrize("arguments", [{"project": "a/b"}, {"project": "drafts"}, {"entity": "a/b"}])
def test_bad_places(session: Session, arguments: Any) -> None:
    with pytest.raises(InvalidNameError):
        init(**arguments)
    assert current_run() is None


def test_settings(session: Session, settings: Settings, tmp_path: Path) -> None:
    other = settings.with_changes(home=tmp_path / "other", project="p")
    with init(settings=other) as run:
        run.log_artifact(Artifact("ds", "dataset"))
        assert run.project == "p"
    assert not Api().artifact_exists("p/ds")
    with open_session(other) as opened:
        assert Api(session=opened).artifact("ds").version == "v0"


def test_session(session: Session, settings: Settings, tmp_path: Path) -> None:
    with open_session(settings.with_changes(home=tmp_path / "other")) as other, init(session=other) as run:
        run.log_artifact(Artifact("ds", "dataset"))
        assert Api(session=other).artifact_exists("ds")
    assert not Api().artifact_exists("ds")


@pytest.mark.parametrize(("exit_code", "state"), [(None, "finished"), (0, "finished"), (3, "failed")])
def test_finish(session: Session, exit_code: int | None, state: str) -> None:
    run = init()
    run.finish(exit_code)
    run.finish()
    assert run.state == session.catalog.run(run.id).state == state
    assert session.catalog.run(run.id).finished_at is not None


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_fails_the_run(session: Session, error: type[BaseException]) -> None:
    with pytest.raises(error), init() as run:
        raise error
    assert session.catalog.run(run.id).state == "failed"
    assert current_run() is None


def test_nothing_works_after_the_end(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    with init() as run:
        pass
    draft = Artifact("other", "dataset")
    for act in (
        lambda: run.log({}),
        lambda: run.log_artifact(draft),
        lambda: run.use_artifact("ds"),
        lambda: run.link_artifact(artifact, "best"),
    ):
        with pytest.raises(ConflictError, match=f"the run {run.id} is finished"):
            act()
    assert draft.is_draft()


def test_the_newest_run_is_the_current_one(session: Session) -> None:
    with init(project="one"):
        inner = init(project="two")
        assert (run := current_run()) is not None
        assert run.record.project == "two"
        inner.finish()
        assert (run := current_run()) is not None
        assert run.record.project == "one"
    assert current_run() is None


SCRIPT = """
import artfs
run = artfs.init(project="p", job_type="script")
print(run.id)
artifact = artfs.Artifact("ds", "dataset")
with artifact.new_file("f") as stream:
    stream.write("x")
artifact.save()
{}
"""


@pytest.mark.parametrize(
    ("ending", "state"), [("", "finished"), ("raise SystemExit(0)", "finished"), ("1 / 0", "failed")]
)
def test_a_run_ends_with_its_process(session: Session, run_python: Any, ending: str, state: str) -> None:
    done = run_python(SCRIPT.format(ending))
    run = session.catalog.run(done.stdout.strip())
    assert (run.state, run.job_type) == (state, "script")
    assert ("Traceback" in done.stderr) == (state == "failed")


# history ------------------------------------------------------------------------------------------


def test_history_step(session: Session) -> None:
    with init() as run:
        steps = []
        for number in range(3):
            artifact = Artifact("ds", "dataset", metadata={"n": number})
            with artifact.new_file("f") as stream:
                stream.write(str(number))
            run.log_artifact(artifact)
            steps.append(artifact.history_step)
            assert Api().artifact("ds").history_step == steps[-1]
            assert session.catalog.run(run.id).history_steps == number
            run.log({"loss": 1.0})
    assert steps == [None, 0, 1]
    assert session.catalog.run(run.id).history_steps == 3


def test_log_step(session: Session) -> None:
    with init() as run:
        run.log({"x": 1}, step=10)
        assert run.step == 11
        run.log({"x": 1}, step=3)
        assert run.step == 11
        run.log({"x": 1})
        assert run.step == 12
        with pytest.raises(TypeError):
            run.log(7)  # type: ignore[arg-type]


# use_artifact -------------------------------------------------------------------------------------


def used(session: Session, run_id: str) -> list[str]:
    return [member.name for member in session.catalog.versions_of_run(run_id, used=True)]


@pytest.mark.parametrize(
    "name", ["ds", "ds:latest", "ds:v0", "uncategorized/ds", "local/uncategorized/ds:v0"]
)
def test_use_artifact_by_name(session: Session, log_files: Any, name: str) -> None:
    log_files("ds", {"f": "1"})
    with init() as run:
        artifact = run.use_artifact(name)
        run.use_artifact(name)
    assert artifact.qualified_name.startswith("local/uncategorized/ds:")
    assert used(session, run.id) == ["ds:v0"]


def test_use_artifact_is_completed_by_the_run(session: Session) -> None:
    with init(project="p", entity="team") as run:
        run.log_artifact(Artifact("ds", "dataset"))
        assert run.use_artifact("ds").qualified_name == "team/p/ds:v0"
    with init() as run, pytest.raises(NotFoundError):
        run.use_artifact("ds")


def test_use_artifact_type(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    with init() as run:
        assert run.use_artifact("ds", type="dataset").version == "v0"
        for given in ("ds", Api().artifact("ds")):
            with pytest.raises(TypeConflictError):
                run.use_artifact(given, type="model")


def test_use_artifact_aliases(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    with init() as run:
        assert sorted(run.use_artifact("ds", aliases="used").aliases) == ["latest", "used"]
        run.use_artifact(Api().artifact("ds"), aliases=["again"])
    assert sorted(Api().artifact("ds").aliases) == ["again", "latest", "used"]


def test_use_artifact_use_as(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    with init() as run, pytest.warns(DeprecationWarning, match="use_as"):
        assert run.use_artifact("ds", use_as="input").version == "v0"


def test_use_artifact_object(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    link = artifact.link("best")
    with init(project="p") as run:
        assert run.use_artifact(artifact) is artifact
        assert run.use_artifact(link) is link
        draft = Artifact("made-elsewhere", "dataset")
        assert run.use_artifact(draft) is draft
        assert draft.qualified_name == "local/p/made-elsewhere:v0"
    assert used(session, run.id) == ["ds:v0", "made-elsewhere:v0"]
    assert session.catalog.versions_of_run(run.id, used=False) == []


def test_use_artifact_of_another_state_folder(session: Session, settings: Settings, tmp_path: Path) -> None:
    artifact = Artifact("ds", "dataset")
    artifact.save(settings=settings.with_changes(home=tmp_path / "other"))
    with init() as run:
        with pytest.raises(ConflictError, match="state folder"):
            run.use_artifact(artifact)
        with pytest.raises(ConflictError, match="state folder"):
            run.link_artifact(artifact, "best")
        with pytest.raises(ConflictError, match="state folder"):
            run.log_artifact(artifact)


# link_artifact ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "where"),
    [("best", "team/p/best:v0"), ("q/best", "team/q/best:v0"), ("local/q/best", "local/q/best:v0")],
)
def test_link_artifact(session: Session, log_files: Any, target: str, where: str) -> None:
    artifact = log_files("ds", {"f": "1"})
    with init(project="p", entity="team") as run:
        link = run.link_artifact(artifact, target, aliases=["a"])
    assert (link.qualified_name, link.source_qualified_name) == (where, "local/uncategorized/ds:v0")
    assert sorted(link.aliases) == ["a", "latest"]


def test_link_artifact_logs_a_draft(session: Session) -> None:
    with init(project="p") as run:
        artifact = Artifact("ds", "dataset")
        link = run.link_artifact(artifact, "best")
    assert (artifact.qualified_name, link.qualified_name) == ("local/p/ds:v0", "local/p/best:v0")
    assert [member.name for member in session.catalog.versions_of_run(run.id, used=False)] == ["ds:v0"]


def test_only_an_artifact_is_linked(session: Session) -> None:
    with init(project="p") as run, pytest.raises(TypeError, match="link_artifact takes an Artifact, not str"):
        run.link_artifact("ds:v0", "best")  # type: ignore[arg-type]


def test_a_path_that_makes_no_name_says_that_one_can_be_given(session: Session, make_files: Any) -> None:
    folder = make_files("my pictures", {"f": "1"})
    with init() as run:
        with pytest.raises(InvalidNameError, match="name="):
            run.log_artifact(folder)
        assert run.log_artifact(folder, name="pictures").name == "pictures:v0"


# models -------------------------------------------------------------------------------------------


def test_models(session: Session, make_files: Any) -> None:
    root = make_files("in", {"weights": "1", "many/a": "2", "many/b": "3"})
    with init(project="p") as run:
        one = run.log_model(root / "weights", name="one", aliases=["good"])
        assert (one.type, one.name, sorted(one.aliases)) == ("model", "one:v0", ["good", "latest"])
        assert run.log_model(path=root / "many").source_name == f"run-{run.id}-many:v0"
        path = run.use_model("one:good")
        assert path.endswith("artifacts/one:v0/weights")
        assert Path(path).read_text() == "1"
        folder = run.use_model(name=f"run-{run.id}-many")
        assert sorted(path.name for path in Path(folder).iterdir()) == ["a", "b"]
        link = run.link_model(root / "weights", "prod", name="one", aliases=["live"])
        assert (link.qualified_name, link.source_name) == ("local/wandb-registry-model/prod:v0", "one:v0")
        assert sorted(link.aliases) == ["latest", "live"]
        run.log_artifact(Artifact("ds", "dataset"))
        with pytest.raises(TypeConflictError, match="which is no model"):
            run.use_model("ds")
    assert used(session, run.id) == ["one:v0", f"run-{run.id}-many:v0"]
