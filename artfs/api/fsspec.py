"""`artfs://PROJECT/COLLECTION:ALIAS/PATH` for whatever speaks fsspec: pandas, pyarrow, Dask, Hugging Face datasets.

    pandas.read_csv("artfs://flowers/photos:latest/labels.csv")

Read-only. The names are those of the mount, with `COLLECTION:ALIAS` for its `COLLECTION/ALIAS`: `artfs://` lists the
projects of the entity, and a project the versions and aliases of its collections; `artfs://@ENTITY/PROJECT/…` are those of
another entity. ALIAS may be `vN` or `@TIME`, and must be there. An alias is looked up anew by every call, so
`vN` is what a program takes that must not notice how an alias moves; an open file stays in its version, also when it is
pickled. A reference is fetched from its source, whole and checked, when it is opened.

Symbolic links are followed, as fsspec does in a folder of this machine: a link to a directory is listed as one. Only those
that lead back to where the listing came through are not: whoever walks the tree must not go in circles.

Importing this module needs `artfs[fsspec]`; fsspec finds it by its entry point.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from artfs.api.ambient import session_for
from artfs.api.session import Session
from artfs.errors import ArtfsError, InvalidNameError, NotFoundError
from artfs.model.digests import digest_bytes
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry
from artfs.model.manifest import Manifest
from artfs.model.names import parse_name
from artfs.model.records import Member, Project
from artfs.model.tree import Directory
from artfs.references.uris import has_digest
from artfs.settings import load_settings
from artfs.transfer.checkedbytes import CheckedBytes

_MAX_LINKS = 40
"""As many symbolic links as Linux follows on one path."""

_LINE = 8192
"""Bytes that are looked through at once for the end of a line."""

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

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return stripped.lstrip("/") if isinstance(stripped, str) else stripped  # a list's were stripped one by one

    def __dask_tokenize__(self) -> object:
        # fsspec's own token differs in every thread and process, and so would all names that Dask makes of it.
        settings = self.session.settings
        return type(self).__qualname__, settings.server or str(settings.home), settings.entity

    # what there is --------------------------------------------------------------------------------

    def info(self, path: str, **options: Any) -> Info:
        """name, size (0 for directories; None where a reference's source did not tell), type ("file", "directory";
        "other" for a link that leads nowhere or in a circle, where a directory lists it), mode and mtime (seconds; its
        version's commit) as in the mount, and what else is known: digest and ETag (the same), executable, islink, uri,
        version, aliases, created. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        place = self._find(path)
        if isinstance(place, _InVersion):
            if place.inside:
                return place.info(path)
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

    # fsspec's own take any error for "no", also that of a catalog which cannot be read.
    def exists(self, path: str, **options: Any) -> bool:
        try:
            self.info(path)
        except OSError:
            return False
        return True

    def isfile(self, path: str) -> bool:
        return self.exists(path) and self.info(path)["type"] == "file"

    def du(self, path: str, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **options: Any) -> Any:
        """Bytes below a path in all, or of each file (`total` False). References of unknown size count as 0."""
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        sizes = {name: info["size"] or 0 for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    def checksum(self, path: str) -> int:
        """Of the content: equal files have equal ones. Raises FileNotFoundError."""
        return int(self.ukey(path)[:16], 16)

    def ukey(self, path: str) -> str:
        """64 hexadecimal digits: the digest of a file, or of a version or a directory in it; of a reference to a server one
        of what the server said (another at every call where it said nothing: what it has now nobody knows); of other
        directories one of their names. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        place = self._find(path)
        if not isinstance(place, _InVersion):
            return digest_bytes("\n".join(self.ls(path, detail=False)).encode(errors="surrogateescape"))
        entry = place.entry
        if not isinstance(entry, RefEntry):
            return str(place.info(path)["digest"])
        if has_digest(entry.uri) and entry.checksum:
            return entry.checksum
        if not (entry.checksum or entry.version_id):
            return secrets.token_hex(32)
        said = (entry.uri, entry.checksum, entry.version_id)
        return digest_bytes("\0".join(said).encode(errors="surrogateescape"))

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
        return _InVersion(member, manifest, inside, _follow(manifest, inside, path))

    # reading --------------------------------------------------------------------------------------

    def _open(
        self, path: str, mode: str = "rb", block_size: Any = None, autocommit: bool = True,
        cache_options: Any = None, **options: Any,
    ) -> ArtfsFile | FetchedFile:
        if mode != "rb":
            refuse(path)
        place = self._find(path)
        if isinstance(place, _InVersion):
            entry = place.entry
            if isinstance(entry, FileEntry):
                options |= {"block_size": block_size or "default", "cache_options": cache_options}
                return ArtfsFile(self, path, entry, place.info(path), **options)
            if isinstance(entry, RefEntry):
                return _fetched(self, path, entry)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """The bytes from `start` up to `end`, which count from the file's end when negative. Raises FileNotFoundError."""
        with self.open(path, "rb", **{"cache_type": "none", **options}) as stream:
            return _slice(stream, start, end)

    def cat_ranges(
        self, paths: list[str], starts: Any, ends: Any, max_gap: int | None = None, on_error: str = "return", **options: Any
    ) -> list[Any]:
        """As cat_file, for each path; ranges of one path are of one version. `starts`, `ends`: lists, or what counts for
        all paths. `on_error`: "return" puts an error in the place of bytes, "raise" raises the first."""
        if not isinstance(paths, list):
            raise TypeError(f"paths must be a list, not {type(paths).__name__}")
        wanted: dict[str, list[int]] = {}
        for at, path in enumerate(paths):
            wanted.setdefault(path, []).append(at)
        first = starts if isinstance(starts, list) else [starts] * len(paths)
        last = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(first) == len(last) == len(paths):
            raise ValueError("paths, starts and ends must have the same length")
        found: list[Any] = [b""] * len(paths)
        for path, places in wanted.items():
            try:
                with self.open(path, "rb", **{"cache_type": "none", **options}) as stream:
                    for at in places:
                        found[at] = _slice(stream, first[at], last[at])
            except (ArtfsError, OSError) as error:
                if on_error != "return":
                    raise
                for at in places:
                    found[at] = error
        return found

    # writing: never -------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        if self.exists(path):  # which counts before the other, as in a read-only mount
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        refuse(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        if not (exist_ok and self.isdir(path)):
            self.mkdir(path)

    def rmdir(self, path: str) -> None:
        refuse(path)

    def rm_file(self, path: str) -> None:
        refuse(path)

    def _rm(self, path: str) -> None:
        refuse(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        refuse(path)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        refuse(path2)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        refuse(path1)

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        refuse(path)


class ArtfsFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file of a version, open. Every byte that it gives was checked: of a large file in blocks of 256 KiB as they are
    needed (and no more is fetched from a server), a small one (up to 1 MiB) whole. It stays readable when the version is
    deleted meanwhile.

    Reading raises BadBlobError for what does not match, and goes on elsewhere in the file.
    """

    def __init__(self, fs: ArtfsFileSystem, path: str, entry: FileEntry, info: Info, **options: Any) -> None:
        """`info`: what `details` shall be. `options`: of AbstractBufferedFile."""
        options.pop("size", None)  # fsspec's caches tell what they believe
        self._entry = entry
        self._options = options
        self._bytes: CheckedBytes | None = fs.session.open_checked(entry.content)
        try:
            super().__init__(fs, path, mode="rb", size=entry.size, **options)
        except BaseException:
            self._bytes.close()
            self._bytes = None
            raise
        self.details = info

    def __reduce__(self) -> Any:
        # By its content: its path may lead to another version when it is opened again.
        return _reopened, (self.fs, self.path, self._entry, self.details, self._options, self.loc)

    def readline(self, limit: int | None = -1) -> bytes:
        """Up to the next line feed and with it, at most `limit` bytes."""
        # fsspec's own copies a whole buffer of 5 MiB for each line.
        found: list[bytes] = []
        left = self.size - self.loc if limit is None or limit < 0 else limit
        while left > 0 and (part := self.read(min(left, _LINE))):
            at = part.find(b"\n") + 1
            if at:
                self.seek(at - len(part), os.SEEK_CUR)
                return b"".join([*found, part[:at]])
            found.append(part)
            left -= len(part)
        return b"".join(found)

    def _fetch_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, as far as the file goes."""
        if self._bytes is None:
            raise ValueError("I/O operation on closed file")
        return self._bytes.read(start, end - start)

    def close(self) -> None:
        super().close()
        held = getattr(self, "_bytes", None)  # None: also when it could not be opened
        if self.closed and held is not None:
            self._bytes = None
            held.close()


class FetchedFile(io.BufferedReader):
    """A reference, fetched and checked: a file without a name, which is gone when it is closed.

    Attributes:
        fs, path, size: as of ArtfsFile.
    """

    def __init__(self, fs: ArtfsFileSystem, path: str, entry: RefEntry, raw: io.FileIO) -> None:
        super().__init__(raw)
        self.fs = fs
        self.path = path
        self.size = os.fstat(raw.fileno()).st_size
        self._entry = entry

    def __reduce__(self) -> Any:
        return _fetched, (self.fs, self.path, self._entry, self.tell())


def _reopened(fs: ArtfsFileSystem, path: str, entry: FileEntry, info: Info, options: Any, at: int) -> ArtfsFile:
    stream = ArtfsFile(fs, path, entry, info, **options)
    stream.seek(at)
    return stream


def _fetched(fs: ArtfsFileSystem, path: str, entry: RefEntry, at: int = 0) -> FetchedFile:
    with tempfile.TemporaryFile(prefix="artfs-") as unnamed:
        fs.session.references.fetch(entry, unnamed.fileno())
        stream = FetchedFile(fs, path, entry, io.FileIO(os.dup(unnamed.fileno()), "rb"))
    stream.seek(at)
    return stream


def _slice(stream: Any, start: int | None, end: int | None) -> bytes:
    first, last, _ = slice(start, end).indices(stream.size)
    stream.seek(first)
    data: bytes = stream.read(max(last - first, 0))
    return data


@dataclass(frozen=True, slots=True)
class _InVersion:
    """A version, or what is at the path `inside` it ("": the version itself). `real`: that path without links."""

    member: Member
    manifest: Manifest
    inside: str
    real: str

    @property
    def entry(self) -> Entry | None:
        """None: the root."""
        return self.manifest.get(self.real) if self.real else None

    def info(self, shown: str) -> Info:
        info = _file_info(self.member, shown, self.entry)
        if self.real != self.inside:
            above, _, name = self.inside.rpartition("/")
            if isinstance(self.manifest.get(f"{_follow(self.manifest, above, shown)}/{name}".lstrip("/")), LinkEntry):
                info["islink"] = True
        return info


def _follow(manifest: Manifest, inside: str, shown: str) -> str:
    """A path without its links. Raises FileNotFoundError; OSError (ELOOP)."""
    todo = inside.split("/")[::-1] if inside else []
    done: list[str] = []
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
    return "/".join(done)


def _listed_version(place: _InVersion, path: str) -> Iterator[Info]:
    manifest, entry = place.manifest, place.entry
    if entry is None:
        directory = manifest.top
    elif isinstance(entry, DirEntry):
        directory = Directory.of(manifest.source, entry)
    else:
        yield place.info(path)
        return
    for _, entry in directory.entries():
        name = os.fsdecode(entry.name)
        if isinstance(entry, LinkEntry):
            yield _link_info(place, name, f"{path}/{name}")
        else:
            yield _file_info(place.member, f"{path}/{name}", entry)


def _link_info(place: _InVersion, name: str, shown: str) -> Info:
    manifest, inside = place.manifest, place.inside
    target: Entry | None = None
    try:
        real = _follow(manifest, f"{inside}/{name}", shown)
        target = manifest.get(real) if real else None
        if isinstance(target, DirEntry) and real in {_follow(manifest, above, shown) for above in _above(inside)}:
            target = None
    except OSError:
        target = None
    info = _file_info(place.member, shown, target or LinkEntry(os.fsencode(name), b"."))
    return info | {"islink": True}


def _above(inside: str) -> Iterator[str]:
    """The directories through which a path goes, its last one included, without the root."""
    while inside:
        yield inside
        inside = inside.rpartition("/")[0]


def _file_info(member: Member, shown: str, entry: Entry | None) -> Info:
    created = member.version.created_at
    info: Info = {"name": shown, "size": 0, "type": "other", "created": created, "mtime": created.timestamp()}
    if entry is None or isinstance(entry, DirEntry):
        digest = member.version.digest if entry is None else entry.digest
        return info | {**_directory(shown), "digest": digest}
    if isinstance(entry, FileEntry):
        mode = stat.S_IFREG | (0o755 if entry.executable else 0o644)
        info |= {"size": entry.size, "type": "file", "mode": mode, "digest": entry.digest, "executable": entry.executable}
    elif isinstance(entry, RefEntry):
        info |= {"size": entry.size, "type": "file", "mode": stat.S_IFREG | 0o644, "digest": entry.checksum, "uri": entry.uri}
    if info.get("digest"):
        info["ETag"] = info["digest"]  # by which Hugging Face datasets knows that a file has changed
    return info


def _version_info(shown: str, member: Member) -> Info:
    return {
        **_file_info(member, shown, None),
        "version": f"v{member.index}",
        "aliases": list(member.aliases),
    }


def _directory(shown: str) -> Info:
    return {"name": shown, "size": 0, "type": "directory", "mode": stat.S_IFDIR | 0o755}


def _missing(path: str, why: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"{os.strerror(errno.ENOENT)} ({why})", path)


def refuse(path: object) -> NoReturn:
    """Raises OSError (EROFS)."""
    shown = path if isinstance(path, str) else str(path)
    raise OSError(errno.EROFS, "artfs:// is read-only; log a new version with artfs.Artifact", shown)
