"""Drafts on disk: where they are, what they know of themselves, and which digests their files are known to have.

    DRAFTS/<entity>/<project>/<name>/draft.json    DraftInfo
                                     files/        the draft's tree (see standins.py)
                                     hashes        digests of closed files, append-only (see HashLog)
                                     sealing       only while a commit works (see artfs.transfer.seal)
                                     asked         what a commit was asked for whose answer never came (artfs.transfer.journal)
                                     lock          held (flock) by whoever commits or abandons
                                     tmp/          scratch

The state of a draft's names and bytes is the file system's own: every operation is one atomic system call, so a killed
process loses nothing that was closed. No two processes serve one state folder's drafts: `DraftArea.own()`.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from artfs.errors import ConflictError, CorruptError, DraftBusyError, StorageError
from artfs.folders import check_format
from artfs.model.draft import DraftInfo, decode_draft, encode_draft
from artfs.model.entry import FileEntry
from artfs.model.names import check_collection_name, check_entity_name, check_project_name
from artfs.model.records import Content
from artfs.model.tree import Totals
from artfs.model.unreadable import UNREADABLE
from artfs.store.linux import make_folder, sync_path, within_reach
from artfs.store.recovery import read_boot_id
from artfs.store.rows import encode_row, row_nbytes, split_rows
from artfs.store.standins import (
    BASE_NAME,
    GONE,
    PREFIX,
    Scratch,
    TreeBase,
    parse_base,
    parse_entry,
    read_base,
    remove_tree,
    tree_target,
)

TRASH = ".trash"

_PASSES = 8
_CLOCK_TICK_NS = 100_000_000
"""Times of directories may be as coarse as that, with room to spare: what changed so lately may have changed again unseen."""

_serial = itertools.count()


class HashRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The content of one staged file, valid while the file's (inode, size, mtime, ctime) are these."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str
    blocks: str
    block_objects: tuple[bytes, ...] = ()

    def matches(self, status: os.stat_result) -> bool:
        return (
            status.st_size == self.size
            and status.st_mtime_ns == self.mtime_ns
            and status.st_ctime_ns == self.ctime_ns
            and status.st_ino == self.inode
        )

    @property
    def content(self) -> Content:
        return Content(self.sha256, self.size, self.blocks)


def record_for(status: os.stat_result, content: Content, block_objects: tuple[bytes, ...]) -> HashRecord:
    return HashRecord(
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        content.digest,
        content.blocks,
        block_objects,
    )


_record_decoder = msgspec.msgpack.Decoder(HashRecord)


def decode_hashes(data: bytes) -> tuple[dict[int, HashRecord], int]:
    """The records of a `hashes` file by inode, as far as it makes sense, and how many of its bytes do."""
    records: dict[int, HashRecord] = {}
    whole = 0
    for row in split_rows(data):
        try:
            record = _record_decoder.decode(row)
        except UNREADABLE:
            break
        records[record.inode] = record
        whole += row_nbytes(row)
    return records, whole


class HashLog:
    """The `hashes` file: msgpack records (see rows.py), the last one of an inode counts.

    It is only a memory of work done: a record that is lost, torn or stale costs reading the file again, never a wrong
    digest, because each is believed only while the file's fingerprint matches. Thread-safe.

    Records are of one boot of the machine, which the first bytes tell: after a power cut a file may have the fingerprint that
    was recorded and not the bytes, as file systems keep times and lengths in another order than data.
    """

    _HEAD = b"artfs-hashes "

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[bytes] = []
        self._records: dict[int, HashRecord] | None = None
        self._begin = b""  # what the file is to begin with, before its first record is written
        self._cut_at: int | None = None  # what is behind makes no sense, and would hide what is added to it
        self._lock = threading.RLock()

    def _loaded(self) -> dict[int, HashRecord]:
        if self._records is None:
            self._records = {}
            self._begin = head = self._HEAD + read_boot_id().encode() + b"\n"
            with contextlib.suppress(FileNotFoundError):
                data = self._path.read_bytes()
                if not data.startswith(head):
                    return self._records
                self._begin = b""
                self._records, whole = decode_hashes(data[len(head) :])
                self._cut_at = len(head) + whole if len(head) + whole < len(data) else None
        return self._records

    def add(self, record: HashRecord) -> None:
        with self._lock:
            self._loaded()[record.inode] = record
            data = msgspec.msgpack.encode(record)
            self._pending.append(encode_row(data))
            if len(self._pending) >= 512:
                self.flush()

    def try_get(self, status: os.stat_result) -> HashRecord | None:
        with self._lock:
            record = self._loaded().get(status.st_ino)
        return record if record is not None and record.matches(status) else None

    def drop(self, inode: int) -> None:
        with self._lock:
            self._loaded().pop(inode, None)

    def flush(self) -> None:
        """Hands what is pending to the operating system (not to the disk). A full disk loses them: they are only a
        memory."""
        with self._lock:
            if self._pending:
                data, self._pending = self._begin + b"".join(self._pending), []
                with contextlib.suppress(OSError), self._path.open("wb" if self._begin else "ab") as stream:
                    if self._cut_at is not None:
                        stream.truncate(self._cut_at)
                        self._cut_at = None
                    stream.write(data)
                    self._begin = b""

    def __len__(self) -> int:
        return len(self._loaded())


class StagedDraft:
    """One draft's folder. Knows nothing of who has its files open: a daemon does."""

    def __init__(self, path: Path, info: DraftInfo) -> None:
        self.path = path
        self.info = info
        self.files = os.fsencode(path / "files")
        self.scratch = Scratch(os.fsencode(path / "tmp"))
        self.hashes = HashLog(path / "hashes")
        self._changing = threading.Lock()

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.info.entity, self.info.project, self.info.name)

    @property
    def label(self) -> str:
        return f"{self.info.project}/{self.info.name}"

    def change_info(self, change: Callable[[DraftInfo], DraftInfo]) -> None:
        """Has `change` make of `info` what it is from now on, in draft.json too (aside, then renamed). From any thread: one
        change is made after the other. Raises StorageError, and what `change` raises; then nothing was changed."""
        with self._changing:
            info = change(self.info)
            aside = self.path / "draft.json.new"
            try:
                _write_info(aside, info)
                aside.rename(self.path / "draft.json")
            except OSError as error:
                raise StorageError.wrap(error, f"saving what the draft {self.label} is") from error
            self.info = info

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Held by whoever ends the draft. Raises DraftBusyError when somebody else does right now, StorageError."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise DraftBusyError(f"the draft {self.label} was just committed or abandoned") from None
        except OSError as error:
            raise StorageError.wrap(error, f"locking the draft {self.label}") from error
        try:
            self._lock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def check_unlocked(self) -> None:
        """Raises DraftBusyError when somebody ends the draft right now. Writes nothing."""
        with contextlib.suppress(FileNotFoundError):  # nobody ever tried to
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._lock(descriptor, fcntl.LOCK_SH)
            finally:
                os.close(descriptor)

    def _lock(self, descriptor: int, how: int) -> None:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DraftBusyError(f"the draft {self.label} is being committed by another process") from None

    def remove(self) -> None:
        """Takes the draft away: out of sight in one step, then its files, and what killed processes left of theirs. The
        caller holds the lock."""
        trash = self.path.parent.parent.parent / TRASH
        trash.mkdir(mode=0o700, exist_ok=True)
        _clear_dead(trash)
        aside = trash / f"{os.getpid()}-{self.path.name}-{self.path.stat().st_ino}"
        self.path.rename(aside)
        # Else, after a power cut, it could be there again without a part of its files: a draft like any other.
        sync_path(str(trash))
        remove_tree(os.fsencode(aside))

    def abandon(self, check: Callable[[], None] = lambda: None) -> None:
        """Throws the draft away. `check`: called once nobody can begin to serve it any more; raises when somebody does already.
        Raises DraftBusyError, StorageError."""
        with self.locked():
            check()
            try:
                self.remove()
            except OSError as error:
                raise StorageError.wrap(error, f"removing the draft {self.label}") from error

    def object_digests(self) -> Iterator[str]:
        """Digests that the draft refers to and that a sweep must keep: blobs of its stand-ins and their block lists,
        and the trees (with all below them) that its directories start as. Some come more than once.

        Somebody may move what is in it meanwhile, out of a directory that was not read yet into one that was. So directories that
        have changed since they were read are read again, until none has. (Where something changes all the time that is given up
        after a while: a stand-in would have to be moved as often as that to be missed.)
        """
        known: dict[int, _Listed] = {}
        for _ in range(_PASSES):
            has_changed = False
            todo = [self.files]
            while todo:
                directory = todo.pop()
                found: list[str] = []
                try:
                    with within_reach(directory) as near:
                        status = os.stat(near)
                        inode, ctime_ns = status.st_ino, status.st_ctime_ns
                        listed = known.get(inode)
                        if listed is None or listed.ctime_ns != ctime_ns:
                            has_changed = True
                            lately = time.time_ns() - ctime_ns < _CLOCK_TICK_NS
                            entries = list(os.scandir(near))
                            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
                            listed = known[inode] = _Listed(-1 if lately else ctime_ns, names)
                            for entry in entries:
                                if entry.is_symlink():
                                    found += _digests_of(entry.path, entry.name)
                except (FileNotFoundError, NotADirectoryError):
                    has_changed = True
                    continue
                yield from found
                todo += [directory + b"/" + name for name in listed.names]
            if not has_changed:
                return


class _Listed(NamedTuple):
    """A directory that was read: its time of change then (-1: too lately to count on it), and the names of those in it."""

    ctime_ns: int
    names: list[bytes]


def _digests_of(path: bytes, name: bytes) -> Iterator[str]:
    try:
        target = os.readlink(path)
    except OSError:
        return  # moved away, or replaced
    if not target.startswith(PREFIX) or target == GONE:
        return
    if name == BASE_NAME:
        yield parse_base(os.path.dirname(path), target).digest
        return
    stand_in = parse_entry(name, target)
    if isinstance(stand_in, FileEntry):  # otherwise its bytes are elsewhere
        yield stand_in.digest
        if stand_in.blocks:
            yield stand_in.blocks.hex()


def _write_info(path: Path, info: DraftInfo) -> None:
    """Durable, but for its name: a draft whose draft.json is empty cannot be used at all."""
    with path.open("wb") as stream:
        stream.write(encode_draft(info))
        stream.flush()
        os.fsync(stream.fileno())


def _clear_dead(trash: Path) -> None:
    """Removes what processes that are gone were just making or removing. Others may do the same at the same time."""
    for name in os.listdir(trash) if trash.exists() else ():
        maker = name.removeprefix("new-").partition("-")[0]
        if maker.isdecimal() and not os.path.exists(f"/proc/{maker}"):
            with contextlib.suppress(OSError):
                remove_tree(os.fsencode(trash / name))


class DraftArea:
    """All drafts of a state folder. Blocking; not for two threads at once. Whatever finds or makes drafts raises
    StateVersionError when a newer artfs made the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._owner: int | None = None
        self._is_checked = False

    def check(self) -> None:
        """Raises StateVersionError when a newer artfs made the drafts: to take over what it says of one, and to end a commit
        that it began, would damage them. StorageError, CorruptError."""
        if not self._is_checked and self.root.is_dir():
            check_format(self.root, "drafts")
            self._is_checked = True

    def own(self) -> bool:
        """Tries to become the one process that serves these drafts, until it ends or `disown`. True when it is.
        Raises StorageError."""
        if self._owner is None:
            try:
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.check()
                descriptor = os.open(self.root / ".owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise StorageError.wrap(error, "locking the drafts") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._owner = descriptor
        return True

    def disown(self) -> None:
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def empty_trash(self) -> None:
        """Removes what an interrupted `remove` left. Only for the owner."""
        remove_tree(os.fsencode(self.root / TRASH))

    def projects(self, entity: str) -> list[str]:
        """Projects that have a folder for drafts, by name; it may be empty."""
        try:
            return sorted(entry.name for entry in os.scandir(self.root / entity) if entry.is_dir())
        except FileNotFoundError:
            return []

    def make_project(self, entity: str, project: str) -> None:
        check_entity_name(entity)
        check_project_name(project)
        make_folder(str(self.root / entity / project))

    def drafts(
        self, entity: str | None = None, *, on_damaged: Callable[[CorruptError], None] | None = None
    ) -> list[StagedDraft]:
        """Every draft (of one entity), by project and name. A folder without a draft.json is none. Of one whose draft.json is
        damaged `on_damaged` is told, and it is passed over; None: it is raised."""
        self.check()
        entities = [entity] if entity is not None else self._entities()
        found = []
        for owner in entities:
            for project in self.projects(owner):
                for name in sorted(os.listdir(self.root / owner / project)):
                    try:
                        draft = self.try_draft(owner, project, name)
                    except CorruptError as error:
                        if on_damaged is None:
                            raise
                        on_damaged(error)
                        continue
                    if draft is not None:
                        found.append(draft)
        return found

    def _entities(self) -> list[str]:
        try:
            return sorted(e.name for e in os.scandir(self.root) if e.is_dir() and not e.name.startswith("."))
        except FileNotFoundError:
            return []

    def names(self, entity: str, project: str) -> list[str]:
        """Names of the project's drafts, sorted."""
        try:
            return sorted(
                entry.name
                for entry in os.scandir(self.root / entity / project)
                if os.path.exists(os.path.join(entry.path, "draft.json"))
            )
        except FileNotFoundError:
            return []

    def try_draft(self, entity: str, project: str, name: str) -> StagedDraft | None:
        """The draft, None when there is none. Raises CorruptError when its draft.json cannot be read."""
        self.check()
        path = self.root / entity / project / name
        try:
            info = decode_draft((path / "draft.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            _clear_dead(self.root / TRASH)  # it may be gone because a process was killed while it removed it
            return None
        except (OSError, CorruptError) as error:
            raise CorruptError(f"{path}/draft.json cannot be read ({error}); the files are in {path}/files") from error
        if (info.entity, info.project, info.name) != (entity, project, name):
            raise CorruptError(f"{path}/draft.json is that of another draft; the files are in {path}/files")
        return StagedDraft(path, info)

    def create(self, info: DraftInfo, base: Totals | None = None) -> StagedDraft:
        """A new draft: empty, or with `info.base_digest`'s tree (whose totals are `base`) as its content.

        Raises ConflictError when it exists, InvalidNameError, StorageError; then nothing is left.
        """
        self.check()
        check_entity_name(info.entity)
        check_project_name(info.project)
        check_collection_name(info.collection)
        path = self.root / info.entity / info.project / info.name
        if path.exists():
            raise ConflictError(f"the draft {info.project}/{info.name} exists already; commit or abandon it first")
        # Another thread may begin one of the same name, in another project.
        aside = self.root / TRASH / f"new-{os.getpid()}-{next(_serial)}"
        try:
            remove_tree(os.fsencode(aside))
            (aside / "files").mkdir(mode=0o755, parents=True)
            (aside / "files").chmod(0o755)
            aside.chmod(0o700)
            if info.base_digest is not None and base is not None:
                os.symlink(tree_target(TreeBase(info.base_digest, base)), os.fsencode(aside / "files") + b"/" + BASE_NAME)
            _write_info(aside / "draft.json", info)
            # What a user syncs in a draft must be found after a power cut, and so must the draft.
            for folder in (aside / "files", aside):
                sync_path(str(folder))
            make_folder(str(path.parent))
            aside.rename(path)
            try:
                sync_path(str(path.parent))
            except OSError:
                remove_tree(os.fsencode(path))  # on a full disk a rename may fail, this does not
                raise
        except OSError as error:
            remove_tree(os.fsencode(aside))
            raise StorageError.wrap(error, f"making the draft {info.project}/{info.name}") from error
        return StagedDraft(path, info)


__all__ = ["DraftArea", "HashLog", "HashRecord", "StagedDraft", "read_base", "record_for"]
