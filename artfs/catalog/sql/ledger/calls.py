"""Changes that are made once, however often they are asked for: their answers are kept, by the same transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import msgspec
from sqlalchemy import delete, insert, select

from artfs.catalog.sql.engine import Writing
from artfs.catalog.sql.ledger.schema import calls as _calls
from artfs.errors import UsageError
from artfs.model.access import Actor, CallId
from artfs.typed import json_decoder

KEPT_US = 24 * 3600 * 1_000_000
"""How long, in microseconds. A client tries again for some minutes, but a laptop may sleep meanwhile."""

T = TypeVar("T")


def once(tx: Writing, actor: Actor, call: CallId, make: Callable[[], T]) -> T:
    """What `make` returns, or returned when the call came first. UsageError: the id is another call's."""
    found = tx.conn.execute(
        select(_calls.c.request, _calls.c.answer).where(_calls.c.actor == actor.name, _calls.c.call_id == call.text)
    ).first()
    if found is not None:
        if found.request != call.request:
            raise UsageError("something else was asked for under this call id already; each call takes a new one")
        return cast(T, json_decoder(call.result)(found.answer))
    made = make()
    answer = msgspec.json.encode(made)
    row = {"actor": actor.name, "call_id": call.text, "at": tx.now, "request": call.request, "answer": answer}
    tx.conn.execute(insert(_calls), [row])
    return made


def forget_old(tx: Writing) -> int:
    """See Ledger.forget_calls."""
    return tx.conn.execute(delete(_calls).where(_calls.c.at < tx.now - KEPT_US)).rowcount
