"""Waiting for what comes to pass by itself."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: str = "what was waited for", limit_s: float = 30.0) -> None:
    """Returns when `condition` holds. AssertionError, which names `what`, after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to pass: {what}"
        time.sleep(0.01)
