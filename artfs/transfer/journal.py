"""The journal of a commit, and what is done after one that did not end.

`sealing`, in the draft's folder, lists the files that a commit takes over. It is durable before the first of them gets its
second name (in the store), so whoever finds it knows which files may share an inode with a blob.

`asked`, beside it, has the digest of the tree whose commit was asked for last and taken back: the catalog may have made the
version all the same, when its answer got lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from artfs.catalog.base import Catalog
from artfs.errors import BlobMissingError, CorruptError, NotFoundError, StorageError
from artfs.model.blocklist import decode_block_list
from artfs.model.digests import to_raw
from artfs.model.entry import FileEntry
from artfs.model.names import parse_time
from artfs.model.paging import PageRequest
from artfs.model.records import Content, Member
from artfs.model.unreadable import UNREADABLE
from artfs.store.base import LocalStore
from artfs.store.linux import sync_path, syncfs
from artfs.store.staging import StagedDraft
from artfs.store.standins import entry_target, keeping_times

JOURNAL = "sealing"
_ASKED = "asked"

_SPARE = 64 * 1024
"""What taking a commit back leaves free, in bytes: others need a little, too."""


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One line of the journal: a staged file that a commit takes over. `path` is relative to the draft's files; b""
    with the root tree's digest is the last line, written when only the catalog's transaction is left. `mode`: the permission bits
    that it had, None in older journals."""

    path: bytes
    digest: str
    size: int
    blocks: str
    executable: bool
    mode: int | None = None


def append_rows(draft: StagedDraft, rows: list[Row]) -> None:
    """Adds lines to the draft's journal, durably. Raises StorageError."""
    encoder = msgspec.msgpack.Encoder()
    data = bytearray()
    for row in rows:
        line = encoder.encode(row)
        data += len(line).to_bytes(4, "little") + line
    try:
        with (draft.path / JOURNAL).open("ab") as stream:
            is_new = stream.tell() == 0
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            sync_path(str(draft.path))
    except OSError as error:
        raise StorageError.wrap(error, "writing the journal of the commit") from error


_decoder = msgspec.msgpack.Decoder(Row)


def decode_journal(data: bytes) -> Iterator[Row]:
    """The lines of a journal, as far as it makes sense: nothing behind a torn one was acted on."""
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        try:
            yield _decoder.decode(data[at + 4 : at + 4 + length])
        except UNREADABLE:
            return
        at += 4 + length


def is_unsettled(draft: StagedDraft) -> bool:
    """Whether a commit did not end and could not be taken back yet: files of the draft may be blobs of the store, so their
    content, modes, times and names must not be changed (removing them is fine) before `recover` has succeeded."""
    return (draft.path / JOURNAL).exists()


def recover(store: LocalStore, draft: StagedDraft, catalog: Catalog | None = None) -> bool:
    """Brings a draft back into order after a commit that did not end. True: that commit had made its version (which
    `catalog` tells), so the draft was removed. Harmless on a draft that is in order.

    The caller holds the draft's lock. Raises StorageError when it cannot be done now (a stand-in is a symbolic link, which
    takes a block: a full disk has none); the journal stays then, and `recover` is to be tried again.
    """
    journal = draft.path / JOURNAL
    if not is_unsettled(draft):
        return False
    rows = list(decode_journal(journal.read_bytes()))
    for row in rows:
        if not row.path and catalog is not None and made_since(catalog, draft, row.digest) is not None:
            draft.remove()
            return True
    doing = f"taking back the interrupted commit of the draft {draft.label}"
    shared = [row for row in rows if row.path and _is_shared(store, draft, row)]
    failed = _lacks_room(draft, len(shared))
    try:
        if shared and failed is None:
            _check_shared(store, draft, shared)
        for row in rows:
            if row.path:
                try:
                    _take_back(store, draft, row, may_link=failed is None)
                except OSError as error:
                    failed = failed or error
        if failed is not None:
            raise failed
        for row in rows:
            if not row.path:
                (draft.path / _ASKED).write_text(row.digest)
        # As long as a name that is shared may come back after a power cut, the journal must as well.
        _sync_disk(draft)
        with contextlib.suppress(FileNotFoundError):
            journal.unlink()
    except OSError as error:
        raise StorageError.wrap(error, doing) from error
    return False


def _is_shared(store: LocalStore, draft: StagedDraft, row: Row) -> bool:
    """Whether the staged file and the blob are one file."""
    try:
        return _is_same_file(os.lstat(draft.files + b"/" + row.path), store.path_of(row.digest))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _check_shared(store: LocalStore, draft: StagedDraft, shared: list[Row]) -> None:
    """Before files of the draft become stand-ins for blobs. The beginning of the batch takes those out of the store that a
    power cut has torn (they stay the draft's own files); a block list that did not come to be written is made again, or the
    next version would name one that is nowhere."""
    with store.begin((draft.info.entity, draft.info.project)) as batch:
        for row in shared:
            if row.blocks and _is_shared(store, draft, row) and not _has_block_list(store, row):
                batch.put_file(store.path_of(row.digest), expect=Content(row.digest, row.size, row.blocks))
        batch.sync()


def _has_block_list(store: LocalStore, row: Row) -> bool:
    try:
        top = decode_block_list(row.blocks, store.read(row.blocks), row.size)
    except (BlobMissingError, CorruptError):
        return False
    return not top.lower or store.try_size(top.lower.hex()) == top.lower_size


def _sync_disk(draft: StagedDraft) -> None:
    fd = os.open(draft.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def _lacks_room(draft: StagedDraft, count: int) -> OSError | None:
    """ENOSPC when so many stand-ins would not all fit: making a part of them would only fill the disk up."""
    status = os.statvfs(draft.path)
    if not count or status.f_bavail * status.f_frsize >= count * status.f_frsize + _SPARE:
        return None
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _take_back(store: LocalStore, draft: StagedDraft, row: Row, *, may_link: bool) -> None:
    staged = draft.files + b"/" + row.path
    try:
        mine = os.lstat(staged)
    except (FileNotFoundError, NotADirectoryError):
        return  # somebody removed it
    if _is_same_file(mine, store.path_of(row.digest)):
        if not may_link:
            return
        name = row.path.rsplit(b"/", 1)[-1]
        raw_blocks = to_raw(row.blocks) if row.blocks else b""
        entry = FileEntry(name, row.size, to_raw(row.digest), raw_blocks, row.executable)
        times_ns, owner = (mine.st_atime_ns, mine.st_mtime_ns), (mine.st_uid, mine.st_gid)
        with keeping_times(os.path.dirname(staged)):
            draft.scratch.place_stand_in(entry_target(entry, row.mode), staged, times_ns, owner)
    elif stat.S_ISREG(mine.st_mode) and stat.S_IMODE(mine.st_mode) == 0o444:
        # Made read-only for the store, which had the blob already or never got it.
        plain = 0o755 if row.executable else 0o644
        os.chmod(staged, plain if row.mode is None else row.mode)


def _is_same_file(status: os.stat_result, path: Path) -> bool:
    try:
        other = os.lstat(path)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == (other.st_dev, other.st_ino)


def latest_of(catalog: Catalog, draft: StagedDraft) -> Member | None:
    """The member that `latest` of the draft's collection names, None before the first version."""
    try:
        return catalog.resolve(draft.info.entity, draft.info.project, draft.info.collection, "latest")
    except NotFoundError:
        return None


def try_asked(draft: StagedDraft) -> str | None:
    """The digest of the tree whose commit was asked for and taken back, if that has happened. Raises StorageError."""
    try:
        return (draft.path / _ASKED).read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError.wrap(error, f"reading what is known of the last commit of the draft {draft.label}") from error


def made_since(catalog: Catalog, draft: StagedDraft, digest: str) -> Member | None:
    """The version of that digest in the draft's collection, if one was made after the draft began."""
    info = draft.info
    collection = catalog.try_collection(info.entity, info.project, info.collection)
    if collection is None:
        return None
    began, cursor = parse_time(info.began_at), None
    while True:
        page = catalog.page_of_members(collection.id, PageRequest("-created_at", 100, cursor))
        for member in page.items:
            if member.created_at <= began:
                return None
            if member.version.digest == digest:
                return member
        cursor = page.cursor
        if cursor is None:
            return None


def moved_since(draft: StagedDraft, latest: Member | None) -> bool:
    """Whether somebody logged a version to the collection after the draft began."""
    return latest is not None and latest.created_at > parse_time(draft.info.began_at)
