"""Processes that kill themselves at a step that was chosen before: tests/fault/victims.py and doomed_daemon.py.

Nothing here depends on time. A phase is what wrapped calls of the store and the catalog say, for the thread that makes
them, so each step belongs to one phase, whatever other threads do.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from artfs.store.base import Place

CHANGES = {"os.chmod", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.utime"}
"""Python's audit events of system calls that change names."""


@dataclass(frozen=True)
class Doom:
    """Death by SIGKILL right before the `step`-th step (from 1) of `phase`; 0: never. With `event`, only such steps are
    counted ("begin", an audit event of CHANGES, "open", or what else is given to Fate.step)."""

    phase: str = ""
    step: int = 0
    event: str = ""

    @classmethod
    def read(cls, path: Path) -> Doom:
        """What `write` wrote."""
        return cls(**json.loads(path.read_bytes()))

    def write(self, path: Path) -> None:
        """In one step, as a process may read it meanwhile."""
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(vars(self)))
        aside.rename(path)


class Fate:
    """Counts steps and ends the process when it is time.

    Arguments:
        doom: asked at each step; the count begins anew when it has changed.
        say: told each phase when it begins, and the last one again right before the end.
        phase: of threads that are in none; "": their steps do not count.
    """

    def __init__(
        self, doom: Callable[[], Doom], say: Callable[[str], None] = lambda phase: None, phase: str = ""
    ) -> None:
        self.steps: dict[str, int] = {}
        self._read = doom
        self._doom = doom()
        self._say = say
        self._said = phase
        self._phase = phase
        self._thread = threading.local()
        self._lock = threading.Lock()

    @property
    def phase(self) -> str:
        """Of this thread."""
        phase: str = getattr(self._thread, "phase", self._phase)
        return phase

    def enter(self, phase: str) -> None:
        """From here on this thread is in `phase`."""
        self._thread.phase = phase
        with self._lock:
            if phase != self._said:
                self._said = phase
                self._say(phase)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Inside, this thread is in `phase`; that it begins is a step, too."""
        before = self.phase
        self.enter(phase)
        self.step("begin")
        try:
            yield
        finally:
            self._thread.phase = before

    def step(self, event: str, phase: str = "") -> None:
        """One step of `phase`; "": of what this thread is in."""
        phase = phase or self.phase
        if not phase:
            return
        with self._lock:
            doom = self._read()
            if doom != self._doom:
                self._doom = doom
                self.steps.clear()
            if doom.event and event != doom.event:
                return
            number = self.steps[phase] = self.steps.get(phase, 0) + 1
            if (phase, number) == (doom.phase, doom.step):
                self._say(phase)
                os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """For sys.addaudithook: a system call that changes names is a step."""
        creates = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event in CHANGES or creates:
            self.step(event)


class DoomedStore:
    """A store whose batches tell which phase they are in: "writing" (files are copied), "moving" (they are taken over),
    "trees", "syncing", and "removing" when they end."""

    def __init__(self, store: Any, fate: Fate) -> None:
        self._store = store
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def begin(self, place: Place | None = None) -> DoomedBatch:
        return DoomedBatch(self._store.begin(place), self._fate)


class DoomedBatch:
    def __init__(self, batch: Any, fate: Fate) -> None:
        self._batch = batch
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __enter__(self) -> DoomedBatch:
        self._batch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._fate.during("removing"):
            self._batch.__exit__(kind, error, trace)

    def put_file(self, *arguments: Any, **options: Any) -> Any:
        with self._fate.during("writing"):
            return self._batch.put_file(*arguments, **options)

    def adopt_file(self, *arguments: Any) -> None:
        with self._fate.during("moving"):
            self._batch.adopt_file(*arguments)

    def put_page(self, data: bytes) -> Any:
        with self._fate.during("trees"):
            return self._batch.put_page(data)

    def sync(self) -> None:
        with self._fate.during("syncing"):
            self._batch.sync()


class DoomedCatalog:
    """A catalog whose `commit` is the phase "catalog"."""

    def __init__(self, catalog: Any, fate: Fate) -> None:
        self._catalog = catalog
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def commit(self, new: Any) -> Any:
        with self._fate.during("catalog"):
            return self._catalog.commit(new)
