"""Runs as users see them: `with artfs.init(project="p") as run: run.log_artifact(…)`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from artfs.api.ambient import enter_run, leave_run, session_for
from artfs.api.artifact import Artifact, check_home, log, logged, logged_state
from artfs.api.draft import StrPath
from artfs.api.facts import warn_use_as
from artfs.api.ingest import LogTarget
from artfs.api.loggable import plain
from artfs.api.session import Session
from artfs.api.tracking import Tracker, begin_run
from artfs.api.values import Values, as_values
from artfs.api.version import LoggedArtifact, resolve
from artfs.errors import InvalidArgumentError, TypeConflictError
from artfs.model.names import REGISTRY_PREFIX, check_entity_name, check_project_name
from artfs.settings import Settings


class Run:
    """One process's piece of work that logs and uses artifacts. A context manager that finishes it, as
    "failed" when the `with` is left by an exception. What is logged is durable when `log_artifact` returns,
    so finishing waits for nothing.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._config = Values(tracker.record.config, tracker.add_config)

    def __repr__(self) -> str:
        return f"<Run {self.entity}/{self.project}/{self.id} ({self.state})>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(exit_code=0 if error is None else 1)

    @property
    def id(self) -> str:
        """Eight letters and digits, unique in the catalog."""
        return self._tracker.record.id

    @property
    def entity(self) -> str:
        return self._tracker.record.entity

    @property
    def project(self) -> str:
        return self._tracker.record.project

    @property
    def name(self) -> str:
        """As given to `init`, else the id."""
        return self._tracker.record.name

    @property
    def path(self) -> str:
        """`ENTITY/PROJECT/ID`, by which `Api().run` finds it."""
        return f"{self.entity}/{self.project}/{self.id}"

    @property
    def job_type(self) -> str | None:
        return self._tracker.record.job_type

    @property
    def config(self) -> Values:
        """What was given to `init`, and what is put there: `run.config["lr"]` is `run.config.lr`."""
        return self._config

    @property
    def summary(self) -> Values:
        """The last value of each name that was logged. What is put there is kept, too, until the name is logged again."""
        return Values(self._tracker.summary, self._tracker.add_summary)

    @property
    def state(self) -> str:
        """ "running", "finished" or "failed"."""
        return self._tracker.record.state

    @property
    def step(self) -> int:
        """The number of the next history step; 0 before the first `log`."""
        return self._tracker.steps

    def log(self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Logs values at one history step. An artifact knows at which step it was logged (`history_step`).

        Arguments:
            data: names and values. Numbers, text, lists and dicts are kept as they are; of what has no JSON form
                its type and text are kept.
            step: the number of this one, of which there may be several; it never goes back (a smaller one counts as
                the last). None: a new step.
            commit: False: the values belong to the step that the next call makes (or the end of the run). None: True.
        What was logged is kept within seconds, at the latest when the run ends; `Api().run(…)` shows it. Raises
        ConflictError when the run is finished, TypeError.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"log() takes a dict of values, not {type(data).__name__}")
        values = {str(name): plain(value) for name, value in data.items()}
        self._tracker.log(values, step, commit=commit is not False)

    def log_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,
        aliases: str | Iterable[str] | None = None,
        tags: str | Iterable[str] | None = None,
    ) -> Artifact:
        """Logs an artifact, or a file, a directory or what a URI refers to as one, as output of this run.

        When this returns, the version is durable. When `latest` has the same content already, no version is
        made: the result is that one, with these aliases and tags added to it. An artifact that is logged
        already gets them, too.

        Arguments:
            artifact_or_path: an Artifact becomes the version, and is returned. Text with "://" in it is a URI (see
                Artifact.add_reference), any other a path.
            name: for a path or URI; None: "run-ID-" and its last part.
            type: for a path or URI; None: "unspecified".
            aliases: beside `latest`, which a new version always gets. One str is one alias.
            tags: of the version. One str is one tag.
        Raises what Artifact.save raises; for a path what add_file and add_dir raise, InvalidArgumentError when nothing
        is there; for a URI what add_reference raises; ConflictError for an artifact that is logged in another project,
        and when the run is finished; TypeError for another kind of object.
        """
        self._tracker.check_running()
        if isinstance(artifact_or_path, Artifact):
            artifact = artifact_or_path
            for what, given, known in (
                ("name", name, artifact.source_name.partition(":")[0]),
                ("type", type, artifact.type),
            ):
                if given is not None and given != known:
                    raise InvalidArgumentError(
                        f"the {what} of an Artifact is its own, {known!r}; leave `{what}` out"
                    )
        elif isinstance(artifact_or_path, str | os.PathLike):
            artifact = self._from_path(os.fspath(artifact_or_path), name, type)
        else:
            raise TypeError(
                f"log_artifact takes an Artifact or a path, not {artifact_or_path.__class__.__name__}"
            )
        log(artifact, self._tracker.target(), aliases, tags)
        return artifact

    def _from_path(self, path: str, name: str | None, type: str | None) -> Artifact:
        is_uri = "://" in path
        last = os.path.basename(urlsplit(path).path.rstrip("/") if is_uri else os.path.abspath(path))
        artifact = Artifact(name or f"run-{self.id}-{last}", type or "unspecified")
        if is_uri:
            artifact.add_reference(path)
        elif os.path.isdir(path):
            artifact.add_dir(path)
        elif os.path.exists(path):
            artifact.add_file(path)
        else:
            raise InvalidArgumentError(f"there is no file or directory {path!r} to log")
        return artifact

    def use_artifact(
        self,
        artifact_or_name: Artifact | str,
        type: str | None = None,
        aliases: str | Iterable[str] | None = None,
        use_as: str | None = None,
    ) -> Artifact:
        """Fetches an artifact and notes that this run used it.

        Arguments:
            artifact_or_name: `[[ENTITY/]PROJECT/]NAME[:ALIAS]`, completed by this run's entity and project,
                and `latest` (ALIAS may be `vN` or `@TIME`); or an Artifact. A draft is logged to this run's
                project first, as nobody's output.
            type: what its type must be; None: any.
            aliases: added to it.
            use_as: deprecated, without effect.
        Raises NotFoundError; TypeConflictError (a ValueError) for another type; InvalidNameError;
        ConflictError for an artifact of another state folder, and when the run is finished.
        """
        self._tracker.check_running()
        if use_as is not None:
            warn_use_as(2)
        session = self._tracker.session
        if isinstance(artifact_or_name, Artifact):
            artifact = artifact_or_name
            if artifact.is_draft():
                log(artifact, LogTarget(session, self.entity, self.project))
        else:
            artifact = logged(resolve(session, artifact_or_name, entity=self.entity, project=self.project))
        state = self._here(artifact, "use_artifact")
        state.check_type(type)
        if aliases:
            state.label(aliases, None)
        session.catalog.record_use(self.id, state.member.version.id)
        return artifact

    def link_artifact(
        self, artifact: Artifact, target_path: str, aliases: str | Iterable[str] | None = None
    ) -> Artifact:
        """Links an artifact to a collection of links; a draft is logged by this run first.

        As Artifact.link, but `target_path` is completed by this run's entity and project.
        """
        self._tracker.check_running()
        if artifact.is_draft():
            log(artifact, self._tracker.target())
        state = self._here(artifact, "link_artifact")
        return logged(state.link(target_path, aliases, entity=self.entity, project=self.project))

    # models: the same, with fewer words -----------------------------------------------------------

    def log_model(
        self, path: StrPath, name: str | None = None, aliases: str | Iterable[str] | None = None
    ) -> Artifact:
        """`log_artifact` of a file or directory (or URI) with the type "model"."""
        return self.log_artifact(path, name, "model", aliases)

    def use_model(self, name: str) -> str:
        """Uses an artifact whose type holds "model", and downloads it. Returns the path of its file, or that of the
        directory when it has more than one.

        Raises TypeConflictError (a ValueError) for another type, what use_artifact and Artifact.download raise.
        """
        self._tracker.check_running()
        artifact = logged(resolve(self._tracker.session, name, entity=self.entity, project=self.project))
        if "model" not in artifact.type:
            raise TypeConflictError(f"{artifact.qualified_name} is of type {artifact.type!r}, which is no model")
        self.use_artifact(artifact)
        root = artifact.download()
        paths = list(artifact.manifest.entries) if artifact.file_count == 1 else []
        return os.path.join(root, paths[0]) if len(paths) == 1 else root

    def link_model(
        self,
        path: StrPath,
        registered_model_name: str,
        name: str | None = None,
        aliases: str | Iterable[str] | None = None,
    ) -> Artifact:
        """`log_model`, then `link_artifact` to `wandb-registry-model/` and `registered_model_name`, where it gets the
        aliases. Returns it as seen there."""
        model = self.log_model(path, name)
        return self.link_artifact(model, f"{REGISTRY_PREFIX}model/{registered_model_name}", aliases)

    def _here(self, artifact: Artifact, asked: str) -> LoggedArtifact:
        state = logged_state(artifact, asked)
        check_home(state, self._tracker.session)
        return state

    def finish(self, exit_code: int | None = None) -> None:
        """Ends the run: "finished", or "failed" when `exit_code` is neither None nor 0. Again is fine."""
        leave_run(self._tracker)
        self._tracker.finish("failed" if exit_code else "finished")


def run_of(tracker: Tracker) -> Run:
    """The user's side of a run, one object for each."""
    if not isinstance(tracker.face, Run):
        tracker.face = Run(tracker)
    return tracker.face


_MODES = (None, "online", "offline", "shared")


def init(
    project: str | None = None,
    entity: str | None = None,
    job_type: str | None = None,
    config: Mapping[str, Any] | object | None = None,
    name: str | None = None,
    *,
    settings: Settings | None = None,
    session: Session | None = None,
    mode: str | None = None,
    notes: str | None = None,
    tags: Iterable[str] | None = None,
    group: str | None = None,
    dir: StrPath | None = None,
    reinit: bool | str | None = None,
) -> Run:
    """Begins a run, which is the current one until it is finished (or another begins): by `with`, by
    `finish()`, or when the process ends.

    Arguments:
        project, entity: where it logs; None: the settings'. The project is made when missing.
        job_type: free text, such as "train".
        config: a dict of JSON values, or an object whose attributes are taken (argparse's Namespace). A logged Artifact
            becomes its `json_encode`.
        name: for people; None: the run's id.
        settings: which state folder; None: from the config file and the environment.
        session: an open session to use instead.
        mode: None, "online", "offline" or "shared", which all mean the same: everything is on this machine.
        notes, tags, group, dir, reinit: taken for the sake of scripts written for wandb, without effect.
    Raises InvalidNameError, InvalidMetadataError, InvalidArgumentError, TypeError, UsageError, CatalogError.
    """
    if mode not in _MODES:
        raise InvalidArgumentError(f"mode {mode!r} means nothing here: every run is recorded, on this machine")
    if session is None:
        session = session_for(settings)
    tracker = begin_run(
        session,
        entity=check_entity_name(entity or session.settings.entity),
        project=check_project_name(project or session.settings.project),
        name=name,
        job_type=job_type,
        config=as_values(config),
    )
    enter_run(tracker)
    return run_of(tracker)
