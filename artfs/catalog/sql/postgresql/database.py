"""One database of a PostgreSQL server: connections, transactions, change token.

Why each setting:
- A writing transaction first takes one advisory lock, of the whole database. So writers are one after the other, as in SQLite,
  and whatever was read in it stays true until it commits; no statement of ours can deadlock or fail to serialise. READ
  COMMITTED, because it must see what was committed while it waited. Writers of one process queue on a lock of ours first, so
  that they hold no connections while they wait.
- A reading one is REPEATABLE READ READ ONLY: its queries see one state, and it never waits.
- Connections are in psycopg's autocommit mode, and BEGIN is ours: one message begins, locks and reads the clock. It is the
  database's, so that commits of several servers are stamped by one clock.
- No ping before use: when BEGIN finds its connection dead, nothing was done yet, and it is sent again on a new one. Only
  a single statement, which has no BEGIN, is preceded by one on a connection that nobody used for a second.
- A session that waits for its client in the middle of a transaction is ended by the database, because a machine that vanished
  must not hold the lock; statements have a limit, too. Set per session: SET LOCAL would cost each transaction 60 µs.
- Named prepared statements save planning (1 ms for the joins here). A pooler that gives each transaction another
  connection, and does not know them, is found out by its first error; then we do without.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, QueuePool, create_engine

from artfs.catalog.sql import changes
from artfs.catalog.sql.engine import Clock, Writing
from artfs.catalog.sql.postgresql.errors import busy, is_lost_statement, translate, translated
from artfs.errors import CatalogError, UnavailableError, UsageError

CONNECTIONS = 16
"""How many a process has open at most."""

LOCK_TIMEOUT_S = 25.0
STATEMENT_TIMEOUT_S = 30.0
_IDLE_TIMEOUT_S = 60.0
# To get a free connection of the pool.
POOL_TIMEOUT_S = 30.0

# "artfs", of the writers.
_WRITERS = 0x6172746673

_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE = f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({_WRITERS}); {_CLOCK}"
_PING = ""
_TOKEN = "SELECT coalesce(max(id), 0) FROM changes"  # noqa: S105

# A connection that was in use so many seconds ago, or fewer, is taken to be alive.
FRESH_S = 1.0
# When that was: in a connection's info.
_USED = "artfs_used"

# What a URL may say otherwise. A server that is gone is noticed within half a minute, in the middle of a query, too.
_DEFAULTS: dict[str, Any] = {
    "application_name": "artfs", "connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10,
    "keepalives_count": 3, "tcp_user_timeout": 30_000,
}


class PostgresqlDatabase:
    """See engine.Database. `url`: a connection URI as libpq has it (several hosts, sslmode, passfile …); what it leaves out
    comes from libpq's own environment and files. `clock`: instead of the database's. UsageError: it is no such URI."""

    def __init__(
        self, url: str, *, clock: Clock | None = None, connections: int = CONNECTIONS,
        lock_timeout_s: float = LOCK_TIMEOUT_S, statement_timeout_s: float = STATEMENT_TIMEOUT_S,
        pool_timeout_s: float = POOL_TIMEOUT_S, fresh_s: float = FRESH_S,
    ) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise UsageError(f"not the URL of a PostgreSQL database: {str(error).strip()}") from None
        self._place = _without_secrets(given)
        self._url = url
        self._options = {name: value for name, value in _DEFAULTS.items() if name not in given}
        self._session = (
            f"SET statement_timeout = {round(statement_timeout_s * 1000)}; SET lock_timeout = {round(lock_timeout_s * 1000)}; "
            f"SET idle_in_transaction_session_timeout = {round(_IDLE_TIMEOUT_S * 1000)}; "
            # No statement of ours takes as long as compiling it would (20 ms), whatever the planner guesses of new tables.
            "SET jit = off; "
            # A plan that was made while a table was new, and read whole for that, would be kept until the table is analysed.
            "SET enable_seqscan = off"
        )
        self._clock = clock
        self._lock_timeout_s = lock_timeout_s
        self._fresh_s = fresh_s
        self._prepares = True
        self._closed = False
        self._write_lock = threading.Lock()
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=pool_timeout_s,
            pool_use_lifo=True,
            use_native_hstore=False,
        )

    def _connect(self) -> psycopg.Connection[Any]:
        options = self._options if self._prepares else {**self._options, "prepare_threshold": None}
        connection = psycopg.connect(self._url, autocommit=True, **options)
        try:
            connection.execute(self._session, prepare=False)
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def place(self) -> str:
        return self._place

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._connected("reading the catalog") as conn:
            self._send(conn, _READ)
            with conn.begin():
                yield conn

    @contextmanager
    def ask(self) -> Iterator[Connection]:
        with self._connected("reading the catalog") as conn:
            if time.monotonic() - conn.info.get(_USED, -math.inf) > self._fresh_s:
                self._send(conn, _PING)
            yield conn

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """UnavailableError when the lock is not to be had in time. When the connection is lost at the commit itself, nobody
        knows whether it was made: UnavailableError says so."""
        doing = "changing the catalog"
        if not self._write_lock.acquire(timeout=self._lock_timeout_s):
            raise busy(self._place, doing)
        try:
            with self._connected(doing) as conn:
                now = self._send(conn, _WRITE)
                with conn.begin() as transaction:
                    tx = Writing(conn, self._clock() if self._clock else now)
                    yield tx
                    changes.record(tx)
                    try:
                        transaction.commit()
                    except Exception as error:
                        self._fail_at_commit(error, doing)
        finally:
            self._write_lock.release()

    def _fail_at_commit(self, error: Exception, doing: str) -> NoReturn:
        found = translate(error, self._place, doing)
        if isinstance(found, UnavailableError):
            lost = UnavailableError(f"{found}; it came up while committing, so the change may have been made or not")
            lost.may_be_done = True
            raise lost from error
        raise found from error

    def now(self, conn: Connection) -> int:
        return self._clock() if self._clock else int(conn.exec_driver_sql(_CLOCK).scalar_one())

    def change_token(self) -> int:
        """The newest number of `changes`."""
        with self._connected("watching the catalog") as conn:
            return self._send(conn, _TOKEN)

    def backup(self, target: Path) -> None:
        raise UsageError(
            f"{self._place} is backed up with PostgreSQL's own tools: pg_dump --format=custom --file={target} … "
            f"(and the bucket with its own)"
        )

    def close(self) -> None:
        self._closed = True
        self.engine.dispose()

    def _send(self, conn: Connection, statements: str) -> int:
        """What begins a transaction, or is all of it, in one message. Returns the number that the last statement gave (0: none).
        On a connection that proves dead it is sent again, on a new one: the others of the pool are hardly better."""
        try:
            return _execute(conn, statements)
        except psycopg.OperationalError as error:
            if not _driver(conn).closed:
                raise
            conn.invalidate(error)
            self.engine.dispose()
        return _execute(conn, statements)

    @contextmanager
    def _connected(self, doing: str) -> Iterator[Connection]:
        self._check_open(doing)
        try:
            with translated(self._place, doing), self.engine.connect() as conn:
                yield conn
                conn.info[_USED] = time.monotonic()
        except UnavailableError as error:
            if error.__cause__ is not None and is_lost_statement(error.__cause__):
                self._prepares = False
                self.engine.dispose()
            raise

    def _check_open(self, doing: str) -> None:
        if self._closed:
            raise CatalogError(f"{doing} failed: {self._place} was closed by this program")


def _driver(conn: Connection) -> psycopg.Connection[Any]:
    found: Any = conn.connection.driver_connection
    return found  # type: ignore[no-any-return]


def _execute(conn: Connection, statements: str) -> int:
    with _driver(conn).execute(statements, prepare=False) as cursor:
        while cursor.nextset():
            pass
        row = cursor.fetchone() if cursor.description else None
        return int(row[0]) if row else 0


def _without_secrets(given: dict[str, Any]) -> str:
    user = f"{given['user']}@" if given.get("user") else ""
    host = str(given.get("host") or given.get("hostaddr") or "")
    port = f":{given['port']}" if given.get("port") else ""
    name = given.get("dbname") or given.get("user") or ""
    if host.startswith("/"):
        return f"postgresql://{user}/{name}?host={host}"
    return f"postgresql://{user}{host}{port}/{name}"
