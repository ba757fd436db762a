"""`artfs://PROJECT/COLLECTION:ALIAS/PATH` for whatever speaks fsspec: pandas, pyarrow, Dask, Hugging Face datasets.

    pandas.read_csv("artfs://flowers/photos:latest/labels.csv")

Read-only. The names are those of the mount, with `COLLECTION:ALIAS` for its `COLLECTION/ALIAS`: `artfs://` lists the
projects of the entity, and a project the versions and aliases of its collections; `artfs://@ENTITY/PROJECT/…` are those of
another entity. ALIAS may be `vN` or `@TIME`, and must be there. An alias is looked up anew by every call, so
`vN` is what a program takes that must not notice how an alias moves; an open file stays in its version. A reference is
fetched from its source, whole and checked, when it is opened.

Importing this module needs `artfs[fsspec]`; fsspec finds it by its entry point.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, NoReturn

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from artfs.api.ambient import session_for
from artfs.api.session import Session
from artfs.errors import InvalidNameError, NotFoundError
from artfs.model.digests import digest_bytes
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry
from artfs.model.manifest import Manifest
from artfs.model.names import parse_name
from artfs.model.records import Member, Project
from artfs.model.tree import Directory
from artfs.settings import load_settings
from artfs.store.blocks import BlobChecker

_MAX_LINKS = 40
"""As many symbolic links as Linux follows on one path."""

Info = dict[str, Any]


class ArtfsFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """All that is logged in one state folder."""

    protocol = "artfs"
    root_marker = ""

    def __init__(self, *arguments: Any, home: str | None = None, entity: str | None = None, **options: Any) -> None:
        """`home`, `entity`: as in the settings; None: as the config file and the environment say. Nothing is opened."""
        super().__init__(*arguments, home=home, entity=entity, **options)
        self._home = home
        self._entity = entity
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        # fsspec keeps file systems for the life of the process, in which ARTFS_HOME may change, and which may fork.
        self._session = session_for(load_settings(home=self._home, entity=self._entity))
        return self._session

    # what there is --------------------------------------------------------------------------------

    def info(self, path: str, **options: Any) -> Info:
        """name, size (None for directories, and where a reference's source did not tell), type ("file", "directory";
        "other" for a link that does not lead to a file, where a directory lists it), and what else is known: digest,
        executable, islink, uri, version, aliases, created. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        place = self._find(path)
        if isinstance(place, _InVersion):
            if place.inside:
                return _file_info(place.member, path, place.entry)
            return _version_info(path, place.member)
        return _directory(path)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """The names in a directory, or the file itself, sorted; `detail`: as `info` gives them. Raises
        FileNotFoundError."""
        found = sorted(self._listed(self._strip_protocol(path)), key=lambda info: str(info["name"]))
        return found if detail else [info["name"] for info in found]

    def _listed(self, path: str) -> Iterator[Info]:
        place = self._find(path)
        if isinstance(place, _InVersion):
            yield from _listed_version(place, path)
        elif isinstance(place, Project):
            for collection in self.session.catalog.collections(place.entity, place.name):
                for member in self.session.catalog.members(collection.id):
                    for alias in (f"v{member.index}", *member.aliases):
                        yield _version_info(f"{path}/{collection.name}:{alias}", member)
        else:
            for project in self.session.catalog.projects(place):
                yield _directory(f"{path}/{project.name}" if path else project.name)

    def checksum(self, path: str) -> int:
        """Of the content: equal files have equal ones. Raises FileNotFoundError."""
        return int(self.ukey(path)[:16], 16)

    def ukey(self, path: str) -> str:
        """The digest of a file, or of a version or a directory in it; of other directories one of their names. Raises
        FileNotFoundError."""
        digest = self.info(path).get("digest")
        return str(digest or digest_bytes("\n".join(self.ls(path, detail=False)).encode(errors="surrogateescape")))

    def created(self, path: str) -> datetime:
        """When its version was committed. Raises FileNotFoundError, also for what is in no version."""
        moment = self.info(path).get("created")
        if not isinstance(moment, datetime):
            raise _missing(path, "it is in no version")
        return moment

    modified = created

    def invalidate_cache(self, path: str | None = None) -> None:
        """Nothing is cached that could become wrong."""

    def _find(self, path: str) -> str | Project | _InVersion:
        """What is at a stripped path: an entity's name, a project, or something in a version. Raises
        FileNotFoundError."""
        parts = path.split("/") if path else []
        entity = self.session.settings.entity
        if parts and parts[0].startswith("@"):
            entity = parts.pop(0)[1:]
        if not parts:
            return entity
        catalog = self.session.catalog
        try:
            if len(parts) == 1:
                project = catalog.try_project(entity, parts[0])
                if project is None:
                    raise _missing(path, f"there is no project {entity}/{parts[0]}")
                return project
            name = parse_name("/".join([entity, *parts[:2]]))
            if name.alias is None:
                raise _missing(path, f"write {parts[0]}/{parts[1]}:ALIAS, with latest, vN or another alias")
            member = catalog.resolve(name.entity, name.project, name.collection, name.alias)
        except (NotFoundError, InvalidNameError) as error:
            raise _missing(path, str(error)) from None
        manifest = Manifest(self.session.pages, member.version.digest)
        inside = "/".join(part for part in parts[2:] if part)
        entry = _follow(manifest, inside, path)
        return _InVersion(member, manifest, inside, entry)

    # reading --------------------------------------------------------------------------------------

    def _open(
        self, path: str, mode: str = "rb", block_size: Any = None, autocommit: bool = True,
        cache_options: Any = None, **options: Any,
    ) -> ArtfsFile | IO[bytes]:
        if mode != "rb":
            _refuse(path)
        place = self._find(path)
        entry = place.entry if isinstance(place, _InVersion) else None
        if isinstance(entry, FileEntry):
            return ArtfsFile(
                self, path, entry, block_size=block_size or "default", cache_options=cache_options, **options
            )
        if isinstance(entry, RefEntry):
            return self._fetch(entry)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)

    def _fetch(self, entry: RefEntry) -> IO[bytes]:
        stream = tempfile.TemporaryFile(prefix="artfs-")  # noqa: SIM115 - its reader closes it
        try:
            self.session.references.fetch(entry, stream.fileno())
            stream.seek(0)
        except BaseException:
            stream.close()
            raise
        return stream

    # writing: never -------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        _refuse(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        if not (exist_ok and self.isdir(path)):
            _refuse(path)

    def rmdir(self, path: str) -> None:
        _refuse(path)

    def rm_file(self, path: str) -> None:
        _refuse(path)

    def _rm(self, path: str) -> None:
        _refuse(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        _refuse(path)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        _refuse(path2)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        _refuse(path1)

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        _refuse(path)


class ArtfsFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file of a version, open. Every byte that it gives was checked: of a large file in blocks of 256 KiB as they are
    needed, a small one (up to 1 MiB) whole. It stays readable when the version is deleted meanwhile.

    Reading raises BadBlobError for what does not match, and goes on elsewhere in the file.
    """

    def __init__(self, fs: ArtfsFileSystem, path: str, entry: FileEntry, **options: Any) -> None:
        store = fs.session.store
        self._checker = BlobChecker(entry.digest, entry.size, entry.blocks.hex(), store.read)
        self._whole = b""
        self._blob = store.open_blob(entry.digest)
        try:
            self._checker.prepare()
            super().__init__(fs, path, mode="rb", size=entry.size, **options)
        except BaseException:
            os.close(self._blob)
            self._blob = -1
            raise

    def _fetch_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, as far as the file goes."""
        end = min(end, self.size)
        if start >= end:
            return b""
        size = self._checker.block_size
        if self._checker.block_count == 1:
            self._whole = self._whole or self._block(0)
            return self._whole[start:end]
        first = start // size
        blocks = b"".join(self._block(index) for index in range(first, (end - 1) // size + 1))
        return blocks[start - first * size : end - first * size]

    def _block(self, index: int) -> bytes:
        offset, nbytes = self._checker.span(index)
        data = b""
        while len(data) < nbytes and (more := os.pread(self._blob, nbytes - len(data), offset + len(data))):
            data += more
        self._checker.check_block(index, data)
        return data

    def close(self) -> None:
        super().close()
        if getattr(self, "_blob", -1) >= 0:
            os.close(self._blob)
            self._blob = -1


@dataclass(frozen=True, slots=True)
class _InVersion:
    """A version, or what is at the path `inside` it ("": the version itself, whose `entry` is None)."""

    member: Member
    manifest: Manifest
    inside: str
    entry: Entry | None


def _follow(manifest: Manifest, inside: str, shown: str) -> Entry | None:
    """The entry at a path, whose links are followed; None for the root. Raises FileNotFoundError."""
    todo = inside.split("/")[::-1] if inside else []
    done: list[str] = []
    entry: Entry | None = None
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del done[-1:]
            continue
        if part in ("", "."):
            continue
        entry = manifest.get("/".join([*done, part]))
        if isinstance(entry, LinkEntry):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), shown)
            todo += os.fsdecode(entry.target).split("/")[::-1]
            continue
        if entry is None or (todo and not isinstance(entry, DirEntry)):
            raise _missing(shown, f"there is no {'/'.join([*done, part])} in the version")
        done.append(part)
    return manifest.get("/".join(done)) if done else None


def _listed_version(place: _InVersion, path: str) -> Iterator[Info]:
    manifest, entry = place.manifest, place.entry
    if entry is None:
        directory = manifest.top
    elif isinstance(entry, DirEntry):
        directory = Directory.of(manifest.source, entry)
    else:
        yield _file_info(place.member, path, entry)
        return
    for _, entry in directory.entries():
        name = os.fsdecode(entry.name)
        info = _file_info(place.member, f"{path}/{name}", entry)
        if isinstance(entry, LinkEntry):
            try:
                target = _follow(manifest, f"{place.inside}/{name}", path)
            except OSError:
                target = None
            # A link to a directory is shown as none: whoever walks the tree must not go in circles.
            if isinstance(target, FileEntry):
                info = _file_info(place.member, f"{path}/{name}", target)
            info["islink"] = True
        yield info


def _file_info(member: Member, shown: str, entry: Entry | None) -> Info:
    created = member.version.created_at
    if entry is None or isinstance(entry, DirEntry):
        digest = member.version.digest if entry is None else entry.digest
        return {**_directory(shown), "digest": digest, "created": created}
    info: Info = {"name": shown, "size": 0, "type": "other", "created": created}
    if isinstance(entry, FileEntry):
        info |= {"size": entry.size, "type": "file", "digest": entry.digest, "executable": entry.executable}
    elif isinstance(entry, RefEntry):
        info |= {"size": entry.size, "type": "file", "digest": entry.checksum, "uri": entry.uri}
    return info


def _version_info(shown: str, member: Member) -> Info:
    return {
        **_file_info(member, shown, None),
        "version": f"v{member.index}",
        "aliases": list(member.aliases),
    }


def _directory(shown: str) -> Info:
    return {"name": shown, "size": None, "type": "directory"}


def _missing(path: str, why: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"{os.strerror(errno.ENOENT)} ({why})", path)


def _refuse(path: object) -> NoReturn:
    shown = path if isinstance(path, str) else str(path)
    raise OSError(errno.EROFS, "artfs:// is read-only; log a new version with artfs.Artifact", shown)
