"""`artfs.Artifact`: one class for users, in front of a draft or a logged version; here is what can be done
with it, in `facts` what is known of it.

It holds nothing but which of the two it is. Logging replaces the draft by the version.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import IO, Any

from artfs.api import checkout, ingest, references
from artfs.api.addvalue import add_value
from artfs.api.ambient import check_region, current_run, current_session, session_for
from artfs.api.collection import ArtifactCollection, need_collection
from artfs.api.draft import DraftArtifact, Policy, StrPath
from artfs.api.facts import ArtifactFacts, warn_use_as
from artfs.api.files import ArtifactFiles, single_file
from artfs.api.getvalue import find_entry, get_value
from artfs.api.ingest import LogTarget
from artfs.api.manifest import ManifestEntry
from artfs.api.media.base import Value
from artfs.api.newfile import new_file
from artfs.api.recorded import RecordedRun
from artfs.api.redraft import new_draft
from artfs.api.session import Session
from artfs.api.tracking import auto_run
from artfs.api.version import LoggedArtifact
from artfs.errors import (
    ConflictError,
)
from artfs.model.records import Member, Version
from artfs.settings import Settings


class Artifact(ArtifactFacts):
    """A dataset, a model or any other files, as one thing with a name and versions.

    Make one, fill it with the methods that begin with `add` and `new`, and log it (`run.log_artifact`, or
    `save`); or fetch one that is logged (`run.use_artifact`, `artfs.Api().artifact`). The properties that say
    where it is logged, and the methods that need that, raise ArtifactNotLoggedError until then. It is not an
    AttributeError, so `hasattr` does not take it for a missing attribute. Equality is identity.

    With policy "mutable" the bytes of what is added go into the store at once. Blobs of a draft are safe from
    `artfs gc` while the Artifact object lives; a sweep waits until it is logged, garbage-collected, or its
    process ends.
    """

    __slots__ = ("__weakref__",)

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: dict[str, Any] | str | None = None,
        incremental: bool = False,
        use_as: str | None = None,
        storage_region: str | None = None,
    ) -> None:
        """A draft. Nothing is read, written or opened (but the config file, if `storage_region` is given).

        Arguments:
            name: letters, digits, `_`, `-`, `.`; at most 128.
            type: such as "dataset" or "model"; the same characters. "job" and types that begin with "wandb-"
                are reserved. A collection has one type.
            description: free text; None: none.
            metadata: a JSON object (or its text) of at most 100 top-level keys. A deep copy is kept; NaN
                becomes None.
            incremental: when it is logged, its files are added to those of `latest` (replacing equal paths,
                removing nothing). Its own `digest` and `size` until then are of its own files only.
            use_as: deprecated, without effect.
            storage_region: the name of the store that takes the files. There is one, the state folder's; the
                setting `storage_region` names it ("default"). None: that one.
        Raises InvalidNameError, InvalidMetadataError, InvalidArgumentError (all ValueErrors), TypeError.
        """
        if use_as is not None:
            warn_use_as(2)
        region = None if storage_region is None else check_region(storage_region)
        self._state = DraftArtifact(
            name,
            type,
            description=description,
            metadata=metadata,
            incremental=incremental,
            sessions=current_session,
            region=region,
        )

    # filling a draft ------------------------------------------------------------------------------

    def add(self, obj: Value, name: StrPath, overwrite: bool = False) -> ManifestEntry:
        """Adds a table, an image or another value: its JSON under `name` and the suffix of its class (which the name
        may have already), and the files that belong to it under names made of their contents. `artifact[name] = obj`
        does the same.

        An object that this draft has already is not added again: its entry is returned, whatever the name. It is
        stored as it is now; what is done to it later does not change the draft.

        Arguments:
            obj: a Bokeh, JoinedTable, PartitionedTable, Table, Classes, ImageMask, BoundingBoxes2D, Audio, Image,
                Video, Html or Object3D.
            overwrite: replaces what was added under this name (also by the same object, before it changed). False:
                the entry that is there is returned, and nothing is added.
        Returns the entry of its JSON. Raises ArtifactFinalizedError; TypeError for another object; InvalidNameError;
        ConflictError when a directory has the name; ValueError for an image with boxes or masks but no classes, and
        for a 3-D file; InvalidArgumentError for a table that is too long; MissingExtraError; StorageError.
        """
        return add_value(self._draft("add"), obj, name, overwrite=overwrite)

    def __setitem__(self, name: StrPath, obj: Value) -> None:
        self.add(obj, name)

    def add_file(
        self,
        local_path: StrPath,
        name: StrPath | None = None,
        is_tmp: bool | None = False,
        skip_cache: bool | None = False,
        policy: Policy | None = "mutable",
        overwrite: bool = False,
    ) -> ManifestEntry:
        """Adds a file (a symbolic link is followed). Whether its owner may execute it is kept, nothing else
        of its status.

        Arguments:
            name: its path in the artifact; None or "": the last part of `local_path`.
            is_tmp: the name up to its first dot is replaced by the first 20 digits of the content's digest.
            skip_cache: without effect: there is no cache beside the store.
            policy: "mutable" (also None): the content is put into the store now. "immutable": the file is
                read when the artifact is saved, and must be there, unchanged (by size, mtime and inode) until
                then.
            overwrite: replaces another content that was added under this name.
        Raises ArtifactFinalizedError; InvalidArgumentError for a missing file, what is no file, and another
        policy; InvalidNameError; ConflictError when other content, or a directory, has the name (these are
        ValueErrors); SourceChangedError when the file changes while it is read; StorageError. The draft is as
        before then.
        """
        draft = self._draft("add_file")
        return ingest.add_file(
            draft, local_path, name, is_tmp=bool(is_tmp), policy=policy, overwrite=overwrite
        )

    def add_dir(
        self,
        local_path: StrPath,
        name: StrPath | None = None,
        skip_cache: bool | None = False,
        policy: Policy | None = "mutable",
        merge: bool = False,
    ) -> None:
        """Adds all files of a directory and of those below it, hidden ones included; nothing is ignored.

        A symbolic link that is relative and stays inside the directory is kept as one, another is followed;
        directories that hold nothing are kept.

        Arguments:
            name: the directory in the artifact; None or "": its root.
            skip_cache, policy: as for `add_file`.
            merge: replaces other content that was added under the same paths. Nothing is ever removed.
        Raises as `add_file`, and DraftInvalidError for sockets, pipes, devices, broken and endless links (it
        lists them). The draft is as before then.
        """
        ingest.add_dir(self._draft("add_dir"), local_path, name, policy=policy, merge=merge)

    def add_reference(
        self,
        uri: ManifestEntry | str,
        name: StrPath | None = None,
        checksum: bool = True,
        max_objects: int | None = None,
    ) -> list[ManifestEntry]:
        """Adds what a URI names without copying it: its bytes stay where they are. Returns the new entries.

        Readers get the bytes from there, and only while they are what they were (docs/references.md). A
        directory of `file://`, and a prefix of an object store, becomes an entry for each object in it.

        Arguments:
            uri: `http(s)://` (size and checksum are Content-Length and ETag), `s3://`, `gs://`,
                `https://*.blob.core.windows.net` (size, ETag and version id; one in the URI is honoured),
                `file://` (size and SHA-256); or an entry of a logged artifact (or its `ref_url()`). Of any
                other scheme only the URI is recorded, and nobody can fetch it.
            name: its path in the artifact, or that of the directory for many; None: the last part of the URI,
                or the artifact's root for many. URIs of other schemes need one.
            checksum: False: nothing is asked and nothing checked later; a directory or prefix is one entry then,
                which nobody can read.
            max_objects: more than this many objects are an error; None and 0: 10,000,000.
        Raises ArtifactFinalizedError; InvalidArgumentError (a ValueError) for what is no URI, a missing name, a
        missing file, or too many objects; ReferenceMissingError, ReferenceRefusedError, UnavailableError when the
        source says so; ReferenceUnsupportedError when a package is missing; ConflictError when something else has
        one of the names; ArtifactNotLoggedError for an entry of a draft; TypeError. The draft is as before then.
        """
        return references.add_reference(
            self._draft("add_reference"), uri, name, checksum=checksum, max_objects=max_objects
        )

    def new_file(
        self, name: StrPath, mode: str = "x", encoding: str | None = None
    ) -> AbstractContextManager[IO[Any]]:
        """A new file to write to; it is added when the `with` block ends, and not when that raises.

        Arguments:
            name: its path in the artifact.
            mode: as for `open`: "x" (the name must be new), "w" (replaces what was added under it), "a", "r+"
                (begin with what was added), each with "b", "+" as wanted.
            encoding: for text; None: UTF-8.
        Raises ArtifactFinalizedError; ConflictError (a ValueError) for "x" and a name that is taken;
        PathNotFoundError (a FileNotFoundError) for "r" and one that is not; InvalidNameError;
        InvalidArgumentError for another mode.
        """
        return new_file(self._draft("new_file"), name, mode, encoding)

    def new_draft(self) -> Artifact:
        """A draft with the same content, to be changed and logged as the next version of the collection that this
        one was logged to (of a link: of its source). Logged unchanged, it makes no new version.

        It has this one's type, description and metadata, not its aliases, tags and ttl. No file is read or copied.
        Raises ArtifactNotLoggedError; NotFoundError when the version was deleted.
        """
        return _behind(new_draft(self._logged("new_draft")))

    def remove(self, item: StrPath | ManifestEntry) -> None:
        """Removes a file, or a directory with all below it.

        Raises ArtifactFinalizedError; PathNotFoundError (a FileNotFoundError) when there is neither.
        """
        self._draft("remove").remove(item)

    def finalize(self) -> None:
        """From now on nothing can be added or removed. Logging does this by itself."""
        if isinstance(self._state, DraftArtifact):
            self._state.finalized = True

    def get_added_local_path_name(self, local_path: StrPath) -> str | None:
        """The path in this artifact of a file of this machine that was added to it by `add_file` or `add_dir`, also
        after it was logged; None for any other file, and always for an artifact that was fetched."""
        return self._state.added.name_of(local_path)

    # logging --------------------------------------------------------------------------------------

    def is_draft(self) -> bool:
        """Whether it is not logged yet."""
        return isinstance(self._state, DraftArtifact)

    def save(self, project: str | None = None, settings: Settings | None = None) -> None:
        """Logs a draft; persists changes of description, metadata, ttl, aliases and tags of a logged one.

        A draft is logged by the current run, else by one of type "auto" that is made for it. When this
        returns, the version is durable and this object is it; when it raises, there is no version. Content
        that `latest` has already makes no new version: this object becomes that one, and the draft's
        description, metadata and ttl are dropped.

        Arguments:
            project: for a draft outside a run; None: the settings' (of `new_draft`: where its version was logged).
            settings: for the run that is made; None: from the config file and the environment.
        Raises SourceChangedError for a file that was added with policy "immutable" and changed;
        TypeConflictError when the collection has another type; ConflictError (a ValueError) when an incremental one
        has a file where `latest` has a directory, or the other way round; NotFoundError for a logged artifact that was
        deleted; InvalidNameError, InvalidMetadataError, StorageError, CatalogError.
        """
        state = self._state
        if isinstance(state, LoggedArtifact):
            state.save()
        elif run := current_run():
            log(self, run.target())
        else:
            base = state.base
            session = state.deposit.session if base and state.deposit and not settings else session_for(settings)
            place = base.project if base else session.settings.project
            with auto_run(session, project or place, base.entity if base else None) as made:
                log(self, made.target())

    def wait(self, timeout: float | None = None) -> Artifact:
        """Returns this artifact once it is logged, which it is as soon as `save` or `log_artifact` returned.

        One that `upsert_artifact` took is durable, too, though it stays a draft. `timeout` (seconds) is never used up.
        Raises ArtifactNotLoggedError for any other draft.
        """
        if not (isinstance(self._state, DraftArtifact) and self._state.is_part):
            self._logged("wait")
        return self

    # reading --------------------------------------------------------------------------------------

    def get_entry(self, name: StrPath) -> ManifestEntry:
        """The entry at the path `name`; of a table or another value also without its suffix. Raises
        ArtifactNotLoggedError, PathNotFoundError (a KeyError)."""
        return find_entry(self._logged("get_entry"), name)

    def get_path(self, name: StrPath) -> ManifestEntry:
        """Deprecated: `get_entry`."""
        self._logged("get_path")
        warnings.warn("get_path is deprecated; use get_entry", DeprecationWarning, stacklevel=2)
        return self.get_entry(name)

    def get(self, name: str) -> Value | None:
        """The table, image or other value that was added as `name`, with or without its suffix; a new object each
        time. None when there is none: also for a file that is none. `artifact[name]` does the same.

        Files that belong to it are read when they are asked for; a table is read whole.
        Raises ArtifactNotLoggedError; InvalidNameError; BadObjectError when what is there is malformed;
        MissingExtraError for arrays in a table; BlobMissingError, StorageError.
        """
        return get_value(self._logged("get"), name)

    def __getitem__(self, name: str) -> Value | None:
        return self.get(name)

    def files(
        self, names: list[str] | None = None, per_page: int = 50, start: str | None = None
    ) -> ArtifactFiles:
        """The files and references, to iterate over, index, slice and count; each has a name, size, digest and
        `download`. Symbolic links are not among them (`manifest.entries` has all).

        Arguments:
            names: only those with these paths, in this order; None: all, in the order of directories. Paths
                that are not in the artifact are left out.
            per_page: how many are read from the store at a time.
            start: goes on after a list that ended early: its `cursor`.
        Raises ArtifactNotLoggedError; InvalidArgumentError for a `per_page` below 1 and a `start` that is not of
        this artifact; InvalidNameError.
        """
        return ArtifactFiles(self._logged("files"), names, per_page=per_page, start=start)

    def file(self, root: StrPath | None = None) -> str:
        """Downloads the one file that the artifact holds; returns the path of the copy.

        `root`: a directory, made when missing; None: `name` in the settings' artifact_dir (`./artifacts`).
        Raises ArtifactNotLoggedError; InvalidArgumentError (a ValueError) when there is more than one file, or none;
        what `download` raises.
        """
        return single_file(self._logged("file"), root)

    def download(
        self,
        root: StrPath | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: StrPath | None = None,
        multipart: bool | None = None,
    ) -> str:
        """Copies the files (reflinks, where the file system can) to a directory; returns it. Every byte is
        verified.

        Files that are there already with the right content are left untouched, others of the same paths are
        replaced, and what does not belong to the artifact stays. Interrupted, it leaves no incomplete file
        under its name.

        Arguments:
            root: the directory, made when missing; None: `source_name` in the settings' artifact_dir
                (`./artifacts`).
            allow_missing_references: leaves out references that cannot be fetched, and warns in the log.
            skip_cache: without effect: files come straight from the store on this machine.
            multipart: False: one file after the other; otherwise several at once, whatever their sizes.
            path_prefix: only paths that begin with this text ("a/b" also means "a/bc").
        Raises ArtifactNotLoggedError; ConflictError (a ValueError) when a directory is where a file should
        be, or the other way round; for references what their sources say (ReferenceMissingError,
        ReferenceChangedError, ReferenceRefusedError, ReferenceUnsupportedError, UnavailableError), after all else was
        downloaded; BlobMissingError, CorruptError, StorageError.
        """
        return checkout.download(
            self._logged("download"),
            root,
            path_prefix,
            allow_missing_references=allow_missing_references,
            workers=1 if multipart is False else None,
        )

    def checkout(self, root: StrPath | None = None) -> str:
        """Makes a directory hold the artifact's files and nothing else; returns it.

        What is there already and right stays as it is; everything else in the directory is deleted, once the artifact's
        files are all there. So it refuses a directory that holds something and that artfs neither made nor found empty
        (by `download` or `checkout`), `/`, a home directory, artfs's own state folder, a mount, and what holds one of
        these.

        `root`: made when missing; None: the collection's name in the settings' artifact_dir (`./artifacts`).
        Raises ArtifactNotLoggedError; ConflictError (a ValueError) for a directory that it refuses; what `download`
        raises.
        """
        return checkout.checkout(self._logged("checkout"), root)

    def verify(self, root: StrPath | None = None) -> None:
        """Checks that a directory holds exactly the artifact's files, by reading all of them.

        `root` None: where `download` puts it by default; downloaded there first if that directory does not
        exist.
        Raises ArtifactNotLoggedError; VerificationError (a ValueError) that lists every file that is missing,
        changed, or not of the artifact.
        """
        checkout.verify(self._logged("verify"), root)

    def json_encode(self) -> dict[str, Any]:
        """What stands for the artifact in a run's config: a dict of JSON values. Raises ArtifactNotLoggedError."""
        return self._logged("json_encode").json()

    # its place in the catalog ---------------------------------------------------------------------

    @property
    def source_artifact(self) -> Artifact:
        """Of a link: the artifact as it was logged, fetched at each access; of anything else: itself."""
        state = self._logged("source_artifact")
        source = state.source()
        return self if source is state else _behind(source)

    @property
    def linked_artifacts(self) -> list[Artifact]:
        """The links of a version, the oldest first, at most 500, fetched at each access; none for a link."""
        return [_behind(link) for link in self._logged("linked_artifacts").links()]

    @property
    def collection(self) -> ArtifactCollection:
        """The collection that it was fetched from (for a link: where it is linked to), else the one that it was logged to,
        fetched at each access. Raises NotFoundError when it was deleted."""
        return self._collection_of(self._logged("collection").member)

    @property
    def source_collection(self) -> ArtifactCollection:
        """The collection that it was logged to, fetched at each access. Raises NotFoundError when it was deleted."""
        return self._collection_of(self._logged("source_collection").member.version)

    def _collection_of(self, place: Member | Version) -> ArtifactCollection:
        session = self._logged("collection").session
        return need_collection(session, place.entity, place.project, place.collection, None, logged)

    def logged_by(self) -> RecordedRun | None:
        """The run that made the version; None when none did. Raises ArtifactNotLoggedError."""
        state = self._logged("logged_by")
        run_id = state.member.version.run_id
        return None if run_id is None else RecordedRun(state.session, state.session.catalog.run(run_id), logged)

    def used_by(self) -> list[RecordedRun]:
        """The runs that used the version, be it as itself or through a link, in the order of their first use. Raises
        ArtifactNotLoggedError."""
        state = self._logged("used_by")
        users = state.session.catalog.used_by(state.member.version.id)
        return [RecordedRun(state.session, record, logged) for record in users]

    def delete(self, delete_aliases: bool = False) -> None:
        """Deletes the version and its links; of a link, only the link. `artfs gc` frees what nothing else
        needs.

        `delete_aliases`: of a version that has aliases, too (`latest` moves to the newest one that stays); no
        matter for a link. Raises ArtifactNotLoggedError, AliasInUseError, NotFoundError when it is gone
        already.
        """
        self._logged("delete").delete(delete_aliases=delete_aliases)

    def link(self, target_path: str, aliases: str | Iterable[str] | None = None) -> Artifact:
        """Links it to a collection of links (a portfolio), made when missing; of a link, what it links to is
        linked.

        A draft is logged first. `latest` moves to it there, and so do `aliases`. Linking again adds aliases.

        Arguments:
            target_path: `[[ENTITY/]PROJECT/]COLLECTION`; without them: the artifact's own entity, and the
                settings' project.
        Returns the artifact as seen there. Raises InvalidNameError; ConflictError when versions are logged to
        that collection; TypeConflictError when it has another type; what `save` raises.
        """
        if self.is_draft():
            self.save()
        state = self._logged("link")
        project = state.session.settings.project
        return logged(state.link(target_path, aliases, entity=state.member.version.entity, project=project))

    def unlink(self) -> None:
        """Takes a link out of its collection. Raises ArtifactNotLoggedError; ConflictError (a ValueError)
        when it is none."""
        self._logged("unlink").unlink()


def _behind(state: DraftArtifact | LoggedArtifact) -> Artifact:
    artifact = Artifact.__new__(Artifact)
    artifact._state = state
    return artifact


def logged(state: LoggedArtifact) -> Artifact:
    """The user's side of a logged artifact."""
    return _behind(state)


def logged_state(artifact: Artifact, asked: str) -> LoggedArtifact:
    """What is behind a logged artifact. Raises ArtifactNotLoggedError that names `asked`."""
    return artifact._logged(asked)


def log(
    artifact: Artifact,
    target: LogTarget,
    aliases: str | Iterable[str] | None = None,
    tags: str | Iterable[str] | None = None,
    distributed_id: str | None = None,
) -> None:
    """Logs a draft, as `ingest.log_draft` does; the object becomes the version. One that is logged keeps its
    content: it gets the aliases and tags, and its unsaved changes are saved.

    Raises ConflictError for an artifact that is logged elsewhere than in the target's project, and for a draft of
    such a one.
    """
    draft = artifact._state
    if isinstance(draft, DraftArtifact):
        with draft.lock:
            if artifact._state is draft:  # else another thread logged it, while this one waited
                _check_target(draft, target)
                committed = ingest.log_draft(target, draft, aliases, tags, distributed_id)
                version = LoggedArtifact(target.session, committed.member)
                version.added = draft.added
                artifact._state = version
                return
    state = artifact._logged("log_artifact")
    source = state.member.version
    if (source.entity, source.project) != (target.entity, target.project):
        raise ConflictError(
            f"{state.member.qualified_name} is logged in {source.entity}/{source.project} already; a run "
            f"of {target.entity}/{target.project} cannot log it (it can link it)"
        )
    check_home(state, target.session)
    state.label(aliases, tags)
    if target.run_id is not None:
        target.session.catalog.record_log(target.run_id, source.id)


def add_part(artifact: Artifact, target: LogTarget, aliases: str | Iterable[str] | None, distributed_id: str) -> None:
    """Keeps a draft as a part of a version, as `ingest.add_part` does. Raises ArtifactFinalizedError for one that is
    logged."""
    draft = artifact._draft("upsert_artifact")
    _check_target(draft, target)
    ingest.add_part(target, draft, aliases, distributed_id)
    draft.distributed_id = distributed_id


def _check_target(draft: DraftArtifact, target: LogTarget) -> None:
    base = draft.base
    if base and (base.entity, base.project) != (target.entity, target.project):
        raise ConflictError(
            f"this draft of {draft.name} began with a version of {base.entity}/{base.project}; a run of "
            f"{target.entity}/{target.project} cannot log it"
        )
    if draft.region is not None:
        check_region(draft.region, target.session.settings)


def check_home(state: LoggedArtifact, session: Session) -> None:
    """Raises ConflictError when the artifact is in another state folder than the session's."""
    mine, theirs = session.settings.home, state.session.settings.home
    if mine != theirs:
        raise ConflictError(f"{state.name} is in the state folder {theirs}, but this run is in {mine}")
