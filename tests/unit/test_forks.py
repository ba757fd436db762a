"""A connection of SQLite in a process that forks."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from artfs import forks
from artfs.forks import Kept


def opener(path: Path) -> Callable[[], sqlite3.Connection]:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS told (what TEXT)")
        return connection

    return connect


def tell(kept: Kept, what: str) -> None:
    with kept as connection:
        connection.execute("INSERT INTO told VALUES (?)", (what,))


def told(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [what for (what,) in connection.execute("SELECT what FROM told ORDER BY what")]


def in_child(do: Callable[[], object]) -> None:
    """Raises AssertionError when it raises."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            do()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_what_a_child_writes_outlives_the_connection_of_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "db"
    kept = Kept(opener(path))
    tell(kept, "before")
    begun, ended = os.pipe(), os.pipe()

    def child() -> None:
        tell(kept, "child, first")
        os.write(begun[1], b"x")
        os.read(ended[0], 1)
        tell(kept, "child, last")

    pid = os.fork()
    if not pid:
        code = 1
        try:
            child()
            code = 0
        finally:
            os._exit(code)
    os.read(begun[0], 1)
    tell(kept, "parent")
    kept.close()  # nobody else is there, as far as this process knows: the log would go
    os.write(ended[1], b"x")
    assert os.waitpid(pid, 0)[1] == 0
    assert told(path) == ["before", "child, first", "child, last", "parent"]
    for pipe in (*begun, *ended):
        os.close(pipe)


def test_a_connection_that_is_in_use_for_long_is_left_to_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "LIMIT_S", 0.05)
    path = tmp_path / "db"
    kept = Kept(opener(path))
    inside, go = threading.Event(), threading.Event()

    def use() -> None:
        with kept as connection:
            inside.set()
            go.wait(30)
            connection.execute("INSERT INTO told VALUES ('thread')")

    thread = threading.Thread(target=use)
    thread.start()
    inside.wait(30)
    in_child(lambda: tell(kept, "child"))
    go.set()
    thread.join()
    tell(kept, "parent")
    kept.close()
    assert told(path) == ["child", "parent", "thread"]


def test_what_is_closed_stays_closed(tmp_path: Path) -> None:
    kept = Kept(opener(tmp_path / "db"))
    kept.close()
    kept.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        tell(kept, "late")

    def child() -> None:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            tell(kept, "late")

    in_child(child)
