"""A run's config, and what the module `artfs` itself does for the current run."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

import artfs
from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.session import Session
from artfs.errors import (
    ArtifactNotLoggedError,
    ConflictError,
    InvalidArgumentError,
    InvalidMetadataError,
    NotFoundError,
    UsageError,
)


def test_config_is_a_dict_with_attributes(session: Session) -> None:
    with init(config={"lr": 0.1, "layers": [1, 2]}) as run:
        config = run.config
        assert (config.lr, config["lr"], config.get("nothing"), sorted(config)) == (0.1, 0.1, None, ["layers", "lr"])
        assert json.loads(json.dumps(config)) == dict(config) == config.as_dict() == copy.deepcopy(config)
        assert not hasattr(config, "nothing")
        with pytest.raises(AttributeError, match="no value 'nothing'; there are: lr, layers"):
            config.nothing  # noqa: B018


def test_an_artifact_in_a_config(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    other = log_files("other", {"f": "2"})
    with init(config={"data": artifact, "lr": 0.1}) as run:
        assert run.config.data is artifact
        run.config["more"] = link = other.link("best")
        assert run.config["more"] is link
        kept = {"data": artifact.json_encode(), "lr": 0.1, "more": link.json_encode()}
        assert session.catalog.run(run.id).config == copy.deepcopy(run.config) == kept
        with pytest.raises(ArtifactNotLoggedError):
            run.config["draft"] = Artifact("a", "t")
        for nested in ({"a": {"b": artifact}}, [1, [artifact]]):
            with pytest.raises(InvalidArgumentError, match=r"config\['nested'\] holds an Artifact"):
                run.config.nested = nested
            with pytest.raises(InvalidArgumentError, match="holds an Artifact"):
                init(config={"nested": nested})
        model = run.log_artifact(Artifact("m", "model", metadata=dict(run.config)))
        assert model.metadata == kept
    assert [used.id for used in artfs.Api().run(run.id).used_artifacts()] == [artifact.id, other.id]
    assert artfs.run is None


def test_text_in_a_config_that_names_an_artifact(session: Session, log_files: Any) -> None:
    artifact, other = log_files("ds", {"f": "1"}), log_files("other", {"f": "2"})
    entry = artifact.get_entry("f").ref_url().replace("artfs-artifact:", "wandb-artifact:")
    name = "wandb-artifact://local/uncategorized/ds:latest"
    with init(config={"data": name, "entry": entry}) as run:
        assert (run.config.data.id, run.config.entry) == (artifact.id, entry)
        run.config.update({"other": f"wandb-artifact://_id/{other.id}"})
        assert run.config.other.name == "other:v0"
        for gone in ("wandb-artifact://local/uncategorized/ds:v7", "wandb-artifact://_id/abc", "wandb-artifact://_id/"):
            with pytest.raises(NotFoundError):
                run.config.gone = gone
        assert sorted(run.config) == ["data", "entry", "other"]
    record = session.catalog.run(run.id)
    assert record.config == {"data": artifact.json_encode(), "entry": entry, "other": other.json_encode()}
    assert [used.id for used in artfs.Api().run(run.id).used_artifacts()] == [artifact.id, other.id]
    other.delete(delete_aliases=True)
    with pytest.raises(NotFoundError, match="was deleted"):
        init(config={"other": f"wandb-artifact://_id/{other.id}"})
    with pytest.raises(NotFoundError, match="no version v7"):
        init(config={"data": "wandb-artifact://local/uncategorized/ds:v7"})
    assert len(session.catalog.runs("local", "uncategorized")) == 3


def test_config_is_persisted(session: Session) -> None:
    with init(config={"lr": 0.1}) as run:
        run.config.lr = 0.2
        run.config["epochs"] = 3
        run.config.update({"a": 1, "b": float("nan")}, allow_val_change=True)
        run.config.update(c=2)
        run.config.setdefaults({"lr": 0.5, "d": 4})
        assert run.config.setdefault("e", 5) == run.config.setdefault("e", 6) == 5
        expected = {"lr": 0.2, "epochs": 3, "a": 1, "b": None, "c": 2, "d": 4, "e": 5}
        assert run.config == session.catalog.run(run.id).config == expected


def test_what_is_wrong_with_a_config_is_told_by_its_name(session: Session) -> None:
    with init() as run:
        with pytest.raises(InvalidMetadataError, match=r"config\['x'\]\['y'\] is infinite"):
            run.config.x = {"y": float("inf")}
        with pytest.raises(TypeError, match=r"summary\['x'\] is a type"):
            run.summary["x"] = int
        with pytest.raises(TypeError, match="such as a dict, not int"):
            run.config.update(3)


@pytest.mark.parametrize("bad", [{"x": object()}, {"ok": 1, "x": float("inf")}])
def test_bad_config_changes_nothing(session: Session, bad: Any) -> None:
    with init(config={"lr": 0.1}) as run:
        with pytest.raises((TypeError, InvalidMetadataError)):
            run.config.update(bad)
        with pytest.raises((TypeError, InvalidMetadataError)):
            run.config["x"] = bad["x"]
        assert run.config == session.catalog.run(run.id).config == {"lr": 0.1}


def test_nothing_is_taken_out_of_a_config(session: Session) -> None:
    with init(config={"lr": 0.1}) as run:
        for remove in (lambda: run.config.pop("lr"), run.config.clear, lambda: run.config.__delitem__("lr")):
            with pytest.raises(InvalidArgumentError, match="not removed"):
                remove()
    with pytest.raises(ConflictError, match="is finished"):
        run.config.lr = 1
    assert run.config.lr == 0.1


def test_the_module_speaks_for_the_current_run(session: Session) -> None:
    assert artfs.run is None
    assert artfs.login(key="x")
    run = artfs.init(project="p", config={"lr": 0.1})
    assert artfs.run is run
    assert artfs.config is run.config
    artfs.log({"loss": 1.0})
    artfs.log({"loss": 0.5}, step=4)
    assert run.step == 5
    artfs.log({"more": 1}, commit=False)
    assert run.step == 5
    artfs.summary["best"] = 0.5
    assert artfs.summary == {"loss": 0.5, "more": 1, "best": 0.5}
    artifact = artfs.log_artifact(Artifact("ds", "dataset"), aliases=["a"], tags=["t"])
    assert (artifact.qualified_name, sorted(artifact.aliases), artifact.tags) == ("local/p/ds:v0", ["a", "latest"], ["t"])
    assert artfs.use_artifact("ds:a", type="dataset").id == artifact.id
    assert artfs.link_artifact(artifact, "best", aliases=["b"]).qualified_name == "local/p/best:v0"
    with artfs.init(project="q") as inner:
        assert artfs.run is inner
    assert artfs.run is run
    artfs.finish()
    assert (run.state, artfs.run) == ("finished", None)
    artfs.finish()


def test_the_module_speaks_for_the_current_run_about_models(session: Session, make_files: Any) -> None:
    weights = make_files("in", {"weights": "1"}) / "weights"
    with artfs.init(project="p"):
        assert artfs.log_model(weights, "m", ["good"]).qualified_name == "local/p/m:v0"
        assert artfs.use_model("m:good").endswith("artifacts/m:v0/weights")
        assert artfs.link_model(weights, "prod", "m", ["live"]).name == "prod:v0"


def test_what_has_no_effect_without_charts(session: Session) -> None:
    artfs.define_metric("loss", step_metric="epoch")
    with init() as run:
        artfs.watch(object(), log="all")
        artfs.unwatch()
        run.define_metric("loss", summary="min")
        run.watch(object())
        run.unwatch()
        assert (run.step, run.summary) == (0, {})


def test_errors_by_their_other_names(session: Session) -> None:
    with pytest.raises(artfs.errors.CommError):
        artfs.Api().artifact("nothing:v0")
    assert artfs.Error is artfs.CommError is artfs.ArtfsError


def test_a_run_is_found_by_its_path(session: Session) -> None:
    with init(project="p", job_type="j") as run:
        assert run.path == f"local/p/{run.id}"
        assert artfs.Api().run(run.path).job_type == "j"
        assert artfs.Api().run(f"p/runs/{run.id}").job_type == artfs.Api().run(f"local/p/runs/{run.id}").job_type == "j"
        assert run.url == artfs.Api().run(run.id).url == f"artfs://local/p/runs/{run.id}"


def test_finish_with_an_exit_code(session: Session) -> None:
    run = artfs.init()
    artfs.finish(exit_code=1, quiet=True)
    assert run.state == "failed"


@pytest.mark.parametrize(
    "act",
    [
        lambda: artfs.log({}),
        lambda: artfs.log_artifact("x"),
        lambda: artfs.use_artifact("x"),
        lambda: artfs.link_artifact(Artifact("a", "t"), "x"),
        lambda: artfs.log_model("x"),
        lambda: artfs.use_model("x"),
        lambda: artfs.link_model("x", "y"),
        lambda: artfs.config,
        lambda: artfs.summary,
    ],
)
def test_without_a_run(session: Session, act: Any) -> None:
    with pytest.raises(UsageError, match=r"artfs\.init\(\)"):
        act()


@pytest.mark.parametrize("mode", [None, "online", "offline", "shared"])
def test_what_scripts_for_wandb_tell_init(session: Session, mode: str | None) -> None:
    with init(mode=mode, dir="/tmp", reinit=True, save_code=False, anonymous="allow", force=True) as run:
        assert run.state == "running"
    with pytest.raises(TypeError, match=r"init\(\) got an unexpected keyword argument 'proejct'"):
        init(proejct="p", dir="/tmp")
    assert artfs.Api(timeout=30, api_key="x").run(run.id).state == "finished"


def test_a_run_that_would_record_nothing(session: Session) -> None:
    with pytest.raises(InvalidArgumentError, match="every run is recorded"):
        init(mode="disabled")
    assert artfs.run is None
