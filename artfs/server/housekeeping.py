"""What a server process does without being asked: it deletes versions whose time is up."""

from __future__ import annotations

import logging
import threading

from artfs.catalog.ledger import Ledger
from artfs.model.access import SERVER
from artfs.transfer.expiry import Expiry

TICK_S = 0.5

log = logging.getLogger(__name__)


class Housekeeping:
    """A thread, from `start` to `close`. Each process of each server has one: who is first to delete a version has done it for
    all."""

    def __init__(self, ledger: Ledger, *, tick_s: float = TICK_S) -> None:
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
            except Exception:
                # A defect; without this thread versions would stay for ever, and nobody would know why.
                log.exception("housekeeping failed")
                self._stopped.wait(60)
