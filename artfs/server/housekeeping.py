"""What a server process does without being asked: it deletes versions whose time is up, and forgets old answers."""

from __future__ import annotations

import logging
import threading
import time

from artfs.catalog.ledger import Ledger
from artfs.errors import ArtfsError
from artfs.model.access import SERVER
from artfs.transfer.expiry import Expiry

TICK_S = 0.5
FORGET_S = 3600.0

log = logging.getLogger(__name__)


class Housekeeping:
    """A thread, from `start` to `close`. Each process of each server has one: who is first to delete a version has done it for
    all."""

    def __init__(self, ledger: Ledger, *, tick_s: float = TICK_S, forget_s: float = FORGET_S) -> None:
        """`forget_s`: how often old answers are looked for, in seconds."""
        self._ledger = ledger
        self._forget_s = forget_s
        self._forget_at = time.monotonic()
        # As the server itself: so it stands in the audit log, and listeners to events hear of it.
        self._expiry = Expiry(ledger.acting(SERVER))
        self._tick_s = tick_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="artfs-housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Waits for a deletion that is under way."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._tick_s):
            try:
                self._expiry.tick()
                self._forget()
            except Exception:
                # A defect; without this thread versions would stay for ever, and nobody would know why.
                log.exception("housekeeping failed")
                self._stopped.wait(60)

    def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + self._forget_s
        try:
            self._ledger.forget_calls()
        except ArtfsError as error:
            log.warning("old answers cannot be forgotten: %s", error)
