"""Thousands of digests in one statement, whichever database it is.

A statement with a parameter for each would be compiled anew for every number of them, and both databases have a limit; so they
come as one parameter, which the database takes apart: `rows` gives the SQL for a table `given` with a column `digest` and
columns of whole numbers, `among` that for "is one of them".

A server's statements are planned once, by what PostgreSQL guesses of tables that are new, and the plan is kept while they grow to
millions of rows. So a statement about digests must leave it no choice but to look each of them up in the index of digests. As a
join with `given` it is free to read all rows of a project instead, and does: a version of a million files took 200 s to send
instead of 47. What else a statement asks of such a row is written so that no index fits it (`project_id + 0 = …`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection

from artfs.model.digests import RAW_LENGTH, check_digest


def is_postgresql(conn: Connection) -> bool:
    return conn.dialect.name == "postgresql"


def among(conn: Connection, digests: Collection[str]) -> tuple[str, dict[str, Any]]:
    """(what to write behind the name of a column that is one of the digests, its parameters)."""
    source, parameters = rows(conn, digests)
    picked = f"SELECT digest FROM {source}"
    return (f"= ANY(ARRAY({picked}))" if is_postgresql(conn) else f"IN ({picked})"), parameters


def rows(
    conn: Connection, digests: Collection[str], **columns: Sequence[int | None]
) -> tuple[str, dict[str, Any]]:
    """(`(SELECT …) AS given`, its parameters). Digests must differ from each other where the statement needs that; the columns
    are as long as they are."""
    joined = _joined(digests)
    if is_postgresql(conn):
        numbered = "generate_series(1, CAST(:given_count AS integer)) AS numbered(n)"
        more: dict[str, Any] = {"given_count": len(digests)}
        if columns:
            arrays = ", ".join(f"CAST(:given_{name} AS bigint[])" for name in columns)
            numbered = f"unnest({arrays}) WITH ORDINALITY AS numbered({', '.join(columns)}, n)"
            more = {f"given_{name}": list(values) for name, values in columns.items()}
        # An array of 200 digests takes psycopg half a millisecond to write.
        picked = "".join(f", {name}" for name in columns)
        digest = "substr(CAST(:given_digests AS bytea), 32 * CAST(n AS integer) - 31, 32) AS digest"
        return f"(SELECT {digest}{picked} FROM {numbered}) AS given", {"given_digests": joined, **more}
    # SQLite has no arrays, and its JSON no bytes: the digests are one blob, and JSON numbers the pieces of it.
    picked = "".join(f", json_extract(value, '$[{at}]') AS {name}" for at, name in enumerate(columns))
    numbers = list(zip(*columns.values(), strict=True)) if columns else [0] * len(digests)
    sql = f"(SELECT substr(:given_digests, 32 * key + 1, 32) AS digest{picked} FROM json_each(:given_numbers)) AS given"
    return sql, {"given_digests": joined, "given_numbers": json.dumps(numbers, separators=(",", ":"))}


def _joined(digests: Collection[str]) -> bytes:
    """All of them, raw, one behind the other. Raises InvalidNameError."""
    text = "".join(digests)
    # All at once, as there are thousands.
    if not set(map(len, digests)) <= {2 * RAW_LENGTH} or _HEX.fullmatch(text) is None:
        for digest in digests:
            check_digest(digest)
    return bytes.fromhex(text)


_HEX = re.compile("[0-9a-f]*")
