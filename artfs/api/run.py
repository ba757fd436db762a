"""Runs as users see them: `with artfs.init(project="p") as run: run.log_artifact(…)`."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from artfs.api.ambient import leave_run
from artfs.api.artifact import Artifact, add_part, check_home, log, logged, logged_state
from artfs.api.draft import StrPath
from artfs.api.facts import warn_use_as
from artfs.api.ingest import LogTarget, as_names
from artfs.api.loggable import name_of, plain
from artfs.api.recorded import run_url
from artfs.api.session import Session
from artfs.api.tracking import Tracker
from artfs.api.values import Values
from artfs.api.version import LoggedArtifact, by_id, resolve
from artfs.errors import (
    ArtifactFinalizedError,
    InvalidArgumentError,
    InvalidNameError,
    TypeConflictError,
)
from artfs.model.names import (
    REGISTRY_PREFIX,
    check_collection_name,
    check_label,
)

_ARTIFACT = "wandb-artifact://"
"""How text in a config begins that names an artifact."""


class Run:
    """One process's piece of work that logs and uses artifacts. A context manager that finishes it, as
    "failed" when the `with` is left by an exception. What is logged is durable when `log_artifact` returns,
    so finishing waits for nothing.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._config = Values(
            tracker.record.config,
            tracker.add_config,
            stands_for=lambda value: in_config(value, tracker.session),
            on_artifact=self._note_use,
        )

    def __repr__(self) -> str:
        return f"<Run {self.entity}/{self.project}/{self.id} ({self.state})>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        elif self._tracker.try_finish("failed"):
            leave_run(self._tracker)

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
        """As given to `init`, else the id. May be set; as `tags` and `notes`, durably and at once."""
        return self._tracker.record.name

    @name.setter
    def name(self, name: str) -> None:
        self._tracker.describe(name=name)

    @property
    def group(self) -> str | None:
        """What it has in common with other runs that belong to the same work."""
        return self._tracker.record.group

    @property
    def tags(self) -> tuple[str, ...]:
        """May be set."""
        return self._tracker.record.tags

    @tags.setter
    def tags(self, tags: str | Iterable[str]) -> None:
        self._tracker.describe(tags=as_names(tags))

    @property
    def notes(self) -> str | None:
        """May be set."""
        return self._tracker.record.notes

    @notes.setter
    def notes(self, notes: str | None) -> None:
        self._tracker.describe(notes=notes or "")

    @property
    def url(self) -> str:
        """As RecordedRun.url."""
        return run_url(self.entity, self.project, self.id)

    @property
    def path(self) -> str:
        """`ENTITY/PROJECT/ID`, by which `Api().run` finds it."""
        return f"{self.entity}/{self.project}/{self.id}"

    @property
    def job_type(self) -> str | None:
        return self._tracker.record.job_type

    @property
    def config(self) -> Values:
        """What was given to `init`, and what is put there: `run.config["lr"]` is `run.config.lr`.

        An Artifact that is put there, or text "wandb-artifact://ENTITY/PROJECT/NAME:ALIAS" that names one, is used by this
        run; the Artifact is what is there from then on, and its `json_encode` what is kept.
        """
        return self._config

    @config.setter
    def config(self, values: Values) -> None:
        _check_merged("config", values)

    def _note_use(self, artifact: Artifact) -> None:
        self.use_artifact(artifact)

    @property
    def summary(self) -> Values:
        """The last value of each name that was logged. What is put there is kept, too, until the name is logged again."""
        return Values(self._tracker.summary, self._tracker.add_summary, what="summary")

    @summary.setter
    def summary(self, values: Values) -> None:
        _check_merged("summary", values)

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
        What was logged is kept within seconds, at the latest when the run ends; `Api().run(…)` shows it. While it cannot be
        (a server that is away, a full disk) it waits in memory, up to 100,000 steps, with a warning in the log. Raises
        ConflictError when the run is finished; TypeError and InvalidArgumentError for a `step` that is no whole number of
        up to 63 bits; UnavailableError, CatalogError when too much waits; NotFoundError when the run was deleted.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"log() takes a dict of values, not {type(data).__name__}")
        values = {name_of(name): plain(value) for name, value in data.items()}
        self._tracker.log(values, None if step is None else _check_step(step), commit=commit is not False)

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
        artifact = self._as_artifact("log_artifact", artifact_or_path, name, type)
        log(artifact, self._tracker.target(), aliases, tags)
        return artifact

    def _as_artifact(
        self, asked: str, given: Artifact | StrPath, name: str | None, type: str | None
    ) -> Artifact:
        if isinstance(given, Artifact):
            for what, wanted, known in (
                ("name", name, given.source_name.partition(":")[0]),
                ("type", type, given.type),
            ):
                if wanted is not None and wanted != known:
                    raise InvalidArgumentError(
                        f"the {what} of an Artifact is its own, {known!r}; leave `{what}` out"
                    )
            return given
        if isinstance(given, str | os.PathLike):
            return self._from_path(os.fspath(given), name, type)
        raise TypeError(f"{asked} takes an Artifact or a path, not {given.__class__.__name__}")

    def _from_path(self, path: str, name: str | None, type: str | None) -> Artifact:
        is_uri = "://" in path
        last = os.path.basename(urlsplit(path).path.rstrip("/") if is_uri else os.path.abspath(path))
        artifact = Artifact(name or self._name_of(path, last), type or "unspecified")
        if is_uri:
            artifact.add_reference(path)
        elif os.path.isdir(path):
            artifact.add_dir(path)
        elif os.path.exists(path):
            artifact.add_file(path)
        else:
            raise InvalidArgumentError(f"there is no file or directory {path!r} to log")
        return artifact

    def _name_of(self, path: str, last: str) -> str:
        try:
            return check_collection_name(f"run-{self.id}-{last}")
        except InvalidNameError as error:
            raise InvalidNameError(f"{path!r} makes no name of an artifact, so give one (name=…): {error}") from None

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
        if not isinstance(artifact, Artifact):
            raise TypeError(f"link_artifact takes an Artifact, not {artifact.__class__.__name__}")
        if artifact.is_draft():
            log(artifact, self._tracker.target())
        state = self._here(artifact, "link_artifact")
        return logged(state.link(target_path, aliases, entity=self.entity, project=self.project))

    # one artifact of several runs -------------------------------------------------------------------

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,
        aliases: str | Iterable[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Contributes to a version that several runs make together: the content is kept, durably, as a part of the version
        that `finish_artifact` makes of all parts with the same name and `distributed_id`. The artifact stays a draft, but
        cannot be changed any more; its description, metadata and ttl are dropped.

        Parts that nobody has made a version of for 30 days since the last one came are forgotten.

        Arguments:
            artifact_or_path, name, type: as for `log_artifact`.
            aliases: what the version gets besides those that `finish_artifact` gives it.
            distributed_id: any text that the runs have in common; None: the artifact's, else this run's group.
        Raises TypeError when there is none of these; ArtifactFinalizedError for an artifact that is logged, finalised or
        a part already; what `log_artifact` raises.
        """
        self._tracker.check_running()
        artifact = self._as_artifact("upsert_artifact", artifact_or_path, name, type)
        shared = self._distributed_id("upsert_artifact", artifact, distributed_id)
        add_part(artifact, self._tracker.target(), aliases, shared)
        return artifact

    def finish_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,
        aliases: str | Iterable[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Makes the version that runs have contributed to by `upsert_artifact`: it holds all their parts and the content of
        this artifact, and has its description, metadata and ttl. Where several have a path, what came later counts, this
        artifact's last. What is contributed afterwards belongs to the next version.

        Every run whose part it is has logged the version, and `logged_by` is this one. The arguments are those of
        `upsert_artifact`, whose artifact may also be given. Raises what that and `log_artifact` raise; ConflictError when a
        path is a file in one part and a directory in another.
        """
        self._tracker.check_running()
        artifact = self._as_artifact("finish_artifact", artifact_or_path, name, type)
        shared = self._distributed_id("finish_artifact", artifact, distributed_id)
        if not artifact.is_draft():
            raise ArtifactFinalizedError(f"{artifact.name} is logged already; finish_artifact takes a draft", "finish_artifact")
        log(artifact, self._tracker.target(), aliases, None, shared)
        return artifact

    def _distributed_id(self, asked: str, artifact: Artifact, given: str | None) -> str:
        found = given or artifact.distributed_id or self.group
        if not found:
            raise TypeError(f"{asked} needs a distributed_id, or a run with a group (init(group=…))")
        return check_label("distributed id", found)

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

    # taken for the sake of scripts written for wandb: there are no charts ----------------------------

    def define_metric(self, *arguments: object, **options: object) -> None:
        """Without effect."""

    def watch(self, *arguments: object, **options: object) -> None:
        """Without effect."""

    def unwatch(self, *arguments: object, **options: object) -> None:
        """Without effect."""

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """Ends the run: "finished", or "failed" when `exit_code` is neither None nor 0. Again is fine. `quiet`: without
        effect, as nothing is printed. Raises UnavailableError, CatalogError; the run goes on then, and its end is tried
        once more when the process ends."""
        self._tracker.finish("failed" if exit_code else "finished")
        leave_run(self._tracker)


def _check_merged(name: str, values: object) -> None:
    # Python assigns what `run.config |= …` has updated.
    if not isinstance(values, Values):
        raise InvalidArgumentError(f"a run's {name} cannot be replaced, only changed: run.{name}.update(…)")


def _check_step(step: object) -> int:
    # Refused here: what waits to be sent would be refused with it.
    if isinstance(step, float) and step.is_integer():
        step = int(step)
    try:
        number = operator.index(step)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"a step must be a whole number, not {step!r}") from None
    if number >= 2**63:
        raise InvalidArgumentError(f"a step must be below 2**63, which {number} is not")
    return number


def run_of(tracker: Tracker) -> Run:
    """The user's side of a run, one object for each."""
    if not isinstance(tracker.face, Run):
        tracker.face = Run(tracker)
    return tracker.face


def in_config(value: object, session: Session) -> object:
    """What stands for a value in a run's config: the artifact that text names, else the value itself. Raises
    InvalidNameError, NotFoundError."""
    if not isinstance(value, str) or not value.startswith(_ARTIFACT):
        return value
    path = value.removeprefix(_ARTIFACT)
    if path.startswith("_id/"):
        return logged(by_id(session, path.removeprefix("_id/")))
    if path.count("/") != 2:  # the URI of an entry
        return value
    return logged(resolve(session, path, entity=session.settings.entity, project=session.settings.project))
