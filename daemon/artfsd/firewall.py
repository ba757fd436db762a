"""The one wrapper around every handler. It numbers and counts requests, runs what blocks in a thread under the deadline, and
turns every error into an errno: a foreseen one by the table, any other into EIO with a traceback in the log. An exception that
left a handler would end the mount.
"""

from __future__ import annotations

import errno
import functools
import logging
import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import CodeType
from typing import Any, NamedTuple

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, StatvfsData

from artfsd.errnos import errno_of
from artfsd.inodes import Later, Told, Wait
from artfsd.logs import REQUEST
from artfsd.observe import Observer, brief
from artfsd.shim import LoopShim
from artfsd.vfs import Vfs

log = logging.getLogger("artfsd.operations")  # what is said is of an operation

MAX_RETRIES = 1000
"""How often an operation may ask for one thing more (a tree page each time) before it counts as stuck."""


_NONE = frozenset({type(None)})
_ENTRY = frozenset({EntryAttributes})
_REPLIES: dict[str, frozenset[type]] = {
    **dict.fromkeys(("lookup", "mkdir", "mknod", "symlink", "link", "getattr", "setattr"), _ENTRY),
    "opendir": frozenset({int}),
    "create": frozenset({tuple}),
    "open": frozenset({FileInfo}),
    "read": frozenset({bytes, memoryview}),
    "write": frozenset({int}),
    "readlink": frozenset({bytes}),
    "getxattr": frozenset({bytes}),
    "listxattr": frozenset({list}),
    "statfs": frozenset({StatvfsData}),
    "access": frozenset({bool}),
}
"""What each handler may reply; the others reply nothing."""


def handler(method: Callable[..., Any]) -> Any:
    """Makes a pyfuse3 handler of a plain method."""
    name = method.__name__
    kinds = _REPLIES.get(name, _NONE)

    @functools.wraps(method)
    async def handle(self: Firewall, *args: Any) -> Any:
        self.counts[name] += 1
        if self.observed:
            return await self.observe(name, method, args)
        try:
            reply = method(self, *args)
            # What pyfuse3 cannot use is an exception there, where nobody catches it.
            if type(reply) not in kinds:
                raise TypeError(f"{name} has no use for {type(reply).__name__}")
            return reply
        except Later as later:
            # Without its traceback: that names this frame, which names it, and what it carries (a megabyte to write)
            # would stay until the collector looks for such rings.
            waiting = later.with_traceback(None)
        except FUSEError:
            raise
        except BaseException as error:
            raise self.failure(name, args, error) from error
        return await self.finish_later(name, method, args, waiting)

    return handle


class Request(NamedTuple):
    """One that waits. `began`: time.monotonic()."""

    name: str
    args: Sequence[Any]
    began: float


class Firewall(pyfuse3.Operations):
    """What `handler` needs of the object whose methods it wraps.

    Attributes:
        counts: requests by handler since the start.
        in_flight: those that wait, by number.
        observed: whether somebody reads the access log.
        observer: tells it.
    """

    def __init__(self, vfs: Vfs, shim: LoopShim, deadline_s: float, limiter: trio.CapacityLimiter) -> None:
        super().__init__()
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.in_flight: dict[int, Request] = {}
        self.observed = False
        vfs.access.on_change = self._set_observed
        self.observer = Observer(vfs)
        self._shim = shim
        self._deadline_s = deadline_s
        self._limiter = limiter

    @abstractmethod
    def translate(self, name: str, result: Any) -> Any:
        """The reply for a vfs result that came late."""

    @property
    def requests(self) -> int:
        """How many there were, which is also the number of the newest."""
        return sum(self.counts.values())

    # the wrapper's slow side -----------------------------------------------------------------------------------------
    def failure(
        self, name: str, args: Sequence[Any], error: BaseException, number: int | None = None
    ) -> BaseException:
        """What to raise instead of `error`. `number`: of the request; None: it is the newest."""
        if isinstance(error, FUSEError):
            return error
        code = errno_of(error)
        if code is None:
            if isinstance(error, (trio.Cancelled, KeyboardInterrupt)):
                code = errno.EINTR
            else:
                what = number or self.requests, name, brief(name, args)
                log.error("request %d (%s %s) failed: %r", *what, error, exc_info=error)
                code = errno.EIO
        elif code in _LOGGED and not isinstance(error, Told):
            # EIO that names its cause; those of the operating system are bare.
            log.warning("request %d (%s %s): %s", number or self.requests, name, brief(name, args), error)
        return FUSEError(code)

    async def finish_later(self, name: str, method: Callable[..., Any], args: Sequence[Any], later: Later) -> Any:
        """Runs what blocks in a thread, then ends or repeats the operation."""
        number = self.requests
        self.in_flight[number] = Request(name, args, time.monotonic())
        told = REQUEST.set((number, name))
        try:
            until = trio.current_time() + self._deadline_s
            for _ in range(MAX_RETRIES):
                self._shim.wake_reader()
                result = None
                if isinstance(later, Wait):
                    await self._until_told(later, until)
                else:
                    result = await self._in_thread(later, until)
                try:
                    if later.then is not None:
                        result = later.then(result)
                        if not later.again:
                            return self._checked(name, self.translate(name, result))
                    return self._checked(name, method(self, *args))
                except Later as more:
                    later = more.with_traceback(None)
            raise OSError(errno.EIO, f"{name} asked for more {MAX_RETRIES} times")
        except BaseException as error:
            raise self.failure(name, args, error, number) from error
        finally:
            REQUEST.reset(told)
            del self.in_flight[number]

    def _checked(self, name: str, reply: Any) -> Any:
        if type(reply) not in _REPLIES.get(name, _NONE):
            raise TypeError(f"{name} has no use for {type(reply).__name__}")
        return reply

    async def _in_thread(self, later: Later, until: float) -> Any:
        """`until`: when the request's time is over, however many calls it takes."""
        if later.patient:
            with trio.CancelScope(shield=True, deadline=until) as scope:
                await self._limiter.acquire()  # threads may be taken by calls that hang; that is not waited out
            if scope.cancelled_caught:
                raise self._too_late()
            try:
                with trio.CancelScope(shield=True):
                    return await trio.to_thread.run_sync(later.call, limiter=trio.CapacityLimiter(1))
            finally:
                self._limiter.release()
        with trio.CancelScope(shield=True, deadline=until):
            return await trio.to_thread.run_sync(later.call, abandon_on_cancel=True, limiter=self._limiter)
        raise self._too_late()

    def _too_late(self) -> OSError:
        return OSError(errno.ETIMEDOUT, f"no answer within {self._deadline_s:.0f} s")

    async def _until_told(self, wait: Wait, until: float) -> None:
        told = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def notify() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(told.set)

        if wait.start(notify):
            return
        limit = until if wait.for_s is None else min(until, trio.current_time() + wait.for_s)
        with trio.CancelScope(shield=True, deadline=limit):
            await told.wait()
            return
        wait.give_up()
        if limit < until:
            return
        raise self._too_late()

    # the access log --------------------------------------------------------------------------------------------------
    def _set_observed(self, is_read: bool) -> None:
        self.observed = is_read
        self.observer.forget()

    async def observe(self, name: str, method: Callable[..., Any], args: Sequence[Any]) -> Any:
        """Answers a request, and tells it to those who read the access log."""
        number, began = self.requests, time.perf_counter()
        where = self.observer.where(name, args)
        code, reply = 0, None
        try:
            try:
                reply = self._checked(name, method(self, *args))
            except Later as later:
                reply = await self.finish_later(name, method, args, later.with_traceback(None))
            except FUSEError:
                raise
            except BaseException as error:
                raise self.failure(name, args, error) from error
            return reply
        except FUSEError as error:
            code = error.errno
            raise
        finally:
            if where is not None:
                self.observer.tell(number, name, args, where, code, reply, time.perf_counter() - began)


_LOGGED = frozenset({errno.EIO, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENOSPC, errno.EDQUOT})

HANDLER_CODE: CodeType = handler(Firewall.failure).__code__
"""Of the wrapper, the same for every handler: by it the request is found that is on a thread's stack (logs.py)."""
