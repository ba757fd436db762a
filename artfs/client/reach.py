"""Whether a server can be reached, as far as is known: what lets a process without a network answer at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from artfs.errors import ArtfsError, OfflineError, UnavailableError

RETRY_S = 5.0
"""While it is away, somebody may try so often, in seconds; all others are told so at once."""


TELL_S = 1.0
"""Troubles that are over sooner are told to nobody, in seconds."""


class Reach:
    """Told of every try by `contact` (client.http.Http.on_contact), asked before each call by `gate`. Thread-safe.

    A server is away when no try has reached it for `patience_s` seconds, or when a call has given up: up to then it may be a
    short trouble, and calls try again. When it was heard of through its events since the first try that failed, it is not
    away: single calls are slow.

    Attributes:
        is_listening: whether its events come, as far as is known. heard_at: when something came of them last, by `clock`.
        latency_s: how long the last small answer took; None: there was none.
        on_move: told when tries have failed for TELL_S (False, and why), and then when one is through again (True).
        on_stale: told, once each time, that names are given as they were last seen, because the server cannot be asked (and why).
        on_return: called when one is through again, also after a trouble that was too short to be told.
    """

    def __init__(
        self, base_url: str, *, patience_s: float = 0.0, is_listening: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_listening = is_listening
        self.heard_at: Callable[[], float] = lambda: float("-inf")
        self.on_move: Callable[[bool, str], None] = lambda is_online, what: None
        self.on_stale: Callable[[str], None] = lambda why: None
        self.on_return: Callable[[], None] = lambda: None
        self.latency_s: float | None = None
        self._base_url = base_url
        self._patience_s = patience_s
        self._clock = clock
        self._closed = False
        self._lock = threading.Lock()
        self._reason = ""
        self._since: float | None = None
        self._gave_up = False
        self._was_told = False
        self._tried_at = 0.0

    @property
    def is_troubled(self) -> bool:
        """Whether the last try failed."""
        since = self._since
        return since is not None and not self._was_heard_after(since)

    @property
    def has_just_failed(self) -> bool:
        """Whether the last try failed, and was a moment ago: whoever has something to go on with need not try."""
        return self.is_troubled and self._clock() - self._tried_at < RETRY_S

    @property
    def is_away(self) -> bool:
        since = self._since
        if since is None or self._was_heard_after(since):
            return False
        return self._gave_up or self._clock() - since >= self._patience_s

    def _was_heard_after(self, when: float) -> bool:
        return self.is_listening() and self.heard_at() >= when

    @property
    def reason(self) -> str:
        """Why the last try failed, in words; "" when it did not."""
        return self._reason if self.is_troubled else ""

    @property
    def away_for_s(self) -> float:
        """How long no try has reached it."""
        since = self._since
        return 0.0 if since is None or not self.is_troubled else self._clock() - since

    def close(self) -> None:
        """From now on connections end because we end them."""
        self._closed = True

    def contact(self, reached: bool, what: str) -> None:
        """A try reached the server, or did not (`what`: why)."""
        with self._lock:
            if self._closed:
                return
            returned = reached and self._since is not None
            if reached:
                moved = self._was_told
                self._since = None
                self._gave_up = False
                self._reason = ""
                self._was_told = False
            else:
                self._reason = what
                self._tried_at = self._clock()
                if self._since is None:
                    self._since = self._tried_at
                moved = not self._was_told and self._tried_at - self._since >= TELL_S
                self._was_told = self._was_told or moved
        if returned:
            self.on_return()
        if moved:
            self.on_move(reached, what)

    def give_up(self) -> None:
        """A call has tried for as long as it may, in vain: others need not."""
        with self._lock:
            self._gave_up = self._since is not None

    def probe(self, ping: Callable[[], object]) -> None:
        """Finds out with one small call, and how long it takes. Raises nothing: `is_troubled` tells."""
        began = self._clock()
        try:
            ping()
        except ArtfsError as error:
            if isinstance(error, UnavailableError):
                return
            # It answers, even if it says no.
        self.latency_s = self._clock() - began

    def gate(self) -> bool:
        """Before a call. Raises OfflineError at once while the server is away, except for one caller every few seconds,
        who finds out whether it is back: True, and should not take long about it."""
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
        raise OfflineError(
            f"{self._base_url} cannot be reached (for {now - since:.0f} s: {reason}); what was read before can be read, "
            f"and `artfs status` tells when it is back"
        )
