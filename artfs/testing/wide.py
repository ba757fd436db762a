"""Versions of very many files, made in seconds: only their trees are written, over one blob that all files have."""

from __future__ import annotations

from collections.abc import Iterator

from artfs.model.entry import Entry, FileEntry
from artfs.model.records import Member, NewVersion
from artfs.testing.corner import Corner
from artfs.transfer.treewriter import TreeWriter


def log_wide(corner: Corner, collection: str, *, files: int, folders: int) -> Member:
    """Logs `files` files (of the bytes "x") in `folders` folders (0: all at the root), and waits until the mount shows them."""
    with corner.session() as session, session.store.begin((session.settings.entity, corner.name)) as batch:
        digest = bytes.fromhex(batch.put_bytes(b"x"))

        def entries(first: int, stop: int) -> Iterator[Entry]:
            for number in range(first, stop):
                yield FileEntry(f"file-{number:07}.bin".encode(), 1, digest, b"", False)

        writer = TreeWriter(batch.put_page)
        if folders:
            each = files // folders
            for folder in range(folders):
                below = TreeWriter(batch.put_page)
                _add(below, entries(folder * each, files if folder == folders - 1 else (folder + 1) * each))
                writer.add([below.finish().as_entry(f"folder-{folder:04}".encode())])
        else:
            _add(writer, entries(0, files))
        tree = writer.finish()
        batch.sync()
        member = session.catalog.commit(
            NewVersion(
                entity=session.settings.entity, project=corner.name, collection=collection, type="dataset",
                digest=tree.digest, size=tree.totals.size, file_count=tree.totals.file_count,
            )
        ).member  # fmt: skip
    corner.refresh()
    return member


def _add(writer: TreeWriter, entries: Iterator[Entry]) -> None:
    some: list[Entry] = []
    for entry in entries:
        some.append(entry)
        if len(some) == 4096:
            writer.add(some)
            some = []
    writer.add(some)


