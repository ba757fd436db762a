"""Commits that wait for the server: made when it is back."""

from __future__ import annotations

import logging

import msgspec
import trio

from artfs.errors import ArtfsError, DraftBusyError, UnavailableError
from artfs.store.staging import StagedDraft
from artfs.wire.control import read_options
from artfsd.control import ControlServer
from artfsd.draftroots import Drafts

log = logging.getLogger(__name__)

AGAIN_S = 30.0
"""What waits is tried again at least so often: somebody may have had files open, or the server may have come back unnoticed."""


class WaitingCommits:
    """`came_back` is for any thread; everything else runs on the loop."""

    def __init__(self, control: ControlServer, drafts: Drafts, token: trio.lowlevel.TrioToken) -> None:
        self._control = control
        self._drafts = drafts
        self._token = token
        self._event = trio.Event()

    def came_back(self) -> None:
        """The server can be reached again."""
        try:
            self._token.run_sync_soon(self._set)
        except trio.RunFinishedError:
            return  # the daemon ends

    def _set(self) -> None:
        self._event.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            for staged in await trio.to_thread.run_sync(self._all):
                if staged.info.pending is not None:
                    await self._try(staged)
            with trio.move_on_after(AGAIN_S):
                await self._event.wait()
            self._event = trio.Event()

    def _all(self) -> list[StagedDraft]:
        # Of damaged ones the start has told.
        return self._drafts.area.drafts(self._drafts.ctx.entity, on_damaged=lambda error: None)

    async def _try(self, staged: StagedDraft) -> None:
        assert staged.info.pending is not None
        try:
            options = read_options(staged.info.pending)
            draft = self._drafts.find(staged.info.project, staged.info.name)
            if draft is None:
                return
            await self._control.commit(self._drafts, draft, options, None)
        except UnavailableError:
            return  # still away
        except DraftBusyError as error:
            log.info("%s; its commit waits", error)
        except ArtfsError as error:
            log.error("the commit of the draft %s, which waited for the server, was given up: %s", staged.label, error)
            # It stays as a draft, with a note, and whoever looks decides.
            why = str(error)
            live = self._drafts.find(staged.info.project, staged.info.name)
            await trio.to_thread.run_sync(
                (live.staged if live is not None else staged).change_info,
                lambda info: msgspec.structs.replace(info, pending=None, problem=why),
            )
