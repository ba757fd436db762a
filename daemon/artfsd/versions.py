"""Immutable trees as directories: what lies below `project/collection/NAME/`.

A `Listing` is the content of one directory of one version; it owns the inode numbers of its files, so the files below
`latest` and below `v3` are the same inodes with the same pages. A `VersionDir` is a directory inode at one path:
`latest/data` and `v3/data` are two of them over one listing.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from artfs.errors import BadObjectError
from artfs.model.digests import from_raw
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry, link_stays_inside
from artfs.model.records import Member
from artfs.model.tree import MAX_DEPTH, Directory, Totals
from artfsd.fetch import Blobs, OpenBlob
from artfsd.inodes import (
    DIR_MODE,
    FILE_MODE,
    LINK_MODE,
    NO_SUCH_NAME,
    Attr,
    DirHandle,
    Emit,
    FileHandle,
    FileRange,
    InodeTable,
    Later,
    Node,
    refuse,
)
from artfsd.pages import TreePages
from artfsd.readahead import Walk
from artfsd.readers import Readers
from artfsd.reffiles import RefHandle, ref_xattrs
from artfsd.remote import RemoteBlob, RemoteBlobs, RemoteSmall
from artfsd.walking import Walks

if TYPE_CHECKING:
    from artfs.references.reader import ReferenceReader

DIR_SIZE = 4096
"""What stat shows as a directory's size, as ext4 does; `du` counts it. The link count of directories is 1, which tells
`find` that it says nothing about subdirectories."""

WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND


def time_ns(when: datetime) -> int:
    return int(when.timestamp()) * 1_000_000_000 + when.microsecond * 1000


class Trees:
    """What all version directories share: pages, blobs, inode numbers, and whose the files are."""

    def __init__(
        self,
        pages: TreePages,
        blobs: Blobs | RemoteBlobs,
        table: InodeTable,
        uid: int,
        gid: int,
        references: ReferenceReader,
        wait_s: float,
        readers: Readers,
    ) -> None:
        """`wait_s`: how long a read may wait for a reference, in seconds."""
        self.readers = readers
        self.references = references
        self.wait_s = wait_s
        self.pages = pages
        self.blobs = blobs
        self.table = table
        self.uid = uid
        self.gid = gid
        self._listings: dict[tuple[int, bytes], Listing] = {}
        self.walks = Walks(self)

    def listing(self, member: Member, path: bytes, digest: str) -> Listing:
        """The listing of the directory `path` ("" the root) of a version. May raise Later."""
        key = (member.version.id, path)
        found = self._listings.get(key)
        if found is None:
            if path.count(b"/") >= MAX_DEPTH:
                raise BadObjectError(f"the tree {digest} is more than {MAX_DEPTH} directories deep", digest)
            found = Listing(self, key, member, digest, Directory(self.pages, digest).totals)
            self._listings[key] = found
            self.table.add_range(found)
        return found

    def known_listing(self, key: tuple[int, bytes]) -> Listing | None:
        """The listing of a directory that somebody has looked at and not yet left; see `Listing.key`."""
        return self._listings.get(key)

    def open_reference(self, entry: RefEntry, label: Callable[[], str]) -> RefHandle:
        """Asks nobody yet. `label` names the file in the log."""
        return RefHandle(self.references, self.blobs, entry, self.wait_s, label)

    def drop(self, listing: Listing) -> None:
        if self._listings.get(listing.key) is listing:
            del self._listings[listing.key]
            self.table.drop_range(listing)

    def status(self) -> dict[str, int]:
        return {"listings": len(self._listings), **self.pages.status()}


class Listing(FileRange):
    """One directory of one version. Lives while the kernel knows one of its files or a directory inode shows it."""

    __slots__ = ("attr", "digest", "key", "member", "time_ns", "totals", "trees", "users", "walk")

    def __init__(self, trees: Trees, key: tuple[int, bytes], member: Member, digest: str, totals: Totals) -> None:
        super().__init__(totals.count)
        self.digest = digest
        self.totals = totals
        self.trees = trees
        self.key = key
        self.member = member
        self.users = 0
        self.walk: Walk | None = None
        self.time_ns = time_ns(member.version.created_at)
        # One value for all files of the directory; each use sets what differs.
        self.attr = Attr(0, FILE_MODE, 0, self.time_ns, trees.uid, trees.gid)

    @property
    def directory(self) -> Directory:
        """Made for each use: it holds its root page, which otherwise only the bounded cache does. May raise Later."""
        return Directory(self.trees.pages, self.digest, self.totals)

    def node_at(self, index: int) -> Node:
        return VersionFile(self, index, self.directory.at(index))

    def file_attr(self, index: int, entry: Entry) -> Attr:
        """The attributes of a file, link or reference. The value is reused by the next call."""
        attr = self.attr
        attr.ino = self.base + index
        if isinstance(entry, FileEntry):
            attr.mode = FILE_MODE | 0o111 if entry.executable else FILE_MODE
            attr.size = entry.size
        elif isinstance(entry, LinkEntry):
            attr.mode = LINK_MODE
            attr.size = len(entry.target)
        else:
            assert isinstance(entry, RefEntry)
            attr.mode = FILE_MODE
            attr.size = entry.size or 0
        return attr

    def path_of(self, name: bytes) -> str:
        """For the log: which file of which version."""
        prefix = self.key[1] + b"/" if self.key[1] else b""
        return f"{self.member.qualified_name}/{os.fsdecode(prefix + name)}"

    def forgotten(self) -> None:
        if self.users <= 0 and self.lookups <= 0:
            self.trees.drop(self)


class VersionFile(Node):
    """A file of a version, made when a request names it."""

    __slots__ = ("_blob", "entry", "index", "listing")
    frozen = True
    constant = True

    def __init__(self, listing: Listing, index: int, entry: Entry) -> None:
        super().__init__()
        self.ino = listing.base + index
        self.listing = listing
        self.index = index
        self.entry = entry
        self._blob: OpenBlob | RemoteBlob | None = None

    def attr(self) -> Attr:
        return self.listing.file_attr(self.index, self.entry)

    def label(self) -> str:
        return self.listing.path_of(self.entry.name)

    def readlink(self) -> bytes:
        if not isinstance(self.entry, LinkEntry):
            refuse(errno.EINVAL)
        listing = self.listing
        path = listing.key[1]
        if not link_stays_inside(path.split(b"/") if path else (), self.entry.target):
            raise BadObjectError(
                f"the tree {listing.digest} is damaged: its link {self.entry.name!r} leaves the artifact", listing.digest
            )
        return self.entry.target

    def open(self, flags: int) -> FileHandle:
        if flags & WRITE_FLAGS:
            refuse(errno.EROFS)
        listing = self.listing
        walks, blobs = listing.trees.walks, listing.trees.blobs
        is_frugal = isinstance(blobs, RemoteBlobs) and listing.trees.readers.is_frugal
        if walks.has_begun and not is_frugal:
            walks.opened(listing, self.index)
        blob = self._blob
        entry = self.entry
        if blob is not None and blob.is_open:
            blob.take()
        elif isinstance(entry, FileEntry):
            blob = self._blob = blobs.open(entry, lambda: listing.path_of(entry.name))
            if isinstance(blob, RemoteSmall):
                blob.on_miss = partial(walks.missed, listing, self.index, entry.size)
        if blob is not None:
            if isinstance(blob, RemoteBlob):
                blob.read_by(is_frugal)
            return blob
        assert isinstance(entry, RefEntry)
        return listing.trees.open_reference(entry, lambda: listing.path_of(entry.name))

    def setattr(self, changes: dict[str, int]) -> Attr:
        # After `ln` of this file the kernel flushes the ctime that it made up, with our own mtime; refusing that would
        # make readers' close fail, and it changes nothing.
        if set(changes) <= {"mtime_ns", "ctime_ns"} and changes.get("mtime_ns", self.listing.time_ns) == self.listing.time_ns:
            return self.attr()
        refuse(errno.EROFS)

    def xattrs(self) -> dict[bytes, bytes]:
        entry = self.entry
        if isinstance(entry, FileEntry):
            found = {b"user.artfs.digest": entry.digest.encode(), b"user.artfs.size": str(entry.size).encode()}
            if entry.blocks:
                found[b"user.artfs.blocks"] = from_raw(entry.blocks).encode()
            return found
        if isinstance(entry, RefEntry):
            return ref_xattrs(entry)
        return {}


class VersionDir(Node):
    """A directory inode of a version: one path below one alias, `vN` or `@time`."""

    __slots__ = ("_children", "_on_forget", "digest", "expect", "listing", "member", "parent", "path", "trees")
    frozen = True
    is_dir = True

    def __init__(
        self,
        trees: Trees,
        member: Member,
        path: bytes,
        digest: str,
        expect: tuple[int, int],
        parent: VersionDir | None,
        on_forget: Callable[[VersionDir], None],
    ) -> None:
        super().__init__()
        self.trees = trees
        self.member = member
        self.path = path
        self.digest = digest
        self.expect = expect  # (size, file_count), as the parent says
        self.parent = parent
        if parent is not None:
            self.above = parent.ino
        self._on_forget = on_forget
        self._children: dict[bytes, VersionDir] = {}
        self.listing: Listing | None = None
        trees.table.add(self)

    def content(self) -> Listing:
        """The listing, loaded. May raise Later."""
        listing = self.listing
        if listing is None:
            listing = self.trees.listing(self.member, self.path, self.digest)
            totals = listing.totals
            if (totals.size, totals.file_count) != self.expect:
                raise BadObjectError(f"tree {self.digest} has other totals than its parent says", self.digest)
            self.listing = listing
            listing.users += 1
        return listing

    def attr(self) -> Attr:
        return Attr(self.ino, DIR_MODE, DIR_SIZE, time_ns(self.member.version.created_at), self.trees.uid, self.trees.gid)

    def label(self) -> str:
        return f"{self.member.qualified_name}/{os.fsdecode(self.path)}".rstrip("/")

    def _child_path(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name

    def child_dir(self, entry: DirEntry) -> VersionDir:
        child = self._children.get(entry.name)
        if child is None:
            child = VersionDir(
                self.trees,
                self.member,
                self._child_path(entry.name),
                entry.digest,
                (entry.size, entry.file_count),
                self,
                self._child_forgotten,
            )
            self._children[entry.name] = child
        return child

    def _child_forgotten(self, child: VersionDir) -> None:
        name = child.path.rsplit(b"/", 1)[-1]
        if self._children.get(name) is child:
            del self._children[name]

    def forgotten(self) -> None:
        self._on_forget(self)
        if self.listing is not None:
            self.listing.users -= 1
            self.listing.forgotten()
            self.listing = None

    def attr_of(self, index: int, entry: Entry) -> Attr:
        if isinstance(entry, DirEntry):
            return self.child_dir(entry).attr()
        listing = self.listing
        assert listing is not None
        return listing.file_attr(index, entry)

    def lookup(self, name: bytes) -> Attr:
        found = self.content().directory.lookup(name)
        if found is None:
            return NO_SUCH_NAME
        return self.attr_of(*found)

    def open_dir(self) -> DirHandle:
        return VersionDirHandle(self)

    def xattrs(self) -> dict[bytes, bytes]:
        if self.parent is not None:
            totals = self.content().totals
            return {
                b"user.artfs.digest": self.digest.encode(),
                b"user.artfs.size": str(totals.size).encode(),
                b"user.artfs.file_count": str(totals.file_count).encode(),
            }
        return member_xattrs(self.member)


class VersionDirHandle(DirHandle):
    """Offsets are entry numbers plus one, which the tree keeps for ever."""

    __slots__ = ("_dir",)

    def __init__(self, directory: VersionDir) -> None:
        self._dir = directory

    def read(self, offset: int, emit: Emit) -> None:
        directory = self._dir
        listing = directory.content()
        emitted = 0
        files = 0
        try:
            for index, entry in listing.directory.entries(offset):
                if isinstance(entry, DirEntry):
                    child = directory.child_dir(entry)
                    if not emit(entry.name, child.attr(), index + 1):
                        if child.lookups == 0:
                            directory.trees.table.forget([(child.ino, 0)])
                        break
                    child.lookups += 1
                else:
                    if not emit(entry.name, listing.file_attr(index, entry), index + 1):
                        break
                    files += 1
                emitted += 1
        except Later:
            if emitted == 0:
                raise  # nothing said yet: load the page, then start again
            # Otherwise this reply ends here; the kernel asks on from the next entry.
        finally:
            listing.lookups += files


def member_xattrs(member: Member) -> dict[bytes, bytes]:
    """What the API knows of a version, for `getfattr` on its directory."""
    version = member.version
    values = {
        "entity": member.entity,
        "project": member.project,
        "collection": member.collection,
        "name": member.name,
        "qualified_name": member.qualified_name,
        "version": f"v{member.index}",
        "type": version.type,
        "aliases": ",".join(member.aliases),
        "tags": ",".join(version.tags),
        "state": version.state,
        "digest": version.digest,
        "commit_hash": version.commit_hash,
        "size": str(version.size),
        "file_count": str(version.file_count),
        "description": version.description or "",
        "metadata": json.dumps(version.metadata, sort_keys=True),
        "created_at": version.created_at.isoformat(),
        "updated_at": version.updated_at.isoformat(),
        "is_link": "true" if member.is_link else "false",
    }
    if version.run_id:
        values["logged_by"] = version.run_id
    return {b"user.artfs." + key.encode(): value.encode("utf-8", "surrogateescape") for key, value in values.items()}
