"""A run while it runs: who logs and uses versions. The user's side of it is `artfs.api.run`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from artfs.api.ingest import LogTarget
from artfs.api.session import Session
from artfs.errors import ConflictError
from artfs.model.names import check_project_name
from artfs.model.records import RunRecord


class Tracker:
    """One active run: its record and its count of history steps. Thread-safe.

    The count is in memory and goes to the catalog when something is logged and at the end: `step` must cost
    nothing, as training loops call it thousands of times a second, and a durable transaction costs
    milliseconds.
    """

    def __init__(self, session: Session, record: RunRecord) -> None:
        self.session = session
        self.record = record
        self.face: object = None  # the user's side of it, which `run_of` sets
        self._steps = record.history_steps
        self._lock = threading.Lock()

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

    def step(self, number: int | None = None) -> None:
        """One history step was made; `number`: it is this one (a smaller one than the last counts as the
        same)."""
        with self._lock:
            self.check_running()
            self._steps = self._steps + 1 if number is None else max(self._steps, number + 1)

    def target(self) -> LogTarget:
        """Where and as whose output this run logs now."""
        with self._lock:
            self.check_running()
            self._save_steps()
            step = self._steps - 1 if self._steps else None
            return LogTarget(self.session, self.record.entity, self.record.project, self.record.id, step)

    def add_config(self, values: dict[str, Any]) -> None:
        """Adds values to the config, or replaces them, durably."""
        with self._lock:
            self.check_running()
            self.record = self.session.catalog.update_run(self.record.id, config=values)

    def finish(self, state: str) -> None:
        """Ends the run as "finished", "failed" or "crashed"; a run that has ended stays as it is."""
        with self._lock:
            if not self.ended:
                self.record = self.session.catalog.update_run(
                    self.record.id, state=state, history_steps=self._steps
                )

    def _save_steps(self) -> None:
        if self._steps != self.record.history_steps:
            self.record = self.session.catalog.update_run(self.record.id, history_steps=self._steps)


def begin_run(
    session: Session,
    *,
    entity: str,
    project: str,
    name: str | None = None,
    job_type: str | None = None,
    config: dict[str, Any] | None = None,
) -> Tracker:
    """Makes a run (and its project when missing) in the catalog."""
    record = session.catalog.create_run(entity, project, name=name, job_type=job_type, config=config)
    return Tracker(session, record)


@contextmanager
def auto_run(session: Session, project: str, entity: str | None = None) -> Iterator[Tracker]:
    """A run of type "auto" around one act of logging. `entity` None: the settings'."""
    tracker = begin_run(
        session,
        entity=entity or session.settings.entity,
        project=check_project_name(project),
        job_type="auto",
    )
    try:
        yield tracker
    except BaseException:
        tracker.finish("failed")
        raise
    tracker.finish("finished")
