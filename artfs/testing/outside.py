"""Looks at a state folder from outside of artfs: SQLite for the catalog, plain files for the store, `sha256sum` for
their bytes. Only the format of trees is artfs's own (artfs.model, which does no I/O).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from artfs.model.entry import FileEntry
from artfs.model.manifest import Manifest
from artfs.model.tree import PageCache

_VERSIONS = """
    SELECT p.name || '/' || c.name || ':v' || v.source_index, v.digest, v.size, v.file_count
    FROM versions v JOIN collections c ON c.id = v.collection_id JOIN projects p ON p.id = c.project_id
    WHERE v.state = 'COMMITTED' ORDER BY v.id"""


def sha256sum(expected: Mapping[Path, str]) -> None:
    """Has `sha256sum --check` read files and compare them with these digests (hex). Raises AssertionError with what it
    said. It runs as a process of its own, so it may also read a mount."""
    if not expected:
        return
    lines = "".join(f"{digest}  {path}\n" for path, digest in expected.items())
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "--strict"],
        input=os.fsencode(lines),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"sha256sum exited {done.returncode}:\n{os.fsdecode(done.stdout[-4000:])}")


class StateFolder:
    """One state folder, as whoever has lost artfs could read it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.blobs = home / "store" / "blobs"
        self._known: dict[str, dict[str, FileEntry]] = {}

    def blob(self, digest: str) -> Path:
        return self.blobs / digest[:2] / digest

    def versions(self) -> dict[str, str]:
        """`project/collection:vN` -> digest of the root tree, of every committed version."""
        return {name: digest for name, digest, _, _ in self._rows()}

    def _rows(self) -> list[tuple[str, str, int, int]]:
        path = self.home / "catalog.db"
        if not path.exists():
            return []
        with tempfile.TemporaryDirectory() as aside:
            # A copy: SQLite cannot even read a database on a full disk.
            for part in (path, path.with_name("catalog.db-wal")):
                if part.exists():
                    shutil.copy(part, aside)
            return self._read_rows(Path(aside) / path.name)

    @staticmethod
    def _read_rows(path: Path) -> list[tuple[str, str, int, int]]:
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA quick_check").fetchall() == [("ok",)]
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'versions'").fetchall():
                return []  # it is being made
            return database.execute(_VERSIONS).fetchall()

    def files(self, root: str) -> dict[str, FileEntry]:
        """Path -> entry of every file of the version with this root tree. Read once: `verify` reads the bytes of the
        trees, which are blobs, again."""
        if root not in self._known:
            manifest = Manifest(PageCache(lambda digest: self.blob(digest).read_bytes()), root)
            self._known[root] = dict(manifest.files())
        return self._known[root]

    def content(self, name: str) -> dict[str, str]:
        """Path -> digest of every file of the version `project/collection:vN`."""
        return self.content_of(self.versions()[name])

    def content_of(self, root: str) -> dict[str, str]:
        """The same of the version with this root tree."""
        return {path: entry.digest for path, entry in self.files(root).items()}

    def verify(self, *, alone: bool = True) -> int:
        """Checks every committed version, and every blob against its name. Returns the number of versions.

        Raises AssertionError for a version whose trees cannot be read, whose totals are wrong or whose blobs are
        missing, and for a blob that is damaged, writable, or (`alone`) has a second name.
        """
        rows = self._rows()
        wanted: set[str] = set()
        for name, root, size, file_count in rows:
            entries = self.files(root)
            assert len(entries) == file_count, f"{name} has {len(entries)} files, its row says {file_count}"
            assert sum(entry.size for entry in entries.values()) == size, f"{name} has another size than its row"
            for path, entry in entries.items():
                assert self.blob(entry.digest).stat().st_size == entry.size, f"{name}/{path}: its blob has another size"
                if entry.blocks:
                    wanted.add(entry.blocks.hex())
            wanted.add(root)
            wanted.update(entry.digest for entry in entries.values())
        missing = [digest for digest in wanted if not self.blob(digest).exists()]
        assert not missing, f"blobs are missing: {missing}"
        found = self._blob_paths()
        for file in found:
            assert file.stat().st_mode & 0o777 == 0o444, f"{file} has mode {file.stat().st_mode & 0o777:o}"
        sha256sum({file: file.name for file in found})
        if alone:
            self.verify_alone()
        return len(rows)

    def verify_alone(self) -> None:
        """No file of the store has another name, through which it could be changed."""
        for path in self._blob_paths():
            assert path.stat().st_nlink == 1, f"{path} has {path.stat().st_nlink} names"

    def _blob_paths(self) -> list[Path]:
        return [path for path in self.blobs.rglob("*") if path.is_file()]

    def leftovers(self) -> list[str]:
        """What only work in progress may have: temporary files, journals of commits, the trash of drafts. An empty folder
        below store/tmp is none: it reminds the next writer to sync (artfs.store.recovery)."""
        drafts = self.home / "drafts"
        found = [path for path in (self.home / "store" / "tmp").rglob("*") if not path.is_dir()]
        found += drafts.rglob("sealing")
        found += [*(drafts / ".trash").glob("*"), *drafts.glob("*/*/*/tmp/*")]
        return sorted(str(path.relative_to(self.home)) for path in found)


def check_tree(root: Path, expected: Mapping[str, str], *, extra: Iterable[str] = ()) -> None:
    """That `root` (of a mount, mostly) holds exactly these files (path -> digest), with these bytes; `extra` may be
    there besides. Raises AssertionError."""
    listed = subprocess.run(
        ["find", ".", "-type", "f", "-printf", "%P\\0"], cwd=root, capture_output=True, timeout=120, check=False
    )
    assert listed.returncode == 0, os.fsdecode(listed.stderr)
    found = {os.fsdecode(name) for name in listed.stdout.split(b"\0") if name}
    missing, surplus = set(expected) - found, found - set(expected) - set(extra)
    assert not missing, f"missing in {root}: {sorted(missing)[:10]}"
    assert not surplus, f"nobody made these in {root}: {sorted(surplus)[:10]}"
    sha256sum({root / path: digest for path, digest in expected.items()})
