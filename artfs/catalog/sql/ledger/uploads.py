"""Large blobs on their way: rows of `uploads` and `upload_parts`."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

from artfs.catalog import schema
from artfs.catalog.blobledger import DONE_PREFIX, Upload
from artfs.catalog.sql import queries
from artfs.catalog.sql.engine import Writing
from artfs.catalog.sql.ledger.schema import upload_parts as _parts
from artfs.catalog.sql.ledger.schema import uploads as _uploads
from artfs.errors import NotFoundError
from artfs.model.digests import to_raw
from artfs.model.records import Project

_p, _u = schema.projects, _uploads.c
_WITH_PROJECT = select(
    _u.id, _u.digest, _u.size, _u.key, _u.part_size, _p.c.id.label("project_id"), _p.c.entity, _p.c.name, _p.c.created_at
).join(_p, _p.c.id == _u.project_id)


def _read(conn: Connection, query: Select[Any]) -> list[Upload]:
    found = conn.execute(query).all()
    if not found:
        return []
    parts: dict[str, dict[int, str]] = {row.id: {} for row in found}
    promised: dict[str, dict[int, str]] = {row.id: {} for row in found}
    for part in conn.execute(select(_parts).where(_parts.c.upload_id.in_(parts)).order_by(_parts.c.number)):
        sha256 = "" if part.sha256 is None else bytes(part.sha256).hex()
        (parts if part.done else promised)[part.upload_id][part.number] = sha256
    return [
        Upload(
            row.id, Project(row.project_id, row.entity, row.name, queries.to_time(row.created_at)), bytes(row.digest).hex(),
            row.size, row.key, row.part_size, parts[row.id], promised[row.id],
        )
        for row in found
    ]


def find(conn: Connection, upload_id: str) -> Upload | None:
    found = _read(conn, _WITH_PROJECT.where(_u.id == upload_id))
    return found[0] if found else None


def begin(tx: Writing, project_id: int, digest: str, size: int, part_size: int, key: str) -> Upload:
    same = (
        _u.project_id == project_id, _u.digest == to_raw(digest), _u.size == size, ~_u.key.startswith(DONE_PREFIX)
    )
    upload_id = tx.conn.execute(select(_u.id).where(*same).order_by(_u.created_at.desc())).scalar()
    if upload_id is None:
        upload_id = secrets.token_hex(16)
        tx.conn.execute(
            insert(_uploads).values(
                id=upload_id, project_id=project_id, digest=to_raw(digest), size=size, key=key, part_size=part_size,
                created_at=tx.now, touched_at=tx.now,
            )
        )
    else:
        _touch(tx, upload_id)
    found = find(tx.conn, upload_id)
    assert found is not None
    return found


def promise_part(tx: Writing, upload_id: str, number: int, sha256: str) -> bool:
    query = select(_parts.c.sha256).where(_parts.c.upload_id == upload_id, _parts.c.number == number)
    row = tx.conn.execute(query).first()
    if row is None:
        tx.conn.execute(insert(_parts).values(upload_id=upload_id, number=number, sha256=to_raw(sha256), done=0))
        return True
    return row.sha256 is not None and bytes(row.sha256).hex() == sha256


def add_parts(tx: Writing, upload_id: str, parts: Mapping[int, str]) -> None:
    if not _touch(tx, upload_id):
        return
    for number, sha256 in parts.items():
        row = {"sha256": to_raw(sha256) if sha256 else None, "done": 1}
        here = (_parts.c.upload_id == upload_id, _parts.c.number == number)
        # What was promised stays as it was: the URL that was signed for it is still good.
        promised = tx.conn.execute(update(_parts).where(*here, _parts.c.sha256.is_not(None)).values(done=1)).rowcount
        if not promised and not tx.conn.execute(update(_parts).where(*here).values(**row)).rowcount:
            tx.conn.execute(insert(_parts).values(upload_id=upload_id, number=number, **row))


def drop_parts(tx: Writing, upload_id: str, numbers: Collection[int]) -> None:
    here = (_parts.c.upload_id == upload_id, _parts.c.number.in_(numbers))
    tx.conn.execute(update(_parts).where(*here).values(done=0))
    tx.conn.execute(delete(_parts).where(*here, _parts.c.sha256.is_(None)))


def drop(tx: Writing, upload_id: str) -> Upload | None:
    found = find(tx.conn, upload_id)
    delete_upload(tx, upload_id)
    return found


def restart(tx: Writing, upload_id: str, key: str, was: Collection[str]) -> bool:
    """False, and nothing was changed: its key is none of `was`, or it has gone."""
    here = update(_uploads).where(_u.id == upload_id, _u.key.in_(was))
    if not tx.conn.execute(here.values(key=key, touched_at=tx.now)).rowcount:
        return False
    tx.conn.execute(delete(_parts).where(_parts.c.upload_id == upload_id))
    return True


def end(tx: Writing, upload: Upload) -> None:
    """The project has the blob; its objects are no business of the upload any more. NotFoundError: they are already nobody's."""
    done = f"{DONE_PREFIX}{upload.id}"
    if not restart(tx, upload.id, done, [upload.key, done]):
        raise NotFoundError("this upload was given up, as nobody went on with it for too long, or begun anew: begin it again")


def delete_upload(tx: Writing, upload_id: str) -> None:
    tx.conn.execute(delete(_parts).where(_parts.c.upload_id == upload_id))
    tx.conn.execute(delete(_uploads).where(_u.id == upload_id))


def stale(tx: Writing, before: int, limit: int) -> list[Upload]:
    found = _read(tx.conn, _WITH_PROJECT.where(_u.touched_at < before).order_by(_u.touched_at).limit(limit))
    for upload in found:
        delete_upload(tx, upload.id)
    return found


def _touch(tx: Writing, upload_id: str) -> bool:
    return bool(tx.conn.execute(update(_uploads).where(_u.id == upload_id).values(touched_at=tx.now)).rowcount)
