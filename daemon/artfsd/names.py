"""The names above the collections: the root, entities and projects."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Protocol

from artfs.errors import InvalidNameError, NotFoundError, UnavailableError
from artfs.model.names import REGISTRY_PREFIX, check_project_name
from artfs.model.records import CollectionKind, Project
from artfsd.collectiondir import CollectionDir
from artfsd.inodes import Attr, DirHandle, Later, ListHandle, Node, refuse
from artfsd.naming import Invalidation, MovingDir, NamesContext, decode
from artfsd.remote import RemoteBlobs


class Special(Protocol):
    """Names at the root that are not projects: drafts, .artfs."""

    def __call__(self, name: bytes) -> Node | None: ...


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

    def label(self) -> str:
        return "/" if self.special is not None else f"@{self.entity}"

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
            if isinstance(self.ctx.trees.blobs, RemoteBlobs):
                self._ask_why(text)
            refuse(errno.ENOENT)
        return self._project(text).attr()

    def _ask_why(self, text: str) -> None:
        """A project that the server does not list is not there, or may not be read: it knows which (and says the latter of
        all in which our token has no role). Raises Later, unless the answer is known."""
        try:
            check_project_name(text)
        except InvalidNameError:
            return

        def ask() -> Project | None:
            try:
                return self.ctx.catalog.try_project(self.entity, text)
            except UnavailableError:
                return None

        def told(found: Project | None) -> Attr:
            if found is None:
                refuse(errno.ENOENT)
            return self._project(found.name).attr()

        raise Later(ask, told)

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
        self.above = parent.ino
        self.name = name
        self.children: dict[bytes, CollectionDir] = {}
        self.names: list[str] | None = None
        ctx.table.add(self)

    def label(self) -> str:
        return f"{self.parent.entity}/{self.name}"

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
            kind: CollectionKind = "portfolio" if self.name.startswith(REGISTRY_PREFIX) else "sequence"
            self.ctx.catalog.create_collection(self.entity, self.name, text, kind=kind)
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


def known_directories(root: EntityDir) -> Iterable[EntityDir | ProjectDir | CollectionDir]:
    """Every directory of names that the kernel may know."""
    yield root
    for node in list(root.children.values()):
        if isinstance(node, EntityDir):
            yield from known_directories(node)
        elif isinstance(node, ProjectDir):
            yield node
            yield from list(node.children.values())
