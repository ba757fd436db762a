"""Runs, and which versions they logged or used."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, text, update

from artfs.catalog import schema
from artfs.catalog.sql import names, queries, rows
from artfs.catalog.sql.engine import Writing
from artfs.errors import ConflictError, UsageError
from artfs.model.metadata import same_json
from artfs.model.names import check_label, check_run_id
from artfs.model.records import HistoryRow, Member, RunRecord

STATES = ("running", "finished", "failed", "crashed")
_LETTERS = string.ascii_lowercase + string.digits

_r, _rv, _h = schema.runs, schema.run_versions, schema.run_history


def create_run(
    tx: Writing, entity: str, project: str, run_id: str | None, name: str | None, job_type: str | None,
    config: dict[str, Any] | None, group: str | None, tags: Iterable[str], notes: str | None,
) -> RunRecord:
    """See Catalog.create_run. Without a name its id is its name."""
    place = names.create_project(tx, entity, project)
    if run_id is None:
        run_id = _new_id(tx.conn)
    elif _is_taken(tx.conn, check_run_id(run_id)):
        raise ConflictError(f"there is a run {run_id!r} already")
    tx.conn.execute(
        insert(_r).values(
            id=run_id, project_id=place.id, name=name or run_id, job_type=job_type,
            config=queries.to_json(config or {}), state="running", history_steps=0, created_at=tx.now,
            group_name=None if group is None else check_label("group", group), tags=_tags(tags), notes=notes or None,
        )
    )
    tx.note(entity, project)
    tx.did("create_run", entity, project, run_id, name=name, job_type=job_type)
    return rows.need_run(tx.conn, run_id)


def _tags(tags: Iterable[str]) -> str | None:
    checked = [check_label("tag", tag) for tag in dict.fromkeys(tags)]
    return json.dumps(checked) if checked else None


def _is_taken(conn: Connection, run_id: str) -> bool:
    return conn.execute(select(_r.c.id).where(_r.c.id == run_id)).one_or_none() is not None


def _new_id(conn: Connection) -> str:
    while True:
        run_id = "".join(secrets.choice(_LETTERS) for _ in range(8))
        if not _is_taken(conn, run_id):
            return run_id


def runs(conn: Connection, entity: str, project: str) -> list[RunRecord]:
    """In the order in which they began."""
    place = rows.need_project(conn, entity, project)
    return queries.RUNS.all(conn, project_id=place.id)


def update_run(
    tx: Writing, run_id: str, state: str | None, history_steps: int | None, summary: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None, name: str | None = None, tags: Iterable[str] | None = None,
    notes: str | None = None,
) -> RunRecord:
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
    for column, values, now in (("summary", summary, run.summary), ("config", config, run.config)):
        if values and not same_json(merged := {**now, **values}, now):
            changes[column] = queries.to_json(merged)
    if name is not None and (name or run_id) != run.name:
        changes["name"] = name or run_id
    if tags is not None and (wanted := tuple(dict.fromkeys(tags))) != run.tags:
        changes["tags"] = _tags(wanted)
    if notes is not None and (notes or None) != run.notes:
        changes["notes"] = notes or None
    if changes:
        tx.conn.execute(update(_r).where(_r.c.id == run_id).values(changes))
    # What a run logs of itself is told to nobody: it may do so many times a second.
    if told := sorted(changes.keys() & {"state", "name", "tags", "notes"}):
        tx.note(run.entity, run.project)
        tx.did("update_run", run.entity, run.project, run_id, changed=told, state=changes.get("state", run.state))
    return rows.need_run(tx.conn, run_id)


def relate(tx: Writing, run_id: str, version_id: int, relation: Literal["logged", "used"]) -> bool:
    """Idempotent. Returns whether it is new."""
    there = select(_rv.c.at).where(
        _rv.c.run_id == run_id, _rv.c.version_id == version_id, _rv.c.relation == relation
    )
    if tx.conn.execute(there).one_or_none() is not None:
        return False
    tx.conn.execute(insert(_rv).values(run_id=run_id, version_id=version_id, relation=relation, at=tx.now))
    return True


def record(tx: Writing, run_id: str, version_id: int, relation: Literal["logged", "used"]) -> None:
    run = rows.need_run(tx.conn, run_id)
    member = rows.need_living_version(tx.conn, version_id)
    if relate(tx, run_id, version_id, relation):
        tx.note(run.entity, run.project)
        action = "record_use" if relation == "used" else "record_log"
        tx.did(action, run.entity, run.project, run_id, version=member.qualified_name)


def used_by(conn: Connection, version_id: int) -> list[RunRecord]:
    """In the order of their first use."""
    rows.need_version(conn, version_id)
    return queries.USERS_OF.all(conn, version_id=version_id)


def logged_by(conn: Connection, version_id: int) -> list[RunRecord]:
    """In the order of their first time."""
    rows.need_version(conn, version_id)
    return queries.LOGGERS_OF.all(conn, version_id=version_id)


# Both databases know it in these words; SQLAlchemy has a construct for each.
_ADD = text(
    "INSERT INTO run_history (run_id, step, at, data) VALUES (:run_id, :step, :at, :data) "
    "ON CONFLICT (run_id, step) DO UPDATE SET data = excluded.data"
)
# Steps in one question: parameters of a statement are limited (SQLite: 32,766).
_STEPS = 10_000


def add_history(tx: Writing, run_id: str, history: Iterable[HistoryRow]) -> RunRecord:
    """See Catalog.add_history. A few statements, however many rows: others wait for the lock."""
    run = rows.need_run(tx.conn, run_id)
    summary: dict[str, Any] = {}
    added: dict[int, tuple[datetime, dict[str, Any]]] = {}
    for row in history:
        if row.step < 0:
            raise UsageError(f"a run has no step {row.step}; the first is 0")
        at, values = added.get(row.step, (row.at, {}))
        added[row.step] = at, {**values, **row.values}
        summary.update(row.values)
    if not added:
        return run
    there: dict[int, dict[str, Any]] = {}
    steps = sorted(added)
    for start in range(0, len(steps), _STEPS):
        query = select(_h.c.step, _h.c.data).where(_h.c.run_id == run_id, _h.c.step.in_(steps[start : start + _STEPS]))
        there.update((step, json.loads(data)) for step, data in tx.conn.execute(query))
    tx.conn.execute(
        _ADD,
        [
            {
                "run_id": run_id, "step": step, "at": queries.to_stamp(at),
                "data": queries.to_json({**there.get(step, {}), **values}),
            }
            for step, (at, values) in added.items()
        ],
    )
    return update_run(tx, run_id, None, max(steps[-1] + 1, run.history_steps), summary)


def history(conn: Connection, run_id: str, after: int, limit: int) -> list[HistoryRow]:
    rows.need_run(conn, run_id)
    query = select(_h).where(_h.c.run_id == run_id, _h.c.step > after).order_by(_h.c.step).limit(limit)
    return [
        HistoryRow(step=row.step, at=queries.to_time(row.at), values=json.loads(row.data)) for row in conn.execute(query)
    ]


def versions_of_run(conn: Connection, run_id: str, used: bool) -> list[Member]:
    """Those that are not deleted, by version id (the order of their commits)."""
    rows.need_run(conn, run_id)
    return queries.SOURCES_OF_RUN.all(conn, run_id=run_id, relation="used" if used else "logged")
