"""What the daemon tells of itself on SIGUSR1, beside its threads (artfs/stacks.py): requests, transfers, tasks.

All of it is read by the thread of the dumps while the main thread works, or is stuck: single reads of structures that only grow
or shrink by whole entries, so what is told may be a moment old, and nothing here waits for a lock of the main thread.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import trio

from artfs.stacks import stack_lines
from artfsd.firewall import HANDLER_CODE
from artfsd.logs import request_on
from artfsd.observe import brief, caller
from artfsd.operations import Operations


def request_lines(operations: Operations) -> Iterator[str]:
    """Requests that wait, the one that the main thread works on, and how many there were."""
    yield f"{operations.requests} so far; {len(operations.in_flight)} wait"
    ident = threading.main_thread().ident
    frame = sys._current_frames().get(ident) if ident is not None else None
    at_work = request_on(frame, HANDLER_CODE)
    if at_work is not None:
        while frame is not None and frame.f_code is not HANDLER_CODE:
            frame = frame.f_back
        args: Sequence[Any] = frame.f_locals["args"] if frame is not None else ()
        yield f"request {at_work[0]} {at_work[1]} {_more(operations, at_work[1], args)}: on the main thread now"
    now = time.monotonic()
    for number, request in list(operations.in_flight.items()):
        more = _more(operations, request.name, request.args)
        yield f"request {number} {request.name} {more}: waits for {now - request.began:.1f} s"


def _more(operations: Operations, name: str, args: Sequence[Any]) -> str:
    _, uid = caller(args)
    where = operations.observer.where(name, args) or ".artfs/accesslog"
    return f"{where} ({brief(name, args)}{'' if uid is None else f' uid={uid}'})"


def task_lines(root: trio.lowlevel.Task) -> Iterator[str]:
    """The tasks below `root`, indented by their parents, each with where it waits. Workers that only wait for their turn are one
    line."""
    idle = 0
    todo = [(root, 0)]
    while todo:
        task, depth = todo.pop()
        lines = stack_lines(_awaited(task.coro))
        if any("LoopShim._wait_readable" in line or "ReadLock.__aenter__" in line for line in lines):
            idle += 1
        else:
            indent = "  " * depth
            yield f"{indent}{task.name}"
            yield from (indent + line for line in lines)
        todo += [(child, depth + 1) for nursery in list(task.child_nurseries) for child in list(nursery.child_tasks)]
    yield f"{idle} workers wait for a request"


def _awaited(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """The frames from a task's coroutine down to what it waits for. Unlike trio's own walk it goes on through those of Cython
    (pyfuse3's), which have no frames."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if isinstance(frame, FrameType):
            yield frame, frame.f_lineno
        if type(coroutine).__name__ == "coroutine_wrapper":
            coroutine = next((held for held in gc.get_referents(coroutine) if hasattr(held, "cr_await")), None)
            continue
        below = getattr(coroutine, "cr_await", None)
        coroutine = below if below is not None else getattr(coroutine, "gi_yieldfrom", None)
