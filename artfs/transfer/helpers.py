"""Processes that write groups of small files beside this one; see `smallcopy` for why and how."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, TypeVar

from artfs.transfer import smallcopy
from artfs.transfer.smallcopy import HEAD

_UNDER_WAY = 2
"""Groups that a helper has at once: one that it writes, and one so that it need not wait."""

G = TypeVar("G")


class Helpers(Generic[G]):
    """Up to `count` processes, started when first used. They end by themselves when this process does.

    They ignore Ctrl-C at the terminal: whoever uses them decides what becomes of their work. Where there is no Python to
    start there are none, and `offer` always says no.
    """

    def __init__(self, count: int, landing: int) -> None:
        """`landing`: a descriptor of the folder that groups are relative to; its lock lives as long as the helpers."""
        self._wanted = count if _can_start() else 0
        self._landing = landing
        self._helpers: list[_Helper[G]] | None = None

    @property
    def are_busy(self) -> bool:
        """Whether `offer` would say no (as far as is known without starting any)."""
        return self._wanted == 0 or (self._helpers is not None and not self._free())

    def _free(self) -> list[_Helper[G]]:
        return [helper for helper in self._helpers or () if len(helper.under_way) < _UNDER_WAY and not helper.ended]

    def offer(self, group: G, directory: bytes, files: list[smallcopy.File]) -> bool:
        """Whether a helper takes the group; if not, all are busy."""
        if self._helpers is None:
            self._helpers = []
            with suppress(OSError):  # no memory, no processes left: fewer helpers, or none
                for _ in range(self._wanted):
                    self._helpers.append(_Helper(self._landing))
        free = self._free()
        if not free:
            return False
        return min(free, key=lambda helper: len(helper.under_way)).give(
            group, smallcopy.encode_group(directory, files)
        )

    def done(self, *, wait: bool) -> Iterator[tuple[G, int]]:
        """Groups that are finished, with their bytes (-1: it was not possible). `wait`: until all are."""
        for helper in self._helpers or ():
            yield from helper.done(wait)

    def close(self) -> None:
        """Ends them; groups under way may be half-written afterwards. Again is fine."""
        for helper in self._helpers or ():
            helper.close()
        self._helpers = None
        self._wanted = 0


class _Helper(Generic[G]):
    def __init__(self, landing: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", smallcopy.__file__, str(landing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=(landing,),
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self.under_way: deque[G] = deque()
        self.ended = False

    def give(self, group: G, message: bytes) -> bool:
        # First, so that nobody counts on a group whose message was cut short by an exception.
        self.under_way.append(group)
        try:
            view = memoryview(message)
            while view:
                view = view[os.write(self._in, view) :]
        except BrokenPipeError:
            self.under_way.pop()
            self.ended = True
            return False
        return True

    def done(self, wait: bool) -> Iterator[tuple[G, int]]:
        while self.under_way and (wait or self._poll.poll(0)):
            answer = b""
            while len(answer) < HEAD.size and (more := os.read(self._out, HEAD.size - len(answer))):
                answer += more
            if len(answer) < HEAD.size:  # it was killed
                self.ended = True
                while self.under_way:
                    yield self.under_way.popleft(), -1
                return
            yield self.under_way.popleft(), HEAD.unpack(answer)[0]

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        if self.under_way:
            self._process.kill()
        self._process.stdout.close()
        self._process.wait()


def _can_start() -> bool:
    # Elsewhere sys.executable is a program that has a Python inside, and would do who knows what.
    name = os.path.basename(sys.executable or "")
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False) and os.path.isfile(smallcopy.__file__)
