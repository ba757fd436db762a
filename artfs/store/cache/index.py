"""What the cache knows of its files: sizes, last uses, pins. An SQLite database that all processes share.

It may be behind the files (a process was killed between the two) and it may be lost; `Cache.rescan` makes it anew. So it decides
what is evicted and what is told, never what is read. Errors of SQLite are StorageErrors: whoever only notes something
passes over them.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from artfs.errors import StateVersionError, StorageError
from artfs.forks import Kept

BUSY_TIMEOUT_S = 10.0
_AT_ONCE = 500
_VERSION = 2

_FIRST = """
CREATE TABLE blobs (
    digest BLOB PRIMARY KEY,       -- raw SHA-256
    nbytes INTEGER NOT NULL,       -- that it takes on the disk, as far as is known
    used_at INTEGER NOT NULL,      -- seconds since 1970; of a use, at most TOUCH_S old
    complete INTEGER NOT NULL      -- 0: a partial one
) WITHOUT ROWID;
CREATE INDEX by_use ON blobs (used_at);
CREATE TABLE total (nbytes INTEGER NOT NULL, count INTEGER NOT NULL);
INSERT INTO total VALUES (0, 0);
CREATE TRIGGER added AFTER INSERT ON blobs BEGIN
    UPDATE total SET nbytes = nbytes + new.nbytes, count = count + 1; END;
CREATE TRIGGER removed AFTER DELETE ON blobs BEGIN
    UPDATE total SET nbytes = nbytes - old.nbytes, count = count - 1; END;
CREATE TRIGGER resized AFTER UPDATE OF nbytes ON blobs BEGIN
    UPDATE total SET nbytes = nbytes + new.nbytes - old.nbytes; END;
CREATE TABLE pins (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    server TEXT NOT NULL,          -- its URL
    name TEXT NOT NULL,            -- entity/project/collection:alias
    root BLOB NOT NULL,            -- the tree that was pinned last
    pinned_at INTEGER NOT NULL,
    UNIQUE (server, name)
);
CREATE TABLE pinned (
    digest BLOB NOT NULL,
    pin INTEGER NOT NULL REFERENCES pins (id) ON DELETE CASCADE,
    PRIMARY KEY (digest, pin)
) WITHOUT ROWID;
CREATE INDEX by_pin ON pinned (pin);
"""
_PACKS = """
CREATE TABLE packs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,     -- of its file
    nbytes INTEGER NOT NULL,       -- its length, as far as its blobs are in `packed`
    used_at INTEGER NOT NULL,
    sealed INTEGER NOT NULL        -- 1: nobody appends to it any more
);
CREATE INDEX packs_by_use ON packs (used_at);
CREATE TRIGGER pack_added AFTER INSERT ON packs BEGIN
    UPDATE total SET nbytes = nbytes + new.nbytes; END;
CREATE TRIGGER pack_removed AFTER DELETE ON packs BEGIN
    UPDATE total SET nbytes = nbytes - old.nbytes; END;
CREATE TRIGGER pack_resized AFTER UPDATE OF nbytes ON packs BEGIN
    UPDATE total SET nbytes = nbytes + new.nbytes - old.nbytes; END;
CREATE TABLE packed (
    digest BLOB PRIMARY KEY,
    pack INTEGER NOT NULL REFERENCES packs (id),
    offset INTEGER NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_pack ON packed (pack);
CREATE TRIGGER packed_added AFTER INSERT ON packed BEGIN
    UPDATE total SET count = count + 1; END;
CREATE TRIGGER packed_removed AFTER DELETE ON packed BEGIN
    UPDATE total SET count = count - 1; END;
"""
_UPGRADES = {1: _PACKS}
"""What makes version n + 1 of version n."""


@dataclass(frozen=True, slots=True)
class Row:
    """One blob. `nbytes` on the disk; `used_at` in seconds since 1970."""

    digest: str
    nbytes: int
    used_at: int
    complete: bool


@dataclass(frozen=True, slots=True)
class PackRow:
    """One pack (see packs.py). `nbytes` long as far as the index knows; `used_at` in seconds since 1970."""

    number: int
    name: str
    nbytes: int
    used_at: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class Packed:
    """Where a small blob is: in the pack `name`, `size` bytes from `offset` on."""

    pack: int
    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Pin:
    """`name` is what was asked for ("entity/project/collection:alias"), `root` the tree that it meant last."""

    id: int
    server: str
    name: str
    root: str
    pinned_at: int


class CacheIndex:
    """Thread-safe. A damaged database is put aside and an empty one made; `is_new` says so. One of an older artfs is brought up
    to date, after a copy was made of it; raises StateVersionError for one of a newer."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.is_new = False
        self._connection = Kept(self._open)
        # Of its own, so that looking something up waits for nobody who writes.
        self._lookups = Kept(self._open)
        try:
            self._connection.connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise self._refused("opening", error) from error
            for end in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.replace(f"{path}{end}", f"{path}.damaged{end}")
            self._connection.connect()

    def _open(self) -> sqlite3.Connection:
        # SQLite does not wait for whoever else makes the same file a WAL database just now.
        until = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                return self._open_once()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(0.005)

    def _open_once(self) -> sqlite3.Connection:
        made = not os.path.exists(self._path)
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            os.chmod(self._path, 0o600)
            connection.execute("PRAGMA journal_mode=WAL")
            # It may be lost, so nothing waits for the disk.
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA foreign_keys=ON")
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found > _VERSION:
                raise StateVersionError(
                    f"{self._path} was made by a newer artfs (its version is {found}, this program knows {_VERSION}): get the "
                    "newer one, or set ARTFS_CACHE_PATH to another folder"
                )
            if found < _VERSION:
                if found:
                    self._back_up(connection, f"{self._path}.before-{_VERSION}-from-{found}")
                connection.execute("BEGIN IMMEDIATE")
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    for statement in _statements(_FIRST):
                        connection.execute(statement)
                    self.is_new = True
                for step in range(max(version, 1), _VERSION):
                    for statement in _statements(_UPGRADES[step]):
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version={_VERSION}")
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        self.is_new = self.is_new or made
        return connection

    @staticmethod
    def _back_up(connection: sqlite3.Connection, target: str) -> None:
        """Pins are in it, which nothing else knows."""
        part = f"{target}.{os.getpid()}"
        with closing(sqlite3.connect(part)) as copy:
            os.chmod(part, 0o600)
            connection.backup(copy)
        os.replace(part, target)

    def _refused(self, doing: str, error: sqlite3.Error) -> StorageError:
        return StorageError(f"{doing} the cache's index {self._path} failed: {error}")

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[sqlite3.Connection]:
        try:
            with self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._refused(doing, error) from error

    def _query(self, sql: str, given: Sequence[object] = ()) -> list[tuple[object, ...]]:
        try:
            with self._connection as connection:
                return connection.execute(sql, given).fetchall()
        except sqlite3.Error as error:
            raise self._refused("reading", error) from error

    def add(self, blobs: Iterable[tuple[str, int, bool]]) -> None:
        """(digest, bytes on the disk, complete) of files that are there now; what was said of them before is replaced."""
        now = _now()
        rows = [(bytes.fromhex(digest), nbytes, now, int(complete)) for digest, nbytes, complete in blobs]
        with self._transaction("writing to") as connection:
            connection.executemany(
                "INSERT INTO blobs VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET "
                "nbytes = excluded.nbytes, used_at = excluded.used_at, complete = excluded.complete",
                rows,
            )

    def touch(self, digests: Iterable[str]) -> None:
        now = _now()
        with self._transaction("writing to") as connection:
            connection.executemany(
                "UPDATE blobs SET used_at = ? WHERE digest = ?", [(now, bytes.fromhex(digest)) for digest in digests]
            )

    def remove(self, digests: Iterable[str]) -> None:
        with self._transaction("writing to") as connection:
            connection.executemany(
                "DELETE FROM blobs WHERE digest = ?", [(bytes.fromhex(digest),) for digest in digests]
            )

    # packs ------------------------------------------------------------------------------------------------------
    def _look_up(self, sql: str, given: Sequence[object] = ()) -> list[tuple[object, ...]]:
        try:
            with self._lookups as connection:
                return connection.execute(sql, given).fetchall()
        except sqlite3.Error as error:
            raise self._refused("reading", error) from error

    def find_packed(self, digest: bytes) -> Packed | None:
        for pack, name, offset, size in self._look_up(
            "SELECT pack, name, offset, size FROM packed JOIN packs ON packs.id = pack WHERE digest = ?", (digest,)
        ):
            assert isinstance(pack, int) and isinstance(offset, int) and isinstance(size, int)
            return Packed(pack, str(name), offset, size)
        return None

    def which_packed(self, digests: Sequence[bytes]) -> list[bytes]:
        found: list[bytes] = []
        for start in range(0, len(digests), _AT_ONCE):
            part = digests[start : start + _AT_ONCE]
            marks = ",".join("?" * len(part))
            for (digest,) in self._look_up(f"SELECT digest FROM packed WHERE digest IN ({marks})", part):  # noqa: S608
                assert isinstance(digest, bytes)
                found.append(digest)
        return found

    def add_pack(self, name: str) -> int:
        """A new, empty one. Returns its number."""
        with self._transaction("writing to") as connection:
            number = connection.execute("INSERT INTO packs (name, nbytes, used_at, sealed) VALUES (?, 0, ?, 0)", (name, _now()))
            assert number.lastrowid is not None
            return number.lastrowid

    def add_packed(
        self, pack: int, rows: Iterable[tuple[bytes, int, int]], nbytes: int, *, sealed: bool = False
    ) -> None:
        """(raw digest, offset, size) of blobs that are in a pack, which is `nbytes` long now. Nothing when the pack is gone."""
        with self._transaction("writing to") as connection:
            changed = connection.execute(
                "UPDATE packs SET nbytes = ?, used_at = ?, sealed = ? WHERE id = ?", (nbytes, _now(), int(sealed), pack)
            )
            if changed.rowcount:
                connection.executemany(
                    "INSERT INTO packed VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET "
                    "pack = excluded.pack, offset = excluded.offset, size = excluded.size",
                    [(digest, pack, offset, size) for digest, offset, size in rows],
                )

    def remove_packed(self, digest: bytes) -> bool:
        """Whether it was there."""
        with self._transaction("writing to") as connection:
            return bool(connection.execute("DELETE FROM packed WHERE digest = ?", (digest,)).rowcount)

    def remove_pack(self, pack: int) -> None:
        """With all that is in it."""
        with self._transaction("writing to") as connection:
            connection.execute("DELETE FROM packed WHERE pack = ?", (pack,))
            connection.execute("DELETE FROM packs WHERE id = ?", (pack,))

    def touch_packs(self, packs: Iterable[int]) -> None:
        now = _now()
        with self._transaction("writing to") as connection:
            connection.executemany("UPDATE packs SET used_at = ? WHERE id = ?", [(now, pack) for pack in packs])

    def pack(self, number: int) -> PackRow | None:
        found = self._query("SELECT id, name, nbytes, used_at, sealed FROM packs WHERE id = ?", (number,))
        return _pack_row(found[0]) if found else None

    def unsealed_packs(self) -> list[PackRow]:
        found = self._query("SELECT id, name, nbytes, used_at, sealed FROM packs WHERE NOT sealed ORDER BY id")
        return [_pack_row(row) for row in found]

    def oldest_packs(self, limit: int, skip: int = 0) -> list[PackRow]:
        """The packs that were not used for longest, without the first `skip`."""
        found = self._query(
            "SELECT id, name, nbytes, used_at, sealed FROM packs ORDER BY used_at, id LIMIT ? OFFSET ?", (limit, skip)
        )
        return [_pack_row(row) for row in found]

    def in_pack(self, number: int) -> list[tuple[bytes, int, int]]:
        """(raw digest, offset, size) of what is in it."""
        return self._spots("SELECT digest, offset, size FROM packed WHERE pack = ? ORDER BY offset", number)

    def pinned_in_pack(self, number: int) -> list[tuple[bytes, int, int]]:
        return self._spots(
            "SELECT digest, offset, size FROM packed WHERE pack = ? AND digest IN (SELECT digest FROM pinned)", number
        )

    def _spots(self, sql: str, number: int) -> list[tuple[bytes, int, int]]:
        found: list[tuple[bytes, int, int]] = []
        for digest, offset, size in self._query(sql, (number,)):
            assert isinstance(digest, bytes) and isinstance(offset, int) and isinstance(size, int)
            found.append((digest, offset, size))
        return found

    # the whole --------------------------------------------------------------------------------------------------
    def totals(self) -> tuple[int, int]:
        """(bytes, blobs) of all."""
        ((nbytes, count),) = self._query("SELECT nbytes, count FROM total")
        assert isinstance(nbytes, int) and isinstance(count, int)
        return nbytes, count

    def pinned_totals(self) -> tuple[int, int]:
        """(bytes, blobs) of those that are pinned and here."""
        ((nbytes, count),) = self._query(
            "SELECT coalesce(sum(nbytes), 0), count(*) FROM ("
            "SELECT nbytes FROM blobs WHERE digest IN (SELECT digest FROM pinned) UNION ALL "
            "SELECT size FROM packed WHERE digest IN (SELECT digest FROM pinned))"
        )
        assert isinstance(nbytes, int) and isinstance(count, int)
        return nbytes, count

    def oldest(self, limit: int, skip: int = 0) -> list[Row]:
        """The blobs that were not used for longest, without pinned ones and without the first `skip`."""
        found = self._query(
            "SELECT digest, nbytes, used_at, complete FROM blobs "
            "WHERE NOT EXISTS (SELECT 1 FROM pinned WHERE pinned.digest = blobs.digest) "
            "ORDER BY used_at, digest LIMIT ? OFFSET ?",
            (limit, skip),
        )
        return [_row(row) for row in found]

    def blobs(self) -> list[Row]:
        return [_row(row) for row in self._query("SELECT digest, nbytes, used_at, complete FROM blobs")]

    def replace_all(
        self, blobs: Iterable[tuple[str, int, int, bool]],
        packs: Iterable[tuple[str, int, int, Iterable[tuple[bytes, int, int]]]] = (),
    ) -> None:
        """(digest, bytes, used at, complete) of all files there are, and (name, bytes, used at, (raw digest, offset, size) of
        each blob) of all packs; last uses that are known stay."""
        with self._transaction("writing to") as connection:
            known = dict(connection.execute("SELECT digest, used_at FROM blobs").fetchall())
            connection.execute("DELETE FROM blobs")
            connection.execute("UPDATE total SET nbytes = 0, count = 0")
            rows = []
            for digest, nbytes, used_at, complete in blobs:
                raw = bytes.fromhex(digest)
                rows.append((raw, nbytes, known.get(raw, used_at), int(complete)))
            connection.executemany("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?, ?)", rows)
            numbers = dict(connection.execute("SELECT name, id FROM packs").fetchall())
            connection.execute("DELETE FROM packed")
            connection.execute("DELETE FROM packs")
            connection.execute("UPDATE total SET nbytes = (SELECT coalesce(sum(nbytes), 0) FROM blobs)")
            for name, nbytes, used_at, spots in packs:
                made = connection.execute(
                    "INSERT INTO packs (id, name, nbytes, used_at, sealed) VALUES (?, ?, ?, ?, 1)",
                    (numbers.get(name), name, nbytes, used_at),
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO packed VALUES (?, ?, ?, ?)",
                    ((digest, made.lastrowid, offset, size) for digest, offset, size in spots),
                )

    # pins -------------------------------------------------------------------------------------------------------
    def pin(self, server: str, name: str, root: str, digests: Iterable[str]) -> Pin:
        """Keeps `digests` for as long as the pin is there. A pin of that name gives up what it kept before."""
        now = _now()
        with self._transaction("writing to") as connection:
            connection.execute(
                "INSERT INTO pins (server, name, root, pinned_at) VALUES (?, ?, ?, ?) ON CONFLICT (server, name) "
                "DO UPDATE SET root = excluded.root, pinned_at = excluded.pinned_at",
                (server, name, bytes.fromhex(root), now),
            )
            number = connection.execute(
                "SELECT id FROM pins WHERE server = ? AND name = ?", (server, name)
            ).fetchone()[0]
            connection.execute("DELETE FROM pinned WHERE pin = ?", (number,))
            connection.executemany(
                "INSERT OR IGNORE INTO pinned VALUES (?, ?)", ((bytes.fromhex(digest), number) for digest in digests)
            )
        return Pin(number, server, name, root, now)

    def unpin(self, server: str, name: str) -> bool:
        """Whether there was such a pin."""
        with self._transaction("writing to") as connection:
            return bool(
                connection.execute("DELETE FROM pins WHERE server = ? AND name = ?", (server, name)).rowcount
            )

    def pins(self) -> list[Pin]:
        return [
            Pin(int(str(number)), str(server), str(name), _hex(root), int(str(when)))
            for number, server, name, root, when in self._query(
                "SELECT id, server, name, root, pinned_at FROM pins ORDER BY server, name"
            )
        ]

    def is_pinned(self, digest: str) -> bool:
        return bool(self._query("SELECT 1 FROM pinned WHERE digest = ? LIMIT 1", (bytes.fromhex(digest),)))

    def close(self) -> None:
        self._connection.close()
        self._lookups.close()


def _row(row: tuple[object, ...]) -> Row:
    digest, nbytes, used_at, complete = row
    return Row(_hex(digest), int(str(nbytes)), int(str(used_at)), bool(complete))


def _pack_row(row: tuple[object, ...]) -> PackRow:
    number, name, nbytes, used_at, sealed = row
    return PackRow(int(str(number)), str(name), int(str(nbytes)), int(str(used_at)), bool(sealed))


def _now() -> int:
    return int(time.time())


def _hex(raw: object) -> str:
    assert isinstance(raw, bytes)
    return raw.hex()


def _statements(script: str) -> Iterator[str]:
    """The statements of a script (executescript would commit the transaction)."""
    part = ""
    for line in script.strip().splitlines():
        part += line + "\n"
        if sqlite3.complete_statement(part):
            yield part
            part = ""
