"""When to try again: a schedule as values, without a clock and without a socket.

Waits grow by two from `first_s` to `longest_s`, each somewhere between half and all of that (so that many clients that were
cut off together do not come back together). What the server asks for (`Retry-After`) is waited for, however long, as long
as the time limit allows it; a wait that would end after the limit is not begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

AGAIN = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may well succeed."""

NOT_BEGUN = frozenset({429, 503})
"""Of those, the ones with which our server says that it has not begun with the request: also a call that must not be made
twice may be sent again."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """`limit_s`: how long all tries may take together, counted from the start of the first. `tries`: how many there are at
    most."""

    limit_s: float
    first_s: float = 0.1
    longest_s: float = 5.0
    tries: int = 50

    def wait_s(self, tried: int, elapsed_s: float, chance: float, retry_after_s: float | None = None) -> float | None:
        """How long to wait before the next try; None: give up.

        Arguments:
            tried: how many tries there were, >= 1.
            elapsed_s: since the start of the first.
            chance: a random number of [0, 1).
            retry_after_s: what the server asked for; None: nothing.
        """
        if tried >= self.tries:
            return None
        most = min(self.longest_s, self.first_s * 2.0 ** min(tried - 1, 30))
        wait = most * (0.5 + chance / 2)
        if retry_after_s is not None:
            # Later than asked, never earlier, and not all at the same moment.
            wait = retry_after_s + self.first_s * chance
        return wait if elapsed_s + wait < self.limit_s else None


def read_retry_after(value: str | None, now: datetime) -> float | None:
    """What a `Retry-After` header says, in seconds >= 0: a number, or a date. None: nothing that can be understood."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())
