"""One line of JSON for each request. No secret can stand in it: neither headers nor queries nor paths are written, but the route
and the project that it was about."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from typing import Any, TextIO


class AccessLog:
    """Writes to `stream` (None: standard error); thread-safe."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

    def write(self, **fields: Any) -> None:
        """What is None is left out."""
        told = {name: value for name, value in fields.items() if value is not None}
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **told})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()
