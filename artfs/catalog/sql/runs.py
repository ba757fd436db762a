"""Runs, and which versions they logged or used."""

from __future__ import annotations

import secrets
import string
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from artfs.catalog import schema
from artfs.catalog.sql import names, queries, rows
from artfs.catalog.sql.engine import Writing
from artfs.errors import UsageError
from artfs.model.records import Member, RunRecord

STATES = ("running", "finished", "failed", "crashed")
_LETTERS = string.ascii_lowercase + string.digits

_r, _rv = schema.runs, schema.run_versions


def create_run(
    tx: Writing, entity: str, project: str, name: str | None, job_type: str | None, config: dict[str, Any] | None
) -> RunRecord:
    """See Catalog.create_run. Without a name its id is its name."""
    place = names.create_project(tx, entity, project)
    run_id = _new_id(tx.conn)
    tx.conn.execute(
        insert(_r).values(
            id=run_id, project_id=place.id, name=name or run_id, job_type=job_type,
            config=queries.to_json(config or {}), state="running", history_steps=0, created_at=tx.now,
        )
    )
    return rows.need_run(tx.conn, run_id)


def _new_id(conn: Connection) -> str:
    while True:
        run_id = "".join(secrets.choice(_LETTERS) for _ in range(8))
        if conn.execute(select(_r.c.id).where(_r.c.id == run_id)).one_or_none() is None:
            return run_id


def runs(conn: Connection, entity: str, project: str) -> list[RunRecord]:
    """In the order in which they began."""
    place = rows.need_project(conn, entity, project)
    return queries.RUNS.all(conn, project_id=place.id)


def update_run(tx: Writing, run_id: str, state: str | None, history_steps: int | None) -> RunRecord:
    """See Catalog.update_run. A state other than "running" sets finished_at (the first time), "running" clears it."""
    run = rows.need_run(tx.conn, run_id)
    changes: dict[str, Any] = {}
    if state is not None and state != run.state:
        if state not in STATES:
            raise UsageError(f"a run cannot be {state!r}; its state is one of {', '.join(STATES)}")
        changes["state"] = state
        if state == "running":
            changes["finished_at"] = None
        elif run.finished_at is None:
            changes["finished_at"] = max(tx.now, queries.to_stamp(run.created_at))
    if history_steps is not None and history_steps != run.history_steps:
        if history_steps < 0:
            raise UsageError(f"a run cannot have logged {history_steps} steps")
        changes["history_steps"] = history_steps
    if changes:
        tx.conn.execute(update(_r).where(_r.c.id == run_id).values(changes))
    return rows.need_run(tx.conn, run_id)


def relate(tx: Writing, run_id: str, version_id: int, relation: Literal["logged", "used"]) -> None:
    """Idempotent."""
    there = select(_rv.c.at).where(
        _rv.c.run_id == run_id, _rv.c.version_id == version_id, _rv.c.relation == relation
    )
    if tx.conn.execute(there).one_or_none() is None:
        tx.conn.execute(insert(_rv).values(run_id=run_id, version_id=version_id, relation=relation, at=tx.now))


def record_use(tx: Writing, run_id: str, version_id: int) -> None:
    rows.need_run(tx.conn, run_id)
    rows.need_living_version(tx.conn, version_id)
    relate(tx, run_id, version_id, "used")


def used_by(conn: Connection, version_id: int) -> list[RunRecord]:
    """In the order of their first use."""
    rows.need_version(conn, version_id)
    return queries.USERS_OF.all(conn, version_id=version_id)


def versions_of_run(conn: Connection, run_id: str, used: bool) -> list[Member]:
    """Those that are not deleted, by version id (the order of their commits)."""
    rows.need_run(conn, run_id)
    return queries.SOURCES_OF_RUN.all(conn, run_id=run_id, relation="used" if used else "logged")
