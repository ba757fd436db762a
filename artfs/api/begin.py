"""`artfs.init`: how a run begins, or goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from artfs.api.ambient import enter_run, session_for
from artfs.api.artifact import Artifact
from artfs.api.ingest import as_names
from artfs.api.run import Run, in_config, run_of
from artfs.api.session import Session
from artfs.api.tracking import begin_run, try_resume
from artfs.api.values import as_pairs, as_values
from artfs.errors import ConflictError, InvalidArgumentError, NotFoundError
from artfs.model.names import check_entity_name, check_project_name
from artfs.settings import Settings

_MODES = (None, "online", "offline", "shared")
_RESUME = (None, False, True, "never", "allow", "auto", "must")
_WITHOUT_EFFECT = frozenset(
    ("allow_val_change", "anonymous", "dir", "force", "monitor_gym", "reinit", "save_code", "sync_tensorboard", "tensorboard")
)


def init(
    project: str | None = None,
    entity: str | None = None,
    job_type: str | None = None,
    config: Mapping[str, Any] | object | None = None,
    name: str | None = None,
    *,
    id: str | None = None,
    resume: bool | str | None = None,
    group: str | None = None,
    tags: str | Iterable[str] | None = None,
    notes: str | None = None,
    settings: Settings | None = None,
    session: Session | None = None,
    mode: str | None = None,
    **others: object,
) -> Run:
    """Begins a run, which is the current one until it is finished (or another begins): by `with`, by
    `finish()`, or when the process ends.

    Arguments:
        project, entity: where it logs; None: the settings'. The project is made when missing.
        job_type: free text, such as "train".
        config: a dict of JSON values, or an object whose attributes are taken (argparse's Namespace). An Artifact in it is
            used by the run (see Run.config).
        name: for people; None: the run's id.
        id: unique in the catalog, at most 64 characters; None: eight random letters and digits.
        resume: "allow", "auto" and True go on with the run `id` if there is one, "must" raises NotFoundError if there is
            none; None, False and "never" begin a new one.
        group: what runs that belong together have in common (see Run.upsert_artifact).
        tags, notes: for people, and filters of Api.runs.
        settings: which state folder; None: from the config file and the environment.
        session: an open session to use instead.
        mode: None, "online", "offline" or "shared", which all mean the same: everything is on this machine.
        others: allow_val_change, anonymous, dir, force, monitor_gym, reinit, save_code, sync_tensorboard and tensorboard are
            taken for the sake of scripts written for wandb, without effect.
    A run that goes on has its job_type and group, and gets the name, tags and notes that are given; `config` is added to its
    own.
    Raises ConflictError when there is a run `id` that is not to go on, or that is of another project; InvalidNameError,
    InvalidMetadataError, InvalidArgumentError, TypeError, UsageError, CatalogError.
    """
    if unknown := sorted(others.keys() - _WITHOUT_EFFECT):
        raise TypeError(f"init() got an unexpected keyword argument {unknown[0]!r}")
    if mode not in _MODES:
        raise InvalidArgumentError(f"mode {mode!r} means nothing here: every run is recorded, on this machine")
    if resume not in _RESUME:
        raise InvalidArgumentError(f'resume must be "never", "allow", "must", "auto" or None, not {resume!r}')
    if resume == "must" and id is None:
        raise InvalidArgumentError('resume="must" needs the id of the run that is to go on')
    if session is None:
        session = session_for(settings)
    place = check_entity_name(entity or session.settings.entity), check_project_name(project or session.settings.project)
    given = {key: in_config(value, session) for key, value in as_pairs(config).items()}
    tracker = None
    if id is not None and resume not in (None, False, "never"):
        tracker = try_resume(session, id, *place)
        if tracker is None and resume == "must":
            raise NotFoundError(f"there is no run {id!r} to go on with")
    if tracker is not None:
        tracker.describe(name=name, tags=None if tags is None else as_names(tags), notes=notes)
        tracker.add_config(as_values(given))
    else:
        try:
            tracker = begin_run(
                session,
                entity=place[0],
                project=place[1],
                run_id=id,
                name=name,
                job_type=job_type,
                config=as_values(given),
                group=group,
                tags=as_names(tags),
                notes=notes,
            )
        except ConflictError as error:
            raise ConflictError(f'{error}; give another id, or resume="allow" to go on with it') from None
    enter_run(tracker)
    run = run_of(tracker)
    run.config.update({key: value for key, value in given.items() if isinstance(value, Artifact)})
    return run
