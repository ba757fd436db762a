"""A run while it runs: who logs and uses versions. The user's side of it is `artfs.api.run`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from artfs.api.ingest import LogTarget
from artfs.api.session import Session
from artfs.errors import (
    ArtfsError,
    CatalogError,
    ConflictError,
    NotFoundError,
    StorageError,
    UnavailableError,
    WaitTimeoutError,
)
from artfs.model.names import check_project_name
from artfs.model.records import HistoryRow, RunRecord

log = logging.getLogger(__name__)

FLUSH_ROWS = 1000
FLUSH_S = 5.0

MOST_ROWS = 100_000
"""So many steps wait in memory while they cannot be sent; then `log` says why."""

_PASSING = (UnavailableError, WaitTimeoutError, CatalogError, StorageError)
"""What may be over soon: a server that is away, a full disk, a locked database."""


class Tracker:
    """One active run: its record, its count of history steps and what it logged in them. Thread-safe.

    They are in memory and go to the catalog when an artifact is logged, after FLUSH_ROWS steps or FLUSH_S seconds (seen
    at the next step), and at the end: `log` must cost next to nothing, as training loops call it thousands of times a
    second, and a durable transaction costs milliseconds. A process that is killed loses what was in memory.
    """

    def __init__(self, session: Session, record: RunRecord) -> None:
        self.session = session
        self.record = record
        self.face: object = None  # the user's side of it, which `run_of` sets
        self._steps = record.history_steps
        self._rows: dict[int, HistoryRow] = {}
        # Values for the next step, which is not made yet (`commit=False`).
        self._uncommitted: dict[str, Any] = {}
        self._summary: dict[str, Any] = {}
        self._flushed = time.monotonic()
        self._failed = 0.0  # when it could not be flushed; 0: it could, the last time
        # Reentrant: a signal handler (an interrupt that ends the run) may come while this thread logs.
        self._lock = threading.RLock()

    @property
    def ended(self) -> bool:
        return self.record.state != "running"

    @property
    def steps(self) -> int:
        """How many history steps were made; the next one has this number."""
        return self._steps

    def check_running(self) -> None:
        """Raises ConflictError when the run has ended."""
        if self.ended:
            raise ConflictError(
                f"the run {self.record.id} is {self.record.state}; begin another with artfs.init()"
            )

    def log(self, values: dict[str, Any], number: int | None = None, *, commit: bool = True) -> None:
        """Values (JSON) of one history step.

        `number`: it is this one (a smaller one than the last counts as the last); None: a new one. Without `commit` and
        `number` they belong to the next step, which is made by the call after.
        """
        with self._lock:
            self.check_running()
            self._summary.update(values)
            if number is None and not commit:
                self._uncommitted.update(values)
                return
            step = self._steps if number is None else max(self._steps - 1, number, 0)
            self._put(step, {**self._uncommitted, **values})
            if self._is_due(time.monotonic()):
                self._flush_if_it_can_be()

    def _put(self, step: int, values: dict[str, Any]) -> None:
        self._uncommitted = {}
        self._steps = max(self._steps, step + 1)
        row = self._rows.get(step)
        if row is None:
            self._rows[step] = HistoryRow(step, datetime.now(UTC), values)
        else:
            row.values.update(values)

    @property
    def summary(self) -> dict[str, Any]:
        """The last value of each name that was logged, and what was put there. A copy."""
        with self._lock:
            return {**self.record.summary, **self._summary}

    def add_summary(self, values: dict[str, Any]) -> None:
        """Adds values to the summary, or replaces them; kept as what is logged is."""
        with self._lock:
            self.check_running()
            self._summary.update(values)

    def target(self) -> LogTarget:
        """Where and as whose output this run logs now."""
        with self._lock:
            self.check_running()
            self._flush()
            step = self._steps - 1 if self._steps else None
            return LogTarget(self.session, self.record.entity, self.record.project, self.record.id, step)

    def add_config(self, values: dict[str, Any]) -> None:
        """Adds values to the config, or replaces them, durably."""
        with self._lock:
            self.check_running()
            self.record = self.session.catalog.update_run(self.record.id, config=values)

    def describe(
        self, *, name: str | None = None, tags: Iterable[str] | None = None, notes: str | None = None
    ) -> None:
        """Replaces what is not None, durably; also of a run that has ended."""
        with self._lock:
            self.record = self.session.catalog.update_run(self.record.id, name=name, tags=tags, notes=notes)

    def finish(self, state: str) -> None:
        """Ends the run as "finished", "failed" or "crashed"; a run that has ended stays as it is."""
        with self._lock:
            if not self.ended:
                if self._uncommitted:
                    self._put(self._steps, self._uncommitted)
                self._flush()
                self.record = self.session.catalog.update_run(
                    self.record.id, state=state, history_steps=self._steps
                )

    def try_finish(self, state: str) -> bool:
        """`finish`; an error is a warning in the log."""
        try:
            self.finish(state)
        except ArtfsError as error:
            log.warning("the run %s cannot be marked as %s: %s", self.record.id, state, error)
            return False
        return True

    def _is_due(self, now: float) -> bool:
        if self._failed and now - self._failed < FLUSH_S:
            return len(self._rows) >= MOST_ROWS
        return len(self._rows) >= FLUSH_ROWS or now - self._flushed >= FLUSH_S

    def _flush_if_it_can_be(self) -> None:
        # A training run must not end because the server is away for a while.
        try:
            self._flush()
        except _PASSING as error:
            if len(self._rows) >= MOST_ROWS:
                raise
            if not self._failed:
                log.warning("what the run %s logs cannot be sent now, and waits: %s", self.record.id, error)
            self._failed = time.monotonic()

    def _flush(self) -> None:
        """What is in memory goes to the catalog; it stays there when that raises."""
        catalog = self.session.catalog
        if self._rows:
            self.record = catalog.add_history(self.record.id, self._rows.values())
            self._rows = {}
        if self._summary or self._steps != self.record.history_steps:
            self.record = catalog.update_run(
                self.record.id, history_steps=self._steps, summary=self._summary
            )
            self._summary = {}
        self._flushed = time.monotonic()
        self._failed = 0.0


def begin_run(
    session: Session,
    *,
    entity: str,
    project: str,
    run_id: str | None = None,
    name: str | None = None,
    job_type: str | None = None,
    config: dict[str, Any] | None = None,
    group: str | None = None,
    tags: Iterable[str] = (),
    notes: str | None = None,
) -> Tracker:
    """Makes a run (and its project when missing) in the catalog. Raises ConflictError when there is one of that id."""
    record = session.catalog.create_run(
        entity, project, run_id=run_id, name=name, job_type=job_type, config=config, group=group, tags=tags, notes=notes
    )
    return Tracker(session, record)


def try_resume(session: Session, run_id: str, entity: str, project: str) -> Tracker | None:
    """The run of that id, running again; None when there is none. Raises ConflictError when it is of another project."""
    try:
        there = session.catalog.run(run_id)
    except NotFoundError:
        return None
    if (there.entity, there.project) != (entity, project):
        raise ConflictError(f"the run {run_id!r} is of {there.entity}/{there.project}, not of {entity}/{project}")
    return Tracker(session, session.catalog.update_run(run_id, state="running"))


@contextmanager
def auto_run(session: Session, project: str, entity: str | None = None) -> Iterator[Tracker]:
    """A run of type "auto" around one act of logging. `entity` None: the settings'. That its end cannot be noted is a warning
    in the log: what was logged is logged."""
    tracker = begin_run(
        session,
        entity=entity or session.settings.entity,
        project=check_project_name(project),
        job_type="auto",
    )
    try:
        yield tracker
    except BaseException:
        tracker.try_finish("failed")
        raise
    tracker.try_finish("finished")
