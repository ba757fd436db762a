"""Every handler of the daemon, by itself: whatever happens in it, its caller gets an errno, and within one deadline."""

from __future__ import annotations

import ast
import errno
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing

from artfs.errors import BadBlobError, StorageError
from artfs.testing.account import ROOT
from artfs.testing.torture import Tally
from artfsd import notify
from artfsd.accesslog import AccessLog
from artfsd.firewall import handler
from artfsd.inodes import Later, Wait
from artfsd.naming import Invalidation
from artfsd.operations import Operations
from artfsd.shim import LoopShim

HANDLERS = sorted(name for name, member in vars(Operations).items() if hasattr(member, "__wrapped__"))
UNTHOUGHT = [ValueError, MemoryError, RecursionError, StopIteration, StopAsyncIteration, SystemExit, GeneratorExit]


class Vfs:
    """Where every attribute but what the transport itself needs leads to `act`."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.access = AccessLog()
        self._act = act

    def __getattr__(self, name: str) -> Any:
        return self._act()


def operations(act: Callable[[], Any], deadline_s: float = 30.0) -> Operations:
    vfs: Any = Vfs(act)
    return Operations(vfs, LoopShim(), deadline_s, trio.CapacityLimiter(2))


async def outcome(made: Operations, name: str) -> int:
    """The errno that a handler answers."""
    takes = len(inspect.signature(vars(Operations)[name].__wrapped__).parameters) - 1
    context = SimpleNamespace(pid=1, uid=0, gid=0, umask=0)
    fields = SimpleNamespace(**{f"update_{each}": False for each in ("size", "mode", "uid", "gid", "atime", "mtime", "ctime")})
    given = [1, fields if name == "setattr" else b"name", fields, context, context, context, context][:takes]
    if name == "getxattr":
        given[1] = b"user.artfs.digest"
    elif name == "setattr":
        given[2] = fields
    elif name == "open":
        given[1:] = [os.O_RDONLY, context]
    elif name == "access":
        given[1] = os.X_OK
    elif name == "read":
        given[1:] = [0, 10]
    elif name == "write":
        given[1:] = [0, b"data"]
    elif name == "rename":
        given[1:] = [b"name", 2, b"other", 0, context]
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await getattr(made, name)(*given)
    return int(raised.value.errno)


def raising(error: Callable[[], BaseException]) -> Callable[[], Any]:
    def act() -> Any:
        raise error()

    return act


def in_thread(error: Callable[[], BaseException]) -> Callable[[], Any]:
    def act() -> Any:
        raise Later(raising(error))

    return act


def afterwards(error: Callable[[], BaseException]) -> Callable[[], Any]:
    def act() -> Any:
        def then(result: Any) -> Any:
            raise error()

        raise Later(lambda: None, then)

    return act


def patiently(error: Callable[[], BaseException]) -> Callable[[], Any]:
    def act() -> Any:
        raise Later(raising(error), patient=True)

    return act


PLACES = [raising, in_thread, afterwards, patiently]


def test_there_are_handlers() -> None:
    assert {"lookup", "read", "write", "fsync", "release", "statfs", "access", "rename"} <= set(HANDLERS)
    assert len(HANDLERS) > 25
    # Each one that pyfuse3 calls is wrapped, but for forget, which answers nothing.
    ours = {name for name, member in vars(Operations).items() if name in vars(pyfuse3.Operations) and callable(member)}
    assert ours - set(HANDLERS) == {"__init__", "forget"} & ours


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("observed", [False, True], ids=["", "observed"])
def test_whatever_a_handler_raises_is_eio(
    place: Callable[..., Any], observed: bool, expect_log: Callable[..., None], tally: Tally
) -> None:
    expect_log("nobody foresaw|StopIteration|has no label", level=logging.ERROR)

    async def run() -> None:
        for name in HANDLERS:
            if name == "flush":
                continue  # answers ENOSYS, whatever there is
            for error in UNTHOUGHT:
                made = operations(place(lambda error=error: error("nobody foresaw this")))
                made.observed = observed
                assert await outcome(made, name) == errno.EIO, (name, error)
                assert not made.in_flight
                tally("an exception that nobody foresaw, in each handler")

    trio.run(run)


@pytest.mark.parametrize("place", PLACES)
def test_errors_that_were_foreseen_have_their_number(place: Callable[..., Any], expect_log: Callable[..., None]) -> None:
    expect_log("^request ", count=None)
    wanted: list[tuple[Callable[[], BaseException], int]] = [
        (lambda: OSError(errno.EDQUOT, "full"), errno.EDQUOT),
        (lambda: StorageError("full", errno.ENOSPC), errno.ENOSPC),
        (lambda: BadBlobError("damaged", "0" * 64), errno.EIO),
        (lambda: pyfuse3.FUSEError(errno.EXDEV), errno.EXDEV),
    ]

    async def run() -> None:
        for name in HANDLERS:
            for error, number in wanted:
                if name != "flush":
                    assert await outcome(operations(place(error)), name) == number, name

    trio.run(run)


@pytest.mark.parametrize("name", ["lookup", "read", "write", "getattr", "readlink", "getxattr", "listxattr", "open", "opendir"])
def test_a_reply_that_the_transport_cannot_use_is_eio(name: str, expect_log: Callable[..., None], tally: Tally) -> None:
    """There it would be an exception where nobody catches it, and end the mount."""
    expect_log("has no use for NoneType", level=logging.ERROR)
    made = operations(raising(lambda: ValueError()))
    wrapped = vars(Operations)[name].__wrapped__

    def wrong(self: Operations, *args: Any) -> Any:
        return None

    wrong.__name__ = wrapped.__name__

    async def run() -> None:
        for observed in (False, True):
            made.observed = observed
            with pytest.raises(pyfuse3.FUSEError) as raised:
                await handler(wrong)(made, 1)
            assert raised.value.errno == errno.EIO
            tally("a reply that pyfuse3 cannot use")

    made.observer.where = lambda name, args: None  # type: ignore[method-assign]
    trio.run(run)


ENDLESS: dict[str, Callable[[], BaseException]] = {
    "one long call": lambda: Later(lambda: time.sleep(3)),
    "many short calls": lambda: Later(lambda: time.sleep(0.03)),
    "something that never comes": lambda: Wait(lambda notify: False),
    "many things that come": lambda: Wait(lambda notify: threading.Timer(0.03, notify).start() is not None),  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("what", sorted(ENDLESS))
def test_one_deadline_is_for_all_that_a_call_waits_for(what: str, expect_log: Callable[..., None], tally: Tally) -> None:
    """However many pieces it takes: they do not have a deadline each."""
    expect_log("no answer within 0 s")
    made = operations(raising(ENDLESS[what]), deadline_s=0.3)

    async def run() -> None:
        assert await outcome(made, "readlink") == errno.ETIMEDOUT
        tally("a call that waits for something that does not end")

    trio.run(run)


def test_a_commit_waits_for_a_thread_no_longer_than_others(expect_log: Callable[..., None], tally: Tally) -> None:
    """All threads hang. What cannot be left half done has not begun yet."""
    expect_log("no answer within 0 s")
    begun: list[bool] = []
    end = threading.Event()
    made = operations(raising(lambda: Later(lambda: begun.append(True), patient=True)), deadline_s=0.2)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(lambda: trio.to_thread.run_sync(end.wait, limiter=made._limiter))
            await trio.testing.wait_all_tasks_blocked()
            assert await outcome(made, "readlink") == errno.ETIMEDOUT
            end.set()

    trio.run(run)
    assert not begun
    tally("a call that waits for something that does not end")


# what the kernel is told -------------------------------------------------------------------------------------------------
NOTIFICATIONS = {"invalidate_entry", "invalidate_entry_async", "invalidate_inode", "notify_store"}


def test_nothing_but_names_is_invalidated_and_in_one_place() -> None:
    """A notification about pages waits for a read in flight; from the loop's thread, that is for ever."""
    found = []
    for path in sorted((ROOT / "daemon" / "artfsd").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in NOTIFICATIONS:
                found.append((path.name, name))
    assert found == [("notify.py", "invalidate_entry")]


def test_all_invalidations_are_sent_in_order_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, bytes]] = []

    def invalidate(parent: int, name: bytes) -> None:
        told.append((threading.current_thread().name, name))
        if name == b"0":
            raise OSError(errno.ENOENT, "not known")

    monkeypatch.setattr(notify.pyfuse3, "invalidate_entry", invalidate)
    notifier = notify.Notifier()
    names = [str(number).encode() for number in range(100)]
    senders = [
        threading.Thread(target=notifier.send, args=([Invalidation(1, name)],)) for name in names[:50]
    ]
    for sender in senders:
        sender.start()
        sender.join()
    notifier.send([Invalidation(1, name) for name in names[50:]])
    assert notifier.flush(30)
    notifier.close()
    assert told == [("notify", name) for name in names]
    assert threading.get_ident() != notifier._thread.ident
