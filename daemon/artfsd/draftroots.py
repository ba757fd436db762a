"""`drafts/` and `drafts/<project>/`: where drafts are begun, listed, abandoned, and committed by `mv`."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from artfs.errors import ArtfsError, DraftBusyError, InvalidNameError, NotFoundError
from artfs.model.names import check_alias
from artfs.store.base import Place, SendingBatch
from artfs.store.staging import DraftArea, StagedDraft
from artfs.transfer.begin import begin_draft
from artfs.transfer.journal import recover
from artfs.transfer.seal import commit_draft
from artfs.transfer.staged import unhashed_bytes
from artfs.wire.control import CommitOptions, CommitReply
from artfsd.collectiondir import CollectionDir
from artfsd.drafts import DraftDir
from artfsd.hashing import HashPool
from artfsd.inodes import Attr, DirHandle, FileHandle, Later, ListHandle, Node, refuse
from artfsd.livedraft import LiveDraft
from artfsd.names import ProjectDir
from artfsd.naming import Invalidation, NamesContext, decode
from artfsd.sending import DraftSender
from artfsd.versions import time_ns

if TYPE_CHECKING:
    from artfs.model.records import Content
    from artfs.store.base import LocalStore
    from artfs.store.floor import Floor
    from artfs.store.staging import HashLog

log = logging.getLogger(__name__)

Apply = Callable[[], list[Invalidation]]
"""Takes over, on the loop, what was read in a thread."""

MV_WAIT_S = 3.0
"""How long `mv` of a draft waits for hashes under way; a rename holds kernel locks."""

MV_UNHASHED = 256 * 1024 * 1024
"""How many bytes `mv` reads and hashes itself (after a restart, say) before it answers EBUSY."""

SHORT_S = 1.0
"""How long the kernel may keep names here: another process may begin or abandon a draft while no daemon owns them."""


class Drafts:
    """The drafts of one mount: staged ones that were looked at are live."""

    def __init__(
        self, area: DraftArea, ctx: NamesContext, store: LocalStore, pool: HashPool,
        notify: Callable[[list[Invalidation]], None], floor: Floor, *,
        send: Callable[[Place], SendingBatch] | None = None,
    ) -> None:
        """`floor`: what files of drafts leave free on their disk. `send`: begins a batch of a server's store, to which what
        is closed is sent at once."""
        self.area = area
        self.ctx = ctx
        self.store = store
        self.pool = pool
        self.notify = notify
        self.floor = floor
        self.live: dict[tuple[str, str, str], LiveDraft] = {}
        self._senders: dict[tuple[str, str], DraftSender] = {}
        self._sender_of: dict[int, DraftSender] = {}  # by the id of a draft's HashLog
        self._begin_sending = send
        if send is not None:
            pool.on_hashed = self._hashed
        self.root = DraftsDir(self)

    def close(self) -> None:
        for sender in self._senders.values():
            sender.close()

    def _hashed(self, owner: HashLog, content: Content, data: bytes | int) -> None:
        sender = self._sender_of.get(id(owner))
        if sender is not None:
            sender.offer(content, data)

    def _sender(self, staged: StagedDraft, begin: Callable[[Place], SendingBatch]) -> DraftSender:
        place = (staged.info.entity, staged.info.project)
        sender = self._senders.get(place)
        if sender is None:
            sender = self._senders[place] = DraftSender(lambda: begin(place), "/".join(place))
        return sender

    def recover_all(self) -> None:
        """At start: finishes or takes back commits that a killed process left, and removes its leftovers."""
        self.area.empty_trash()
        for draft in self.area.drafts(on_damaged=lambda error: log.error("%s", error)):
            draft.scratch.clear()
            try:
                with draft.locked():
                    if recover(self.store, draft, self.ctx.catalog):
                        log.info("the interrupted commit of draft %s had ended; its folder was removed", draft.label)
            except DraftBusyError as error:
                log.info("%s", error)
            except (ArtfsError, OSError) as error:
                log.error("the draft %s was left as it is: %s", draft.label, error)

    def find(self, project: str, name: str) -> LiveDraft | None:
        """The draft, made live. Blocking only in the small: reads one file. Raises DraftBusyError while another process
        commits it, which began when no daemon served it."""
        key = (self.ctx.entity, project, name)
        draft = self.live.get(key)
        if draft is None:
            staged = self.area.try_draft(*key)
            if staged is None:
                return None
            staged.check_unlocked()
            draft = self.live[key] = self._make_live(staged)
        return draft

    def _make_live(self, staged: StagedDraft) -> LiveDraft:
        base_ns = time_ns(datetime.fromisoformat(staged.info.began_at))
        draft = LiveDraft(staged, self.ctx.trees, self.store, self.pool, base_ns, self.floor)
        if self._begin_sending is not None:
            self._sender_of[id(draft.hashes)] = self._sender(staged, self._begin_sending)
        return draft

    def begin(self, project: str, name: str) -> Callable[[], StagedDraft]:
        """What to run in a thread to begin the draft `c` (empty) or `c:ALIAS` (that version's content)."""
        entity = self.ctx.entity
        collection, _, alias = name.partition(":")

        def make() -> StagedDraft:
            return begin_draft(self.area, self.ctx.catalog, entity, project, collection, alias or None, name)

        return make

    # ending --------------------------------------------------------------------------------------------------------
    def seal(self, draft: LiveDraft) -> None:
        """From here on nothing in the draft changes. Refuses while somebody ends it already."""
        if draft.dead:
            raise NotFoundError(f"there is no draft {draft.staged.label}")
        draft.check_writable()
        draft.sealed = True
        self.pool.drain()

    def commit_call(self, draft: LiveDraft, options: CommitOptions, on_progress: Any = None) -> CommitReply:
        """In a thread, after `seal`: waits for the hashes under way, then commits."""
        self.pool.wait_idle(draft.hashes)
        return commit_draft(
            self.ctx.catalog, self.store, draft.staged, options, busy=draft.open_paths(), on_progress=on_progress
        )

    def ended(self, draft: LiveDraft) -> list[Invalidation]:
        """On the loop, after a commit or when it was abandoned: the draft is gone."""
        draft.dead = True
        draft.sealed = False
        self._sender_of.pop(id(draft.hashes), None)
        self.ctx.table.forget([(draft.root.ino, 0)])  # lasting no more
        key = draft.staged.key
        if self.live.get(key) is draft:
            del self.live[key]
        project = self.root.children.get(key[1].encode())
        return [Invalidation(project.ino, key[2].encode())] if project is not None else []

    def not_ended(self, draft: LiveDraft) -> None:
        """On the loop, after a commit that failed."""
        draft.sealed = False
        draft.resync()


class DraftsDir(Node):
    """`drafts/`: a directory for each project that exists, and for those that were made here."""

    __slots__ = ("children", "drafts")
    is_dir = True

    def __init__(self, drafts: Drafts) -> None:
        super().__init__()
        self.drafts = drafts
        self.children: dict[bytes, DraftProjectDir] = {}
        drafts.ctx.table.add(self)

    def attr(self) -> Attr:
        return self.drafts.ctx.dir_attr(self.ino, self.drafts.ctx.started_ns)

    @property
    def lasting(self) -> bool:
        return True

    def _staged(self) -> list[str]:
        return self.drafts.area.projects(self.drafts.ctx.entity)

    def child(self, name: str) -> DraftProjectDir:
        key = name.encode()
        node = self.children.get(key)
        if node is None:
            node = self.children[key] = DraftProjectDir(self.drafts, name)
        return node

    def label(self) -> str:
        return "drafts"

    def lookup(self, name: bytes) -> Attr:
        text = decode(name)
        if name in self.children or text in self._staged():
            return self.child(text).attr()

        def found(project: Any) -> Attr:
            if project is None:
                refuse(errno.ENOENT)
            return self.child(text).attr()

        raise Later(lambda: self.drafts.ctx.catalog.try_project(self.drafts.ctx.entity, text), found)

    def open_dir(self) -> DirHandle:
        projects: list[str] | None = None

        def entries() -> list[tuple[bytes, Callable[[], Attr | None]]]:
            nonlocal projects
            if projects is None:

                def took(found: list[Any]) -> None:
                    nonlocal projects
                    projects = [project.name for project in found]

                raise Later(lambda: self.drafts.ctx.catalog.projects(self.drafts.ctx.entity), took, again=True)
            names = sorted({*projects, *self._staged()})
            projects = None
            return [(name.encode(), lambda name=name: self.child(name).attr()) for name in names]  # type: ignore[misc]

        return ListHandle(self.drafts.ctx.table, entries)

    def mkdir(self, name: bytes, mode: int) -> Attr:
        text = decode(name)
        if text in self._staged():
            refuse(errno.EEXIST)
        self.drafts.area.make_project(self.drafts.ctx.entity, text)
        return self.child(text).attr()

    def rmdir(self, name: bytes) -> None:
        text = decode(name)
        try:
            os.rmdir(self.drafts.area.root / self.drafts.ctx.entity / text)
        except FileNotFoundError:
            refuse(errno.EBUSY)  # only the catalog has the project: it always shows here
        self.children.pop(name, None)

    def create(self, name: bytes, mode: int, flags: int) -> tuple[FileHandle, Attr]:
        refuse(errno.EPERM)

    def symlink(self, name: bytes, target: bytes) -> Attr:
        refuse(errno.EPERM)

    def rename_from(self, name: bytes, target: Node, new_name: bytes, flags: int) -> None:
        refuse(errno.EPERM)


class DraftProjectDir(Node):
    """`drafts/<project>/`: its drafts. `mkdir` begins one, `rmdir` of an empty one abandons it, `mv` to the
    collection commits."""

    __slots__ = ("drafts", "name")
    is_dir = True

    def __init__(self, drafts: Drafts, name: str) -> None:
        super().__init__()
        self.drafts = drafts
        self.above = drafts.root.ino
        self.name = name
        drafts.ctx.table.add(self)

    def attr(self) -> Attr:
        return self.drafts.ctx.dir_attr(self.ino, self.drafts.ctx.started_ns)

    def forgotten(self) -> None:
        if self.drafts.root.children.get(self.name.encode()) is self:
            del self.drafts.root.children[self.name.encode()]

    def _root_attr(self, draft: LiveDraft) -> Attr:
        draft.root.above = self.ino
        attr = draft.root.attr()
        attr.entry_timeout = min(SHORT_S, self.drafts.ctx.timeout_s) if draft.dead else self.drafts.ctx.timeout_s
        return attr

    def label(self) -> str:
        return f"drafts/{self.name}"

    def lookup(self, name: bytes) -> Attr:
        draft = self.drafts.find(self.name, decode(name))
        if draft is None:
            refuse(errno.ENOENT)
        return self._root_attr(draft)

    def open_dir(self) -> DirHandle:
        def attr_of(name: str) -> Attr | None:
            try:
                draft = self.drafts.find(self.name, name)
            except DraftBusyError:
                return None
            return self._root_attr(draft) if draft is not None else None

        def entries() -> list[tuple[bytes, Callable[[], Attr | None]]]:
            names = self.drafts.area.names(self.drafts.ctx.entity, self.name)
            return [(name.encode(), lambda name=name: attr_of(name)) for name in names]  # type: ignore[misc]

        return ListHandle(self.drafts.ctx.table, entries)

    def mkdir(self, name: bytes, mode: int) -> Attr:
        text = decode(name)
        if self.drafts.find(self.name, text) is not None:
            refuse(errno.EEXIST)

        def made(_: StagedDraft) -> Attr:
            draft = self.drafts.find(self.name, text)
            if draft is None:
                refuse(errno.ENOENT)
            return self._root_attr(draft)

        raise Later(self.drafts.begin(self.name, text), made)

    def rmdir(self, name: bytes) -> None:
        draft = self.drafts.find(self.name, decode(name))
        if draft is None:
            refuse(errno.ENOENT)
        if draft.root.names():
            refuse(errno.ENOTEMPTY)
        self.drafts.seal(draft)

        def abandon() -> None:
            try:
                draft.staged.abandon()
            except BaseException:
                draft.sealed = False
                raise

        raise Later(abandon, lambda _: self.drafts.ended(draft) and None)

    def create(self, name: bytes, mode: int, flags: int) -> tuple[FileHandle, Attr]:
        refuse(errno.EPERM)

    def symlink(self, name: bytes, target: bytes) -> Attr:
        refuse(errno.EPERM)

    def unlink(self, name: bytes) -> None:
        refuse(errno.EISDIR if self.drafts.find(self.name, decode(name)) is not None else errno.ENOENT)

    def rename_from(self, name: bytes, target: Node, new_name: bytes, flags: int) -> None:
        """`mv drafts/p/c p/c/` (it arrives as a rename to p/c/c) or `mv drafts/p/c p/`: commits."""
        draft = self.drafts.find(self.name, decode(name))
        if draft is None:
            refuse(errno.ENOENT)
        alias = self._alias(draft, target, decode(new_name))
        busy = draft.open_paths()
        if busy:
            log.info("mv of draft %s: open for writing: %s", draft.staged.label, ", ".join(busy))
            refuse(errno.EBUSY)
        self.drafts.seal(draft)

        assert isinstance(target, (CollectionDir, ProjectDir))
        shown = target if isinstance(target, CollectionDir) else target.collection(draft.staged.info.collection)

        def commit() -> tuple[CommitReply, Apply] | BaseException:
            idle = self.drafts.pool.wait_idle(draft.hashes, MV_WAIT_S)
            if not idle or unhashed_bytes(draft.staged) > MV_UNHASHED:
                log.info("mv of draft %s: its files are still being hashed; use `artfs commit`", draft.staged.label)
                return OSError(errno.EBUSY, None)
            try:
                reply = self.drafts.commit_call(draft, CommitOptions(aliases=(alias,) if alias else ()))
                return reply, shown.reload()
            except (ArtfsError, OSError) as error:
                return error

        def done(result: tuple[CommitReply, Apply] | BaseException) -> None:
            if isinstance(result, BaseException):
                self.drafts.not_ended(draft)
                log.warning("mv of draft %s did not commit it: %s", draft.staged.label, result)
                raise result
            reply, apply = result
            log.info("mv committed draft %s as %s:%s", draft.staged.label, reply.collection, reply.version)
            # The kernel moved the draft's directory to the new name; it must ask again for both.
            self.drafts.notify([*apply(), *self.drafts.ended(draft), Invalidation(target.ino, new_name)])

        raise Later(commit, done, patient=True)

    def _alias(self, draft: LiveDraft, target: Node, new_name: str) -> str | None:
        info = draft.staged.info
        if isinstance(target, ProjectDir):
            if target.name == info.project and new_name == info.collection:
                return None
            refuse(errno.EINVAL)
        if not isinstance(target, CollectionDir):
            # Elsewhere among drafts `mv` copies instead; below a version nothing can be made.
            refuse(errno.EXDEV if isinstance(target, (DraftProjectDir, DraftDir)) else errno.EROFS)
        if (target.parent.name, target.name) != (info.project, info.collection):
            refuse(errno.EINVAL)
        if new_name in (info.name, info.collection):
            return None
        try:
            check_alias(new_name)
        except InvalidNameError:
            refuse(errno.EINVAL)
        return new_name
