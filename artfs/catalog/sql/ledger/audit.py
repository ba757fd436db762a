"""The audit log: who changed what, when."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, insert, select

from artfs.catalog.sql import queries
from artfs.catalog.sql.engine import Writing
from artfs.catalog.sql.ledger.schema import audit as _audit
from artfs.model.access import Actor, AuditFilter, AuditRow


def add(
    tx: Writing, actor: Actor, action: str, *, entity: str | None = None, project: str | None = None, target: str = "",
    detail: dict[str, Any] | None = None,
) -> None:
    tx.conn.execute(insert(_audit), [_row(tx, actor, action, entity, project, target, detail or {})])


def add_subjects(tx: Writing, actor: Actor) -> None:
    """What a transaction did."""
    if tx.subjects:
        tx.conn.execute(
            insert(_audit),
            [_row(tx, actor, did.action, did.entity, did.project, did.target, did.detail) for did in tx.subjects],
        )


def _row(
    tx: Writing, actor: Actor, action: str, entity: str | None, project: str | None, target: str, detail: dict[str, Any]
) -> dict[str, Any]:
    return {
        "at": tx.now, "actor": actor.name, "token_id": actor.token_id, "action": action, "entity": entity,
        "project": project, "target": target, "detail": queries.to_json(detail),
    }


def read(conn: Connection, which: AuditFilter, before: int | None, limit: int) -> list[AuditRow]:
    """See Ledger.audit."""
    query = select(_audit).order_by(_audit.c.id.desc()).limit(limit)
    for column, wanted in (
        (_audit.c.actor, which.actor), (_audit.c.action, which.action), (_audit.c.entity, which.entity),
        (_audit.c.project, which.project),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if which.since is not None:
        query = query.where(_audit.c.at >= queries.to_stamp(which.since))
    if which.until is not None:
        query = query.where(_audit.c.at < queries.to_stamp(which.until))
    if before is not None:
        query = query.where(_audit.c.id < before)
    return [
        AuditRow(
            id=row.id, at=queries.to_time(row.at), actor=Actor(row.actor, row.token_id), action=row.action, entity=row.entity,
            project=row.project, target=row.target, detail=json.loads(row.detail),
        )
        for row in conn.execute(query)
    ]
