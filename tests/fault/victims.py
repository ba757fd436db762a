"""Runs `artfs commit` and `artfs log` in children that kill themselves, or are killed, in a phase of their own.

    python victims.py        with jobs on standard input, one JSON object a line:

    {"arguments": ["commit", "p/c"], "phase": "moving", "step": 17}

runs `artfs ARGUMENTS`. The child says each phase on standard output when it begins (`PHASE moving`), and kills itself
with SIGKILL right before the 17th step of "moving": a step is a system call that changes names (seen through Python's
audit events) or an SQL statement of the catalog; "event": "os.link" counts only those. `step` 0: it lives on; whoever
reads may kill it (`PID 123` is the first line). The last lines are `STEPS {"moving": 300, …}` when it lived to its end,
and `END STATUS`.

A child is forked from a process that has imported everything, so a job takes milliseconds.
"""

import json
import os
import signal
import sys
from typing import Any

import sqlalchemy

import artfs.cli.commands.commit
import artfs.cli.commands.log
import artfs.transfer.seal
from artfs.api.session import Session, open_session
from artfs.cli.common import App
from artfs.cli.main import cli
from artfs.settings import load_settings

PRELOADED = (artfs.cli.commands.commit, artfs.cli.commands.log, artfs.transfer.seal)
"""What a child would import by itself, before it is forked."""

CHANGES = {"os.chmod", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.utime"}
PUSH = {"scan": "scanning", "push": "writing"}


class Fate:
    """Counts steps of the phase that runs, and ends the process when it is time."""

    def __init__(self, phase: str, step: int, event: str) -> None:
        self.phase = "starting"
        self.steps: dict[str, int] = {}
        self._last = (phase, step)
        self._event = event

    def enter(self, phase: str) -> None:
        phase = PUSH.get(phase, phase)
        if phase != self.phase:
            self.phase = phase
            say("PHASE", phase)

    def step(self) -> None:
        number = self.steps[self.phase] = self.steps.get(self.phase, 0) + 1
        if (self.phase, number) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._event and event != self._event:
            return
        creates = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event in CHANGES or creates:
            self.step()


class Store:
    """A store whose batches tell which phase they are in (`artfs log` says only "push")."""

    def __init__(self, store: Any, fate: Fate) -> None:
        self._store = store
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def begin(self) -> Any:
        return Batch(self._store.begin(), self._fate)


class Batch:
    def __init__(self, batch: Any, fate: Fate) -> None:
        self._batch = batch
        self._fate = fate

    def __enter__(self) -> Any:
        self._batch.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._batch.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def put_bytes(self, data: bytes) -> str:
        self._fate.enter("trees")
        digest: str = self._batch.put_bytes(data)
        return digest

    def sync(self) -> None:
        self._fate.enter("syncing")
        self._batch.sync()


class Catalog:
    def __init__(self, catalog: Any, fate: Fate) -> None:
        self._catalog = catalog
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def commit(self, new: Any) -> Any:
        self._fate.enter("catalog")
        committed = self._catalog.commit(new)
        self._fate.enter("removing")
        return committed


class TellingApp(App):
    """The command line's own App, with a session that tells, and no bar."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        session = open_session(load_settings())
        store, catalog = Store(session.store, fate), Catalog(session.catalog, fate)
        self._session = Session(session.settings, catalog, store)  # type: ignore[arg-type]
        self._fate = fate

    def progress(self) -> Any:
        return Telling(self._fate)


class Telling:
    def __init__(self, fate: Fate) -> None:
        self._fate = fate

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        return None

    def __call__(self, progress: Any) -> None:
        self._fate.enter(progress.phase)


def say(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


def run(arguments: list[str], fate: Fate) -> int:
    app = TellingApp(fate)
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", lambda *_: fate.step())
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", lambda _: fate.step())
    sys.addaudithook(fate.audit)
    cli.main(args=arguments, prog_name="artfs", standalone_mode=False, obj=app)
    say("STEPS", json.dumps(fate.steps))
    return 0


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 70
            try:
                say("PID", str(os.getpid()))
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                status = run(job["arguments"], Fate(job["phase"], job["step"], job["event"]))
            except BaseException as error:
                say("ERROR", type(error).__name__, str(error).replace("\n", " "))
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        say("END", str(os.waitstatus_to_exitcode(status)))


main()
