"""To be imported before httpx, which loads a command line of its own (rich, pygments, click) wherever these are installed: 5 MB
of each daemon, and a tenth of a second of each command. What cannot be imported it does without."""

from __future__ import annotations

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_modules.setdefault("httpx._main", None)
