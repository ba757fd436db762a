"""One SQLite catalog file: its connections, transactions, change token and backup.

Why each setting:
- WAL: readers (a mount) never wait for a writer, nor a writer for them. synchronous=FULL: a commit that was reported
  survives a power cut; in WAL mode that is one fsync a commit.
- Python's own transaction handling is off (isolation_level None). A reading transaction is BEGIN: its queries see
  one state. A writing one is BEGIN IMMEDIATE: it has the write lock before it reads, so what it read cannot have
  changed when it writes; a transaction that begins by reading and then writes would fail with SQLITE_BUSY_SNAPSHOT at
  once, whatever the timeout.
- Writers in one process queue on a lock of ours, because SQLite's waiting is polling and not fair.
- Nothing here ever opens the file by other means than SQLite: closing such a descriptor would drop the POSIX locks
  of every connection in this process (https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL, Connection, QueuePool, create_engine, event

from artfs.catalog.sql import changes
from artfs.catalog.sql.engine import Clock, Writing, system_clock
from artfs.catalog.sql.sqlite.errors import locked, translated
from artfs.errors import CatalogError, ConflictError, StorageError, UsageError
from artfs.forks import Gate, Kept, tell_of_forks

BUSY_TIMEOUT_S = 30.0


def connect(path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """A connection to the existing file `path`, in autocommit mode. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


class SqliteDatabase:
    """See engine.Database. `path` is absolute and exists. `clock` returns microseconds since 1970 UTC."""

    def __init__(self, path: Path, *, clock: Clock = system_clock, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = path
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._closed = False
        self._write_lock = threading.Lock()
        self._watch = Kept(self._open_watch)
        self._watches = 0  # how many there were: the numbers of one say nothing of another's
        self._gate = Gate()
        # No limit on the overflow: threads are limited elsewhere, and one that reads must not wait for one that writes.
        self.engine = create_engine(
            URL.create("sqlite", database=str(path)),
            creator=lambda: connect(path, busy_timeout_s),
            poolclass=QueuePool,
            pool_size=4,
            max_overflow=-1,
        )
        self._writing_engine = self.engine.execution_options(artfs_begin="BEGIN IMMEDIATE")
        self._asking_engine = self.engine.execution_options(artfs_begin="")
        event.listen(self.engine, "begin", _begin)
        tell_of_forks(self)

    def before_fork(self) -> None:
        """Closes all connections but that of the watch, which knows by itself (see forks)."""
        self._gate.shut()
        self.engine.dispose()

    def after_fork(self, *, in_child: bool) -> None:
        if in_child:
            # Other threads may have had these.
            self._write_lock = threading.Lock()
            self._gate = Gate()
        else:
            self._gate.open()

    def _open_watch(self) -> sqlite3.Connection:
        self._watches += 1
        return connect(self.path, self._busy_timeout_s)

    @property
    def place(self) -> str:
        return str(self.path)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the catalog."""
        doing = "reading the catalog"
        self._check_open(doing)
        with self._gate, translated(self.path, doing), self.engine.begin() as conn:
            yield conn

    @contextmanager
    def ask(self) -> Iterator[Connection]:
        doing = "reading the catalog"
        self._check_open(doing)
        with self._gate, translated(self.path, doing), self._asking_engine.connect() as conn:
            yield conn

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """A transaction that has the write lock from its start; committed (durably) at the end of the body, rolled back
        when the body raises. Raises CatalogError when the lock is not to be had within the busy timeout."""
        doing = "changing the catalog"
        self._check_open(doing)
        if not self._write_lock.acquire(timeout=self._busy_timeout_s):
            raise locked(self.path, doing)
        try:
            with self._gate, translated(self.path, doing), self._writing_engine.begin() as conn:
                tx = Writing(conn, self._clock())
                yield tx
                changes.record(tx)
        finally:
            self._write_lock.release()

    def now(self, conn: Connection) -> int:
        return self._clock()

    def change_token(self) -> int:
        """`PRAGMA data_version` of a connection that does nothing else: it counts the commits of all other connections,
        those of this process included, and reads no page but the first."""
        doing = "watching the catalog"
        self._check_open(doing)
        with translated(self.path, doing), self._watch as connection:
            return int(connection.execute("PRAGMA data_version").fetchone()[0]) + (self._watches - 1 << 32)

    def backup(self, target: Path) -> None:
        """See Catalog.backup. `target` is replaced in one step, mode 0600, when the copy is whole and on the disk; an
        error leaves what was there before, and no temporary file."""
        target = target.absolute()
        if target.resolve() == self.path.resolve():
            raise UsageError(f"a catalog cannot be backed up onto itself: {target}")
        if Path(f"{target}-wal").exists():
            raise ConflictError(
                f"{target} is a database in use (there is a {target.name}-wal); back up to another name"
            )
        doing = f"writing the backup {target}"
        part = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.part")
        self._check_open(doing)
        try:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            try:
                self._copy_to(part, doing)
                _sync(part)
                part.replace(target)
                _sync(target.parent)
            except BaseException:
                with suppress(FileNotFoundError):
                    part.unlink()
                raise
        except OSError as error:
            raise StorageError.wrap(error, doing) from error

    def _copy_to(self, part: Path, doing: str) -> None:
        with self._gate, translated(self.path, doing), closing(connect(self.path, self._busy_timeout_s)) as source:
            with translated(part, doing), closing(connect(part)) as copy:
                # All pages in one step: one reading transaction, so a busy writer cannot make it start again and again.
                source.backup(copy, pages=-1)
                # The copy is one file, with no -wal beside it that somebody would forget to move along.
                copy.execute("PRAGMA journal_mode=DELETE")

    def close(self) -> None:
        """Idempotent. What other threads are doing with the catalog ends normally."""
        self._closed = True
        self._watch.close()
        self.engine.dispose()

    def _check_open(self, doing: str) -> None:
        if self._closed:
            raise CatalogError(f"{doing} failed: {self.path} was closed by this program")


def _begin(conn: Connection) -> None:
    if statement := conn.get_execution_options().get("artfs_begin", "BEGIN"):
        conn.exec_driver_sql(statement)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
