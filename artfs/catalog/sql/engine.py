"""What the queries need of a database: transactions, a clock, a token. `sqlite` and `postgresql` are the two there are.

Both keep the same order: writing transactions come one after the other, each sees what all before it did, and a reading one sees
one state. So the code beside this file need not know which of them it talks to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection

Clock = Callable[[], int]


def system_clock() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that a transaction did, for the audit log (ledger.schema says what the parts mean)."""

    action: str
    entity: str
    project: str | None
    target: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Writing:
    """A writing transaction, and what it changed so far. `now`: microseconds since 1970 UTC, read after the write lock was got.

    What is noted here becomes rows of `changes` when the transaction ends (sql.changes), so whoever changes what others see
    must note it: by `labels.touch` (which fills `stamps`: the stamps that it gave to collections, by their ids), or below.
    """

    conn: Connection
    now: int
    stamps: dict[int, int] = field(default_factory=dict)
    places: dict[tuple[str, str | None, str | None], None] = field(default_factory=dict)
    versions: set[int] = field(default_factory=set)
    subjects: list[Subject] = field(default_factory=list)

    def note(self, entity: str, project: str | None = None, collection: str | None = None) -> None:
        """That a place changed: what None means stands at schema.changes."""
        self.places[entity, project, collection] = None

    def note_version(self, version_id: int) -> None:
        """That the version changed, so every collection that it is in."""
        self.versions.add(version_id)

    def did(self, action: str, entity: str, project: str | None, target: str, **detail: Any) -> None:
        """Something for the audit log, if this transaction writes one. `detail`: JSON values, never a secret."""
        self.subjects.append(Subject(action, entity, project, target, detail))

    @property
    def is_noted(self) -> bool:
        """Whether it changed anything that others see."""
        return bool(self.stamps or self.places or self.versions)


class Database(Protocol):
    """Thread-safe. Whatever the library below raises comes out as an ArtfsError of one line."""

    @property
    def place(self) -> str:
        """Where it is, for messages: a path, or a URL without secrets."""
        ...

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database. UnavailableError: it is away (a server), CatalogError: it is
        closed or unreadable."""
        ...

    def ask(self) -> AbstractContextManager[Connection]:
        """A connection for one statement that reads: that sees one state by itself, and a transaction around it would double the
        messages to a server. Others may follow it where it does not matter that they see a later state."""
        ...

    def write(self) -> AbstractContextManager[Writing]:
        """A transaction that has the write lock from its start. At the end of the body what it changed is noted in `changes`,
        and all is committed, durably; when the body raises, all is rolled back. The lock is waited for, but not for ever
        (CatalogError for a file, UnavailableError for a server)."""
        ...

    def now(self, conn: Connection) -> int:
        """Microseconds since 1970 UTC, by the clock that stamps commits. `conn`: of a transaction of this database."""
        ...

    def change_token(self) -> int:
        """See Catalog.change_token."""
        ...

    def backup(self, target: Path) -> None:
        """See Catalog.backup."""
        ...

    def close(self) -> None:
        """Idempotent. What other threads are doing ends normally."""
        ...
