"""artfsd that kills itself with SIGKILL at the step that a file tells it.

    python doomed_daemon.py DOOM MOUNTPOINT … (as artfsd)

DOOM is what artfs.testing.doom.Doom.write writes; it may be written while the daemon runs. The phases, and their steps:

    create, write, release           a request of this kind comes (the odd steps), and was done, but not answered (the even ones)
    rename                           a rename in a draft begins; a system call changes a name (its audit event)
    hashing                          a piece of a file of more than 1 MiB is hashed
    moving, trees, syncing, catalog  a commit: a file, a page, the sync or the transaction begins (event "begin"); a system call
                                     changes a name (its audit event); an SQL statement ("sql"); a transaction ends ("commit")
    removing                         its files below store/tmp, and the draft's folder, go: as above
"""

import sys
from pathlib import Path
from typing import Any

import sqlalchemy

from artfs.api.session import Session, open_session
from artfs.settings import Settings
from artfs.store.staging import StagedDraft
from artfs.store.verify import BlockHasher, Readable
from artfs.testing.doom import Doom, DoomedCatalog, DoomedStore, Fate
from artfsd import run
from artfsd.__main__ import main
from artfsd.operations import Operations

DOOM = Path(sys.argv[1])

fate = Fate(lambda: Doom.read(DOOM))
update, remove = BlockHasher.update, StagedDraft.remove


class DoomedOperations(Operations):
    async def create(self, *arguments: Any) -> Any:
        fate.step("begin", "create")
        reply = await super().create(*arguments)
        fate.step("end", "create")
        return reply

    async def write(self, *arguments: Any) -> Any:
        fate.step("begin", "write")
        reply = await super().write(*arguments)
        fate.step("end", "write")
        return reply

    async def release(self, *arguments: Any) -> Any:
        fate.step("begin", "release")
        reply = await super().release(*arguments)
        fate.step("end", "release")
        return reply

    async def rename(self, *arguments: Any) -> Any:
        # It answers without waiting for anything, so nothing else runs on this thread meanwhile.
        with fate.during("rename"):
            return await super().rename(*arguments)


def doomed_session(settings: Settings, *, listen: bool = False) -> Session:
    session = open_session(settings, listen=listen)
    catalog, store = DoomedCatalog(session.catalog, fate), DoomedStore(session.store, fate)
    return Session(settings, catalog, store)  # type: ignore[arg-type]


def doomed_update(hasher: BlockHasher, data: Readable) -> None:
    fate.step("begin", "hashing")
    update(hasher, data)


def doomed_remove(draft: StagedDraft) -> None:
    with fate.during("removing"):
        remove(draft)


run.Operations = DoomedOperations  # type: ignore[misc]
run.open_session = doomed_session  # type: ignore[assignment]
BlockHasher.update = doomed_update  # type: ignore[method-assign]
StagedDraft.remove = doomed_remove  # type: ignore[method-assign]
sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", lambda *_: fate.step("sql"))
sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", lambda _: fate.step("commit"))
sys.addaudithook(fate.audit)
del sys.argv[1]
sys.exit(main())
