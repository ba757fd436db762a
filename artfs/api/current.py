"""`artfs.log(…)`, `artfs.finish()` and their like: what scripts ask of the current run without naming it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from artfs.api.ambient import current_run
from artfs.api.artifact import Artifact
from artfs.api.draft import StrPath
from artfs.api.run import Run, run_of
from artfs.errors import UsageError


def try_run() -> Run | None:
    """The most recently begun run of this process that is not finished."""
    tracker = current_run()
    return None if tracker is None else run_of(tracker)


def need_run() -> Run:
    """The current run. Raises UsageError when there is none."""
    run = try_run()
    if run is None:
        raise UsageError("there is no run; begin one with artfs.init()")
    return run


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    """`Run.log` of the current run. Raises UsageError when there is none."""
    need_run().log(data, step, commit)


def log_artifact(
    artifact_or_path: Artifact | StrPath,
    name: str | None = None,
    type: str | None = None,
    aliases: str | Iterable[str] | None = None,
    tags: str | Iterable[str] | None = None,
) -> Artifact:
    """`Run.log_artifact` of the current run. Raises UsageError when there is none."""
    return need_run().log_artifact(artifact_or_path, name, type, aliases, tags)


def use_artifact(
    artifact_or_name: Artifact | str,
    type: str | None = None,
    aliases: str | Iterable[str] | None = None,
    use_as: str | None = None,
) -> Artifact:
    """`Run.use_artifact` of the current run. Raises UsageError when there is none."""
    return need_run().use_artifact(artifact_or_name, type, aliases, use_as)


def link_artifact(
    artifact: Artifact, target_path: str, aliases: str | Iterable[str] | None = None
) -> Artifact:
    """`Run.link_artifact` of the current run. Raises UsageError when there is none."""
    return need_run().link_artifact(artifact, target_path, aliases)


def log_model(path: StrPath, name: str | None = None, aliases: str | Iterable[str] | None = None) -> Artifact:
    """`Run.log_model` of the current run. Raises UsageError when there is none."""
    return need_run().log_model(path, name, aliases)


def use_model(name: str) -> str:
    """`Run.use_model` of the current run. Raises UsageError when there is none."""
    return need_run().use_model(name)


def link_model(
    path: StrPath, registered_model_name: str, name: str | None = None, aliases: str | Iterable[str] | None = None
) -> Artifact:
    """`Run.link_model` of the current run. Raises UsageError when there is none."""
    return need_run().link_model(path, registered_model_name, name, aliases)


def define_metric(*arguments: object, **options: object) -> None:
    """Taken for the sake of scripts written for wandb, without effect: there are no charts."""


def watch(*arguments: object, **options: object) -> None:
    """Taken for the sake of scripts written for wandb, without effect: there are no charts."""


def unwatch(*arguments: object, **options: object) -> None:
    """Taken for the sake of scripts written for wandb, without effect: there are no charts."""


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """`Run.finish` of the current run; nothing when there is none."""
    run = try_run()
    if run is not None:
        run.finish(exit_code, quiet)


def login(*arguments: object, **options: object) -> bool:
    """Taken for the sake of scripts written for wandb: there is no account, so everybody is logged in (True)."""
    return True
