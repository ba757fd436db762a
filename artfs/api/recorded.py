"""Runs as they stand in the catalog: what `Api().run` and `artifact.logged_by()` give. `artfs.api.run` is one that goes on
in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from artfs.api.collection import Wrap
from artfs.api.facts import ArtifactFacts, logged_fact
from artfs.api.filters import Filter
from artfs.api.ingest import as_names
from artfs.api.paging import Page, Paginator
from artfs.api.session import Session
from artfs.api.version import LoggedArtifact, time_text
from artfs.errors import ConflictError, InvalidArgumentError
from artfs.model.paging import PageRequest
from artfs.model.records import RunRecord

if TYPE_CHECKING:
    from artfs.api.artifact import Artifact


def run_url(entity: str, project: str, run_id: str) -> str:
    """What names a run in messages and notes; nothing can be fetched by it."""
    return f"artfs://{quote(entity)}/{quote(project)}/runs/{quote(run_id)}"


class RecordedRun:
    """A run: what it was told, what it logged and used, and how it ended. A copy of what the catalog knew when it was
    fetched; `load` fetches it anew.

    Attributes:
        config, summary: dicts; changes are persisted by `update`, and so are those of `name`, `tags` and `notes`.
    """

    def __init__(self, session: Session, record: RunRecord, wrap: Wrap) -> None:
        self._session = session
        self._wrap = wrap
        self._load(record)

    def _load(self, record: RunRecord) -> None:
        self._record = record
        self.config: dict[str, Any] = dict(record.config)
        self.summary: dict[str, Any] = dict(record.summary)
        self.name = record.name
        self.tags: list[str] = list(record.tags)
        self.notes = record.notes

    def __repr__(self) -> str:
        return f"<Run {'/'.join(self.path)} ({self.state})>"

    @property
    def id(self) -> str:
        return self._record.id

    @property
    def entity(self) -> str:
        return self._record.entity

    @property
    def project(self) -> str:
        return self._record.project

    @property
    def group(self) -> str | None:
        """What it has in common with other runs that belong to the same work."""
        return self._record.group

    @property
    def job_type(self) -> str | None:
        return self._record.job_type

    @property
    def state(self) -> str:
        """ "running", "finished", "failed" or "crashed"."""
        return self._record.state

    @property
    def path(self) -> list[str]:
        """Entity, project and id."""
        return [self.entity, self.project, self.id]

    @property
    def url(self) -> str:
        return run_url(self.entity, self.project, self.id)

    @property
    def created_at(self) -> str:
        """When it began: ISO 8601, UTC."""
        return time_text(self._record.created_at)

    @property
    def finished_at(self) -> str | None:
        """When it ended: ISO 8601, UTC; None while it runs."""
        return None if self._record.finished_at is None else time_text(self._record.finished_at)

    @property
    def last_history_step(self) -> int:
        """The last step that it logged; -1 before the first."""
        return self._record.history_steps - 1

    def load(self) -> None:
        """Fetches it anew; changes that were not persisted are lost."""
        self._load(self._session.catalog.run(self.id))

    def update(self) -> None:
        """Persists what was added to or changed in `config` and `summary`, of which nothing is removed, and `name`, `tags`
        and `notes`. Raises InvalidNameError, InvalidMetadataError."""
        record = self._session.catalog.update_run(
            self.id, config=self.config, summary=self.summary, name=self.name, tags=as_names(self.tags), notes=self.notes or ""
        )
        self._load(record)

    # what it logged -------------------------------------------------------------------------------

    def scan_history(
        self, keys: Iterable[str] | None = None, page_size: int = 1000, min_step: int = 0, max_step: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """What it logged, step by step: dicts with the values, and "_step".

        Arguments:
            keys: only these values, and only steps that have all of them.
            page_size: how many steps are fetched at a time.
            min_step, max_step: from this step on, and before that one.
        Raises InvalidArgumentError for a page of no steps.
        """
        if page_size < 1:
            raise InvalidArgumentError(f"a page cannot have {page_size} steps")
        wanted = None if keys is None else list(keys)
        after = min_step - 1
        while rows := self._session.catalog.history(self.id, after=after, limit=page_size):
            for row in rows:
                if max_step is not None and row.step >= max_step:
                    return
                if wanted is None:
                    yield {"_step": row.step, **row.values}
                elif all(key in row.values for key in wanted):
                    yield {"_step": row.step, **{key: row.values[key] for key in wanted}}
            after = rows[-1].step

    def history(self, keys: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """`scan_history` as a list."""
        return list(self.scan_history(keys))

    # artifacts ------------------------------------------------------------------------------------

    def logged_artifacts(self, per_page: int = 100, start: str | None = None) -> Paginator[Artifact]:
        """The artifacts that are its output, in the order of their commits, without deleted ones.

        Arguments:
            per_page: how many are fetched at a time.
            start: goes on after a list that ended early: its `cursor`.
        """
        return self._artifacts(per_page, start, used=False)

    def used_artifacts(self, per_page: int = 100, start: str | None = None) -> Paginator[Artifact]:
        """The artifacts that are its input; otherwise as `logged_artifacts`."""
        return self._artifacts(per_page, start, used=True)

    def _artifacts(self, per_page: int, start: str | None, *, used: bool) -> Paginator[Artifact]:
        session = self._session

        def fetch(cursor: str | None, size: int) -> Page[Artifact]:
            page = session.catalog.page_of_run_versions(self.id, PageRequest("created_at", size, cursor), used=used)
            return [self._wrap(LoggedArtifact(session, member)) for member in page.items], page.cursor

        def count() -> int:
            return session.catalog.page_of_run_versions(self.id, PageRequest("created_at", 1), used=used).total or 0

        return Paginator(fetch, per_page=per_page, start=start, count=count)

    def log_artifact(
        self,
        artifact: Artifact,
        aliases: str | Iterable[str] | None = None,
        tags: str | Iterable[str] | None = None,
    ) -> Artifact:
        """Notes that an artifact which is logged already is (also) this run's output; it gets the aliases and tags.

        Raises ArtifactNotLoggedError; ConflictError (a ValueError) when it was logged in another project than the run's;
        TypeError.
        """
        state = self._state(artifact, "log_artifact")
        version = state.member.version
        if (version.entity, version.project) != (self.entity, self.project):
            raise ConflictError(
                f"{state.member.qualified_name} was logged in {version.entity}/{version.project}; it cannot be the output "
                f"of a run of {self.entity}/{self.project}"
            )
        if aliases or tags:
            state.label(aliases, tags)
        self._session.catalog.record_log(self.id, version.id)
        return artifact

    def use_artifact(self, artifact: Artifact, use_as: str | None = None) -> Artifact:
        """Notes that this run used an artifact that is logged. `use_as` is without effect.

        Raises ArtifactNotLoggedError, NotFoundError when it was deleted, TypeError.
        """
        state = self._state(artifact, "use_artifact")
        self._session.catalog.record_use(self.id, state.member.version.id)
        return artifact

    def _state(self, artifact: object, asked: str) -> LoggedArtifact:
        if not isinstance(artifact, ArtifactFacts):
            raise TypeError(f"{asked} takes an Artifact, not {type(artifact).__name__}")
        state = logged_fact(artifact, asked)
        if state.session.settings.home != self._session.settings.home:
            raise ConflictError(f"{state.name} is in another state folder, {state.session.settings.home}")
        return state


_FIELDS: dict[str, Callable[[RunRecord], Any]] = {
    "id": lambda record: record.id,
    "name": lambda record: record.name,
    "display_name": lambda record: record.name,
    "state": lambda record: record.state,
    "job_type": lambda record: record.job_type,
    "jobType": lambda record: record.job_type,
    "group": lambda record: record.group,
    "tags": lambda record: list(record.tags),
    "notes": lambda record: record.notes,
    "created_at": lambda record: time_text(record.created_at),
    "createdAt": lambda record: time_text(record.created_at),
}


def _field(record: RunRecord, name: str) -> Any:
    if name in _FIELDS:
        return _FIELDS[name](record)
    first, dot, rest = name.partition(".")
    values = {"config": record.config, "summary": record.summary, "summary_metrics": record.summary}.get(first)
    if not dot or values is None:
        known = ", ".join([*_FIELDS, "config.NAME", "summary_metrics.NAME"])
        raise InvalidArgumentError(f"runs cannot be filtered or ordered by {name!r}; by {known}")
    return _at(values, rest)


def _at(values: Mapping[str, Any], name: str) -> Any:
    if name in values:
        return values[name]
    # Names may hold dots themselves, and "config.lr.value" is how the reference writes "config.lr".
    if name.endswith(".value") and name.removesuffix(".value") in values:
        return values[name.removesuffix(".value")]
    first, dot, rest = name.partition(".")
    below = values.get(first)
    return _at(below, rest) if dot and isinstance(below, Mapping) else None


def runs(
    session: Session,
    entity: str,
    project: str,
    wrap: Wrap,
    *,
    filters: Mapping[str, Any] | None,
    order: str,
    per_page: int,
    start: str | None,
) -> Paginator[RecordedRun]:
    """See Api.runs."""
    wanted = Filter(filters)
    name, descending = order.lstrip("+-"), order.startswith("-")
    if column := _COLUMNS.get(name):
        ask = _by_column(session, entity, project, f"-{column}" if descending else column)
    else:
        ask = _by_value(session, entity, project, name, descending=descending)

    def fetch(cursor: str | None, size: int) -> Page[RecordedRun]:
        items, after = wanted.page(ask, _field, cursor, size)
        return [RecordedRun(session, record, wrap) for record in items], after

    def count() -> int:
        return session.catalog.page_of_runs(entity, project, PageRequest("created_at", 1)).total or 0

    return Paginator(fetch, per_page=per_page, start=start, count=None if wanted else count)


_COLUMNS = {"created_at": "created_at", "createdAt": "created_at", "name": "name", "display_name": "name"}
_Ask: TypeAlias = Callable[[str | None, int], Page[RunRecord]]


def _by_column(session: Session, entity: str, project: str, order: str) -> _Ask:
    def ask(cursor: str | None, size: int) -> Page[RunRecord]:
        page = session.catalog.page_of_runs(entity, project, PageRequest(order, size, cursor))
        return page.items, page.cursor

    return ask


def _by_value(session: Session, entity: str, project: str, name: str, *, descending: bool) -> _Ask:
    """Pages by a value of config or summary, which no index knows: all runs are read for each. Runs without the value come
    last; the cursor is the id of the last run."""

    def rank(record: RunRecord) -> tuple[bool, Any]:
        value = _field(record, name)
        known = isinstance(value, int | float)
        return not known, (-value if descending else value) if known else 0

    def ask(cursor: str | None, size: int) -> Page[RunRecord]:
        found = sorted(session.catalog.runs(entity, project), key=rank)
        ids = [record.id for record in found]
        if cursor is not None and cursor not in ids:
            raise InvalidArgumentError(f"the cursor {cursor!r} is of another list")
        first = 0 if cursor is None else ids.index(cursor) + 1
        page = found[first : first + size]
        return page, page[-1].id if first + size < len(found) else None

    return ask
