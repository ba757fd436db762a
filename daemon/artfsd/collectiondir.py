"""A collection as a directory: its versions, aliases and times."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from artfs.errors import InvalidNameError, NotFoundError
from artfs.model.names import is_version
from artfs.model.records import Member
from artfsd.inodes import LINK_MODE, Attr, DirHandle, Later, ListHandle, Node, refuse
from artfsd.naming import Invalidation, MovingDir, NamesContext, decode
from artfsd.versions import VersionDir, time_ns

if TYPE_CHECKING:
    from artfsd.names import ProjectDir


class CollectionDir(MovingDir):
    """vN, aliases and `@time` of a collection. `children` are the version roots by the name they were looked up
    under."""

    __slots__ = ("children", "name", "parent", "when_ns", "view")
    is_dir = True

    def __init__(self, ctx: NamesContext, parent: ProjectDir, name: str) -> None:
        super().__init__(ctx)
        self.parent = parent
        self.above = parent.ino
        self.name = name
        self.children: dict[bytes, VersionDir | AliasLink] = {}
        self.view: dict[bytes, Member] | None = None
        self.when_ns = ctx.started_ns
        ctx.table.add(self)

    def attr(self) -> Attr:
        return self.ctx.dir_attr(self.ino, self.when_ns)

    def forgotten(self) -> None:
        if self.parent.children.get(self.name.encode()) is self:
            del self.parent.children[self.name.encode()]

    def read(self) -> Callable[[], list[Invalidation]]:
        catalog = self.ctx.catalog
        found = catalog.try_collection(self.parent.entity, self.parent.name, self.name)
        members = catalog.members(found.id) if found is not None else []
        view: dict[bytes, Member] = {}
        for member in members:
            view[f"v{member.index}".encode()] = member
            for alias in member.aliases:
                view[alias.encode()] = member
        times: dict[bytes, Member | None] = {}
        for name in list(self.children):
            if name.startswith(b"@"):
                times[name] = self._at_time(name.decode())
        when = time_ns(found.updated_at) if found is not None else self.when_ns

        def apply() -> list[Invalidation]:
            moved = []
            for name, node in list(self.children.items()):
                now = times.get(name) if name.startswith(b"@") else view.get(name)
                if now is not None and (now.id, now.version.id) == (node.member.id, node.member.version.id):
                    node.member = now
                else:
                    del self.children[name]
                    moved.append(Invalidation(self.ino, name))
            self.view = view
            self.when_ns = when
            return moved

        return apply

    def label(self) -> str:
        return f"{self.parent.entity}/{self.parent.name}/{self.name}"

    def _at_time(self, name: str) -> Member | None:
        try:
            return self.ctx.catalog.resolve(self.parent.entity, self.parent.name, self.name, name)
        except (NotFoundError, InvalidNameError):
            return None

    def _view(self) -> dict[bytes, Member]:
        if self.view is None:
            self.load()
        return self.view

    def root_of(self, name: bytes, member: Member) -> VersionDir | AliasLink:
        node = self.children.get(name)
        if node is None:
            if self.ctx.symlinked_aliases and not is_version(os.fsdecode(name)) and not name.startswith(b"@"):
                node = AliasLink(self.ctx, self, name, member)
            else:
                version = member.version
                node = VersionDir(
                    self.ctx.trees,
                    member,
                    b"",
                    version.digest,
                    (version.size, version.file_count),
                    None,
                    lambda gone: self.drop(name, gone),
                )
                node.above = self.ino
            self.children[name] = node
        return node

    def drop(self, name: bytes, node: Node) -> None:
        if self.children.get(name) is node:
            del self.children[name]

    def _root_attr(self, name: bytes, member: Member) -> Attr:
        attr = self.root_of(name, member).attr()
        attr.entry_timeout = self.ctx.timeout_s
        return attr

    def lookup(self, name: bytes) -> Attr:
        member = self._view().get(name)
        if member is not None:
            return self._root_attr(name, member)
        if not name.startswith(b"@"):
            refuse(errno.ENOENT)
        known = self.children.get(name)
        if known is not None:
            return self._root_attr(name, known.member)

        def found(member: Member | None) -> Attr:
            if member is None:
                refuse(errno.ENOENT)
            return self._root_attr(name, member)

        raise Later(lambda: self._at_time(decode(name)), found)

    def open_dir(self) -> DirHandle:
        def entries() -> list[tuple[bytes, Callable[[], Attr | None]]]:
            return [(name, lambda n=name, m=member: self._root_attr(n, m)) for name, member in self._view().items()]  # type: ignore[misc]

        return ListHandle(self.ctx.table, entries)

    def mkdir(self, name: bytes, mode: int) -> Attr:
        refuse(errno.EEXIST if name in self._view() else errno.EROFS)

    def rmdir(self, name: bytes) -> None:
        refuse(errno.EROFS if name in self._view() else errno.ENOENT)

    def xattrs(self) -> dict[bytes, bytes]:
        view = self._view()
        latest = view.get(b"latest")
        values = {
            b"user.artfs.entity": self.parent.entity.encode(),
            b"user.artfs.project": self.parent.name.encode(),
            b"user.artfs.collection": self.name.encode(),
        }
        if latest is not None:
            values[b"user.artfs.latest"] = f"v{latest.index}".encode()
            values[b"user.artfs.type"] = latest.version.type.encode()
        return values


class AliasLink(Node):
    """An alias as a symbolic link to its version (`--aliases=symlinks`)."""

    __slots__ = ("_collection", "_ctx", "_name", "member")

    def __init__(self, ctx: NamesContext, collection: CollectionDir, name: bytes, member: Member) -> None:
        super().__init__()
        self._ctx = ctx
        self._collection = collection
        self._name = name
        self.member = member
        ctx.table.add(self)

    def attr(self) -> Attr:
        trees = self._ctx.trees
        attr = Attr(self.ino, LINK_MODE, len(self.readlink()), time_ns(self.member.version.created_at), trees.uid, trees.gid)
        attr.entry_timeout = self._ctx.timeout_s
        return attr

    def readlink(self) -> bytes:
        return f"v{self.member.index}".encode()

    def forgotten(self) -> None:
        self._collection.drop(self._name, self)
