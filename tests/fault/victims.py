"""Runs `artfs commit` and `artfs log` in children that kill themselves, or are killed, in a phase of their own.

    python victims.py        with jobs on standard input, one JSON object a line:

    {"arguments": ["commit", "p/c"], "doom": {"phase": "moving", "step": 17, "event": ""}}

runs `artfs ARGUMENTS`. The child says each phase on standard output when it begins (`PHASE moving`), and kills itself
with SIGKILL right before the 17th step of "moving" (see artfs.testing.doom): the beginning of one file, tree page, sync
or transaction, a system call that changes names (seen through Python's audit events), or an SQL statement of the
catalog. `step` 0: it lives on; whoever reads may kill it (`PID 123` is the first line). The last lines are
`STEPS {"moving": 300, …}` when it lived to its end, and `END STATUS`.

A child is forked from a process that has imported everything, so a job takes milliseconds.
"""

import json
import os
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
from artfs.store.staging import StagedDraft
from artfs.testing.doom import Doom, DoomedCatalog, DoomedStore, Fate

PRELOADED = (artfs.cli.commands.commit, artfs.cli.commands.log, artfs.transfer.seal)
"""What a child would import by itself, before it is forked."""

TOLD = {"scan": "scanning", "scanning": "scanning", "hashing": "hashing"}
"""Phases of which only the progress tells. It is told so many times a second, and the others begin before it says so."""

remove = StagedDraft.remove


class TellingApp(App):
    """The command line's own App, with a session that tells, and no bar."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        session = open_session(load_settings())
        store, catalog = DoomedStore(session.store, fate), DoomedCatalog(session.catalog, fate)
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
        if progress.phase in TOLD:
            self._fate.enter(TOLD[progress.phase])


def say(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


def run(arguments: list[str], doom: Doom) -> int:
    fate = Fate(lambda: doom, lambda phase: say("PHASE", phase), phase="starting")

    def doomed_remove(draft: StagedDraft) -> None:
        with fate.during("removing"):
            remove(draft)

    StagedDraft.remove = doomed_remove  # type: ignore[method-assign]
    app = TellingApp(fate)
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", lambda *_: fate.step("sql"))
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", lambda _: fate.step("commit"))
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
                status = run(job["arguments"], Doom(**job["doom"]))
            except BaseException as error:
                say("ERROR", type(error).__name__, str(error).replace("\n", " "))
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        say("END", str(os.waitstatus_to_exitcode(status)))


main()
