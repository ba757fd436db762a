"""The names above the versions: the root, projects, collections and what they list. These are the only names of the
read-only part that move, so they are re-read when the catalog changes, and the kernel is told which of them it must
ask for again."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from artfs.errors import ArtfsError, InvalidNameError, NotFoundError
from artfs.model.names import is_version
from artfs.model.records import Member
from artfsd.inodes import DIR_MODE, LINK_MODE, Attr, DirHandle, Later, ListHandle, Node, refuse
from artfsd.versions import DIR_SIZE, Trees, VersionDir, time_ns

if TYPE_CHECKING:
    from artfs.catalog.base import Catalog


@dataclass(frozen=True, slots=True)
class Invalidation:
    """The kernel must ask again for `name` in the directory `parent`."""

    parent: int
    name: bytes


class Special(Protocol):
    """Names at the root that are not projects: drafts, .artfs."""

    def __call__(self, name: bytes) -> Node | None: ...


@dataclass
class NamesContext:
    """What the nodes of this file share. `timeout_s`: how long the kernel may keep their names; long while changes
    are watched."""

    catalog: Catalog
    trees: Trees
    entity: str
    symlinked_aliases: bool
    timeout_s: float
    started_ns: int
    table: Any = field(init=False)
    tickets: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)

    def __post_init__(self) -> None:
        self.table = self.trees.table

    def dir_attr(self, ino: int, when_ns: int) -> Attr:
        attr = Attr(ino, DIR_MODE, DIR_SIZE, when_ns, self.trees.uid, self.trees.gid)
        attr.entry_timeout = attr.attr_timeout = self.timeout_s
        return attr


def decode(name: bytes) -> str:
    """A name of the catalog; what is not UTF-8 names nothing there."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        refuse(errno.ENOENT)


class MovingDir(Node):
    """A directory whose names are the catalog's.

    Several readings may be under way at once: the watcher's, and that of a request which changed the catalog itself. Each
    takes a ticket before it reads, so it knows every change that was made before; one that ends after a younger one
    was applied is thrown away, otherwise a name that was made just now would vanish again for a moment.
    """

    __slots__ = ("_applied", "ctx")

    def __init__(self, ctx: NamesContext) -> None:
        super().__init__()
        self.ctx = ctx
        self._applied = 0

    def read(self) -> Callable[[], list[Invalidation]]:
        """In a thread: reads the names. The result, called on the loop, takes them over and says which ones moved."""
        raise NotImplementedError

    def reload(self) -> Callable[[], list[Invalidation]]:
        """`read`, whose result does nothing when a younger one was faster."""
        ticket = next(self.ctx.tickets)
        take = self.read()

        def apply() -> list[Invalidation]:
            if ticket < self._applied:
                return []
            self._applied = ticket
            return take()

        return apply

    def load(self) -> NoReturn:
        """Has the names read for the first time, then the operation begin again."""
        raise Later(self.reload, lambda apply: apply(), again=True)


class EntityDir(MovingDir):
    """The projects of an entity: the root of the mount, or `@entity`."""

    __slots__ = ("children", "entity", "names", "special")
    is_dir = True

    def __init__(self, ctx: NamesContext, entity: str, special: Special | None = None) -> None:
        super().__init__(ctx)
        self.entity = entity
        self.special = special
        self.children: dict[bytes, Node] = {}
        self.names: list[str] | None = None
        ctx.table.add(self)

    def attr(self) -> Attr:
        return self.ctx.dir_attr(self.ino, self.ctx.started_ns)

    @property
    def lasting(self) -> bool:
        return True

    def read(self) -> Callable[[], list[Invalidation]]:
        names = [project.name for project in self.ctx.catalog.projects(self.entity)]

        def apply() -> list[Invalidation]:
            gone = [name for name, node in self.children.items() if isinstance(node, ProjectDir) and node.name not in names]
            self.names = names
            return [Invalidation(self.ino, name) for name in gone if self.children.pop(name, None)]

        return apply

    def _names(self) -> list[str]:
        if self.names is None:
            self.load()
        return self.names

    def lookup(self, name: bytes) -> Attr:
        if self.special is not None:
            node = self.special(name)
            if node is not None:
                return node.attr()
        text = decode(name)
        if text not in self._names():
            if text.startswith("@") and self.special is not None:
                return self._entity(name, text[1:]).attr()
            refuse(errno.ENOENT)
        return self._project(text).attr()

    def _entity(self, name: bytes, entity: str) -> Node:
        node = self.children.get(name)
        if node is None:

            def check() -> None:
                if entity not in self.ctx.catalog.entities():
                    raise NotFoundError(f"no entity {entity!r} in this catalog")

            def made(_: None) -> EntityDir:
                made_node = EntityDir(self.ctx, entity)
                self.children[name] = made_node
                return made_node

            raise Later(check, lambda result: made(result).attr())
        return node

    def _project(self, name: str) -> Node:
        key = name.encode()
        node = self.children.get(key)
        if node is None:
            node = self.children[key] = ProjectDir(self.ctx, self, name)
        return node

    def open_dir(self) -> DirHandle:
        def entries() -> list[tuple[bytes, Callable[[], Attr | None]]]:
            found: list[tuple[bytes, Callable[[], Attr | None]]] = [
                (name.encode(), lambda name=name: self._project(name).attr())  # type: ignore[misc]
                for name in self._names()
            ]
            drafts = self.special(b"drafts") if self.special is not None else None
            if drafts is not None:
                found.append((b"drafts", drafts.attr))
            return found

        return ListHandle(self.ctx.table, entries)

    def mkdir(self, name: bytes, mode: int) -> Attr:
        text = decode(name)
        if self.special is not None and self.special(name) is not None:
            refuse(errno.EEXIST)

        def make() -> Callable[[], list[Invalidation]]:
            if self.ctx.catalog.try_project(self.entity, text) is not None:
                raise OSError(errno.EEXIST, None)
            self.ctx.catalog.create_project(self.entity, text)
            return self.reload()

        raise Later(make, lambda apply: (apply(), self._project(text).attr())[1])

    def rmdir(self, name: bytes) -> None:
        text = decode(name)
        if text not in self._names():
            refuse(errno.EROFS if self.special is not None and self.special(name) is not None else errno.ENOENT)

        def delete() -> Callable[[], list[Invalidation]]:
            if self.ctx.catalog.collections(self.entity, text):
                raise OSError(errno.ENOTEMPTY, None)
            self.ctx.catalog.delete_project(self.entity, text)
            return self.reload()

        raise Later(delete, lambda apply: apply() and None)


class ProjectDir(MovingDir):
    """The collections of a project."""

    __slots__ = ("children", "name", "names", "parent")
    is_dir = True

    def __init__(self, ctx: NamesContext, parent: EntityDir, name: str) -> None:
        super().__init__(ctx)
        self.parent = parent
        self.name = name
        self.children: dict[bytes, CollectionDir] = {}
        self.names: list[str] | None = None
        ctx.table.add(self)

    @property
    def entity(self) -> str:
        return self.parent.entity

    def attr(self) -> Attr:
        return self.ctx.dir_attr(self.ino, self.ctx.started_ns)

    def forgotten(self) -> None:
        if self.parent.children.get(self.name.encode()) is self:
            del self.parent.children[self.name.encode()]

    def read(self) -> Callable[[], list[Invalidation]]:
        names: list[str] = []
        if self.ctx.catalog.try_project(self.entity, self.name) is not None:
            names = [found.name for found in self.ctx.catalog.collections(self.entity, self.name)]

        def apply() -> list[Invalidation]:
            gone = [name for name, node in self.children.items() if node.name not in names]
            self.names = names
            return [Invalidation(self.ino, name) for name in gone if self.children.pop(name, None)]

        return apply

    def _names(self) -> list[str]:
        if self.names is None:
            self.load()
        return self.names

    def collection(self, name: str) -> CollectionDir:
        key = name.encode()
        node = self.children.get(key)
        if node is None:
            node = self.children[key] = CollectionDir(self.ctx, self, name)
        return node

    def lookup(self, name: bytes) -> Attr:
        text = decode(name)
        if text not in self._names():
            refuse(errno.ENOENT)
        return self.collection(text).attr()

    def open_dir(self) -> DirHandle:
        return ListHandle(
            self.ctx.table,
            lambda: [(name.encode(), lambda name=name: self.collection(name).attr()) for name in self._names()],  # type: ignore[misc]
        )

    def mkdir(self, name: bytes, mode: int) -> Attr:
        text = decode(name)

        def make() -> Callable[[], list[Invalidation]]:
            if self.ctx.catalog.try_collection(self.entity, self.name, text) is not None:
                raise OSError(errno.EEXIST, None)
            self.ctx.catalog.create_collection(self.entity, self.name, text)
            return self.reload()

        raise Later(make, lambda apply: (apply(), self.collection(text).attr())[1])

    def rmdir(self, name: bytes) -> None:
        text = decode(name)
        if text not in self._names():
            refuse(errno.ENOENT)

        def delete() -> Callable[[], list[Invalidation]]:
            found = self.ctx.catalog.try_collection(self.entity, self.name, text)
            if found is not None:
                if self.ctx.catalog.members(found.id):
                    raise OSError(errno.ENOTEMPTY, None)
                self.ctx.catalog.delete_collection(found.id)
            return self.reload()

        raise Later(delete, lambda apply: apply() and None)


class CollectionDir(MovingDir):
    """vN, aliases and `@time` of a collection. `children` are the version roots by the name they were looked up
    under."""

    __slots__ = ("children", "name", "parent", "when_ns", "view")
    is_dir = True

    def __init__(self, ctx: NamesContext, parent: ProjectDir, name: str) -> None:
        super().__init__(ctx)
        self.parent = parent
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


def known_directories(root: EntityDir) -> Iterable[EntityDir | ProjectDir | CollectionDir]:
    """Every directory of names that the kernel may know."""
    yield root
    for node in list(root.children.values()):
        if isinstance(node, EntityDir):
            yield from known_directories(node)
        elif isinstance(node, ProjectDir):
            yield node
            yield from list(node.children.values())


def reload_all(root: EntityDir) -> list[Callable[[], list[Invalidation]]]:
    """In a thread: re-reads every listing that was read before. Errors of one (it may just be going) leave it as it
    is."""
    applies = []
    for node in list(known_directories(root)):
        if (node.view if isinstance(node, CollectionDir) else node.names) is not None:
            try:
                applies.append(node.reload())
            except NotFoundError:
                continue
            except ArtfsError:
                raise
    return applies
