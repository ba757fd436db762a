"""What SQLite needs of a process that forks: no connection, and nobody inside of it, while it does.

SQLite notes per process which files it has locked, and a child takes over the notes but not the locks. It then believes
that it holds the database, while the parent's close, which finds nobody else there, removes the write-ahead log under its
hands: what the child commits from then on is lost (https://www.sqlite.org/howtocorrupt.html, 2.6). And a mutex of SQLite's
that another thread of the parent had is never given back in the child.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from functools import cache
from typing import Protocol

LIMIT_S = 2.0
"""So long a fork waits for other threads' transactions."""


class Forking(Protocol):
    def before_fork(self) -> None: ...

    def after_fork(self, *, in_child: bool) -> None: ...


class Gate:
    """Open, but while the process forks. A context manager for whoever goes in; a thread may do so again inside."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._own = threading.local()
        self._inside = 0
        self._shut = False

    def __enter__(self) -> None:
        depth: int = getattr(self._own, "depth", 0)
        with self._changed:
            while self._shut and not depth:
                self._changed.wait()
            self._inside += 1
        self._own.depth = depth + 1

    def __exit__(self, *error: object) -> None:
        self._own.depth -= 1
        with self._changed:
            self._inside -= 1
            if self._shut:
                self._changed.notify_all()

    def shut(self) -> None:
        """Returns when nobody else is inside, or LIMIT_S are over."""
        depth = getattr(self._own, "depth", 0)
        with self._changed:
            self._shut = True
            self._changed.wait_for(lambda: self._inside <= depth, LIMIT_S)

    def open(self) -> None:
        with self._changed:
            self._shut = False
            self._changed.notify_all()


class Kept:
    """A connection that one thread has at a time (as a context manager). It is closed while the process forks, and opened again
    when somebody wants it next, by either process. One that is in use for longer than LIMIT_S is left to the parent.

    `open`: makes it when it is first wanted, and whenever it is needed again; what it raises comes out then."""

    def __init__(self, open: Callable[[], sqlite3.Connection]) -> None:
        self._open = open
        self._gate = Gate()
        self._lock = threading.Lock()
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._left: list[sqlite3.Connection] = []  # to the parent: never closed here
        tell_of_forks(self)

    def __enter__(self) -> sqlite3.Connection:
        self._gate.__enter__()
        self._lock.acquire()
        try:
            if self._connection is None:
                if self._closed:
                    raise sqlite3.ProgrammingError("it was closed by this program")
                self._connection = self._open()
            return self._connection
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        self._gate.__exit__()

    def connect(self) -> None:
        """Now, and not when it is first wanted."""
        with self:
            pass

    def close(self) -> None:
        """Again is fine."""
        with self._gate, self._lock:
            self._closed = True
            self._end()

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def before_fork(self) -> None:
        self._gate.shut()
        if self._lock.acquire(blocking=False):
            self._end()
            self._lock.release()

    def after_fork(self, *, in_child: bool) -> None:
        if not in_child:
            self._gate.open()
            return
        self._gate = Gate()
        self._lock = threading.Lock()
        if self._connection is not None:
            self._left.append(self._connection)
            self._connection = None


_databases: weakref.WeakSet[Forking] = weakref.WeakSet()


def tell_of_forks(database: Forking) -> None:
    """It is told of each fork of this process, for as long as it lives."""
    _watch()
    _databases.add(database)


@cache
def _watch() -> None:
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def _before() -> None:
    for each in list(_databases):
        each.before_fork()


def _after_in_parent() -> None:
    for each in list(_databases):
        each.after_fork(in_child=False)


def _after_in_child() -> None:
    for each in list(_databases):
        each.after_fork(in_child=True)
