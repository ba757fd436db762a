"""The daemon's side of the control socket (messages: artfs.wire.control)."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import trio

from artfs.errors import (
    ArtfsError,
    ConflictError,
    DraftBusyError,
    NotFoundError,
    StorageError,
    UnavailableError,
    UsageError,
)
from artfs.wire.control import MAX_LINE, CommitOptions, Progress, Reply, Request, read_options, read_request
from artfsd.draftroots import Drafts
from artfsd.livedraft import LiveDraft
from artfsd.mountpoint import find_mount
from artfsd.notify import Notifier, Watcher
from artfsd.vfs import Vfs

log = logging.getLogger(__name__)

FLUSH_S = 5.0
"""How long an answer waits for the kernel to take its invalidations."""


class ControlServer:
    """Answers requests on the socket. One task a connection, one request a connection."""

    def __init__(
        self,
        vfs: Vfs,
        mountpoint: str,
        watcher: Watcher,
        notifier: Notifier,
        catch_up: Callable[[], None] = lambda: None,
        release: str = "",
        end: Callable[[], None] = lambda: None,
    ) -> None:
        """`catch_up`: has the catalog know all that changed until now; it may block. `release`: the version of artfs. `end`: has
        the daemon end."""
        self._release = release
        self._end = end
        self._is_ending = False
        self._vfs = vfs
        self._mountpoint = mountpoint
        self._watcher = watcher
        self._notifier = notifier
        self._catch_up = catch_up

    async def serve(self, path: str, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM) as listener:
            with suppress(FileNotFoundError):
                os.unlink(path)  # of a killed daemon: the lock says that there is no other
            mask = os.umask(0o177)
            try:
                await listener.bind(path)
            finally:
                os.umask(mask)
            listener.listen(16)
            task_status.started()
            # It waits, and goes on, while this process has no descriptors left: the mount must not end by that.
            await trio.serve_listeners(self._answer, [trio.SocketListener(listener)])

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                line = await _read_line(stream)
                if line is None:
                    return
                reply = await self._reply(line, stream)
                await stream.send_all(msgspec.json.encode(reply) + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the client left; what it asked for goes on or is done
            finally:
                if self._is_ending:
                    self._end()

    async def _reply(self, line: bytes, stream: trio.SocketStream) -> Reply:
        try:
            try:
                request = read_request(line)
            except UsageError as error:
                raise self._not_understood(error) from error
            result = await self._dispatch(request, stream)
            return Reply(result=result)
        except ArtfsError as error:
            fields: dict[str, Any] = {"kind": error.kind, "message": str(error)}
            if hasattr(error, "paths"):
                fields["paths"] = list(error.paths)
            return Reply(error=fields)
        except OSError as error:
            wrapped = StorageError.wrap(error, "the request")
            return Reply(error={"kind": wrapped.kind, "message": str(wrapped)})
        except Exception as error:
            log.exception("a control request failed")
            return Reply(error={"kind": "error", "message": f"the daemon failed ({error!r}); its log has the traceback"})

    def _not_understood(self, error: UsageError) -> UnavailableError:
        return UnavailableError(
            f"the daemon of {self._mountpoint} (artfs {self._release}) does not understand the request ({error}): if it is of "
            "another version than the command, unmount and mount again"
        )

    async def _dispatch(self, request: Request, stream: trio.SocketStream) -> dict[str, Any]:
        if request.op == "ping":
            return {"pid": os.getpid(), "mountpoint": self._mountpoint}
        if request.op == "status":
            return self._vfs.status()
        if request.op == "refresh":
            await trio.to_thread.run_sync(self._catch_up)
            await trio.to_thread.run_sync(self._watcher.look)
            await self._flush()
            return {}
        if request.op == "umount":
            return await self._umount()
        drafts, draft = self._draft(request.args)
        if request.op == "abandon":
            return await self._abandon(drafts, draft)
        try:
            options = read_options(request.args.get("options", {}))
        except UsageError as error:
            raise self._not_understood(error) from error
        try:
            return await self.commit(drafts, draft, options, stream)
        except UnavailableError as error:
            if not request.args.get("when_online"):
                raise UnavailableError(
                    f"{error}. The draft is as it was: commit it again later, or with --when-online"
                ) from error
            pending = msgspec.to_builtins(options)
            await trio.to_thread.run_sync(
                draft.staged.change_info, lambda info: msgspec.structs.replace(info, pending=pending, problem=None)
            )
            return {"pending": str(error)}

    def _draft(self, args: dict[str, Any]) -> tuple[Drafts, LiveDraft]:
        drafts = self._vfs.drafts
        if drafts is None:
            raise UnavailableError("another daemon of this state folder serves the drafts; ask that one (see `artfs status`)")
        project, name = args.get("project"), args.get("draft")
        if not isinstance(project, str) or not isinstance(name, str):
            raise UsageError("the request names no draft")
        draft = drafts.find(project, name)
        if draft is None:
            raise NotFoundError(f"there is no draft {project}/{name}; `artfs draft list` shows those that there are")
        return drafts, draft

    def _seal(self, drafts: Drafts, draft: LiveDraft) -> None:
        if draft.sealed:
            raise DraftBusyError(f"the draft {draft.staged.label} is being committed already")
        busy = draft.open_paths()
        if busy:
            raise DraftBusyError(
                f"files of the draft {draft.staged.label} are open for writing: {', '.join(busy[:5])}"
                f"{f' and {len(busy) - 5} more' if len(busy) > 5 else ''}; close them and try again",
                busy,
            )
        drafts.seal(draft)

    async def commit(
        self, drafts: Drafts, draft: LiveDraft, options: CommitOptions, stream: trio.SocketStream | None
    ) -> dict[str, Any]:
        """Commits, and returns the CommitReply as a dict. `stream`: gets progress lines. Raises ArtfsError; the draft goes on
        then."""
        self._seal(drafts, draft)
        send, receive = trio.open_memory_channel[Progress](64)
        token = trio.lowlevel.current_trio_token()
        phase = ""

        def tell(progress: Progress) -> None:
            nonlocal phase
            if progress.phase != phase:
                phase = progress.phase
                log.info("commit of draft %s: %s", draft.staged.label, phase)
            token.run_sync_soon(offer, progress)

        def offer(progress: Progress) -> None:
            try:
                send.send_nowait(progress)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the client reads slowly, or left; the next one counts

        try:
            async with trio.open_nursery() as nursery:
                if stream is not None:
                    nursery.start_soon(self._tell_progress, receive, stream)
                with trio.CancelScope(shield=True):
                    reply = await trio.to_thread.run_sync(drafts.commit_call, draft, options, tell)
                nursery.cancel_scope.cancel()
        except BaseException as error:
            drafts.not_ended(draft)
            if isinstance(error, BaseExceptionGroup):
                raise _first(error) from error
            raise
        self._notifier.send(drafts.ended(draft))
        log.info("committed draft %s as %s:%s", draft.staged.label, reply.collection, reply.version)
        await trio.to_thread.run_sync(self._watcher.look)
        await self._flush()
        result: dict[str, Any] = msgspec.to_builtins(reply)
        return result

    async def _tell_progress(self, receive: trio.MemoryReceiveChannel[Progress], stream: trio.SocketStream) -> None:
        try:
            async for progress in receive:
                await stream.send_all(msgspec.json.encode(Reply(progress=progress)) + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # a client that left does not stop the commit

    async def _abandon(self, drafts: Drafts, draft: LiveDraft) -> dict[str, Any]:
        self._seal(drafts, draft)
        try:
            await trio.to_thread.run_sync(draft.staged.abandon)
        except BaseException:
            drafts.not_ended(draft)
            raise
        self._notifier.send(drafts.ended(draft))
        await self._flush()
        return {}

    async def _flush(self) -> None:
        await trio.to_thread.run_sync(self._notifier.flush, FLUSH_S)

    async def _umount(self) -> dict[str, Any]:
        """The kernel ends a daemon by itself when nothing shows its file system any more. Bind mounts, and namespaces that were
        made while it was mounted, still do, and somebody may have taken only the mountpoint away; so it is ended from here."""

        def unmount() -> str:
            done = subprocess.run(
                ["fusermount3", "-u", "--", self._mountpoint], capture_output=True, text=True, timeout=30, check=False
            )
            if not done.returncode or find_mount(self._mountpoint) is None:
                return ""
            return done.stderr.strip() or f"fusermount3 exited {done.returncode}"

        said = await trio.to_thread.run_sync(unmount)
        if said:
            raise ConflictError(f"cannot unmount {self._mountpoint}: {said}")
        self._is_ending = True
        return {}


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _read_line(stream: trio.SocketStream) -> bytes | None:
    data = bytearray()
    while b"\n" not in data:
        chunk = await stream.receive_some(65536)
        if not chunk or len(data) > MAX_LINE:
            return None
        data += chunk
    return bytes(data.split(b"\n", 1)[0])


