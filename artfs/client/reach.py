"""Whether a server can be reached, as far as is known: what lets a process without a network answer at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from artfs.errors import UnavailableError

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""While it cannot be reached, somebody may try so often, in seconds; all others are told so at once."""


class Reach:
    """Told of every try by `contact` (client.http.Http.on_contact), asked before each by `gate`. Thread-safe. `latency_s`: how
    long the last small answer took; None: there was none.

    A server is away from a failed try until the next one that reaches it. While `is_listening` says that its events
    come, it is not away: a single call was slow.
    """

    def __init__(
        self, base_url: str, *, is_listening: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_listening = is_listening
        self.on_move: Callable[[bool], None] = lambda is_online: None
        self._base_url = base_url
        self._clock = clock
        self._lock = threading.Lock()
        self.latency_s: float | None = None
        self._reason = ""
        self._since: float | None = None
        self._tried_at = 0.0

    @property
    def is_away(self) -> bool:
        return self._since is not None and not self.is_listening()

    @property
    def reason(self) -> str:
        """Why, in words; "" when it is not away."""
        return self._reason if self.is_away else ""

    @property
    def away_for_s(self) -> float:
        since = self._since
        return 0.0 if since is None or not self.is_away else self._clock() - since

    def contact(self, reached: bool, what: str) -> None:
        """A try reached the server, or did not (`what`: why)."""
        with self._lock:
            was_away = self._since is not None
            if reached:
                self._since = None
                self._reason = ""
            else:
                self._reason = what
                self._tried_at = self._clock()
                if self._since is None:
                    self._since = self._tried_at
            moved = was_away == reached
        if moved:
            log.warning(
                "%s %s", self._base_url, "can be reached again" if reached else f"cannot be reached: {what}"
            )
            self.on_move(reached)

    def gate(self) -> bool:
        """Before a call. Raises UnavailableError at once while the server is away, except for one caller every few
        seconds, who finds out whether it is back: True, and should not take long about it."""
        if not self.is_away:
            return False
        with self._lock:
            now = self._clock()
            since, reason = self._since, self._reason
            if since is None:
                return False
            if now - self._tried_at >= RETRY_S:
                self._tried_at = now
                return True
        raise UnavailableError(
            f"{self._base_url} cannot be reached (for {now - since:.0f} s: {reason}); what was read before can be read, "
            f"and `artfs status` tells when it is back"
        )
