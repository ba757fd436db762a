import sys
from typing import Any

# httpx loads a command line of its own (rich, pygments, click) wherever these are installed: 5 MB of each daemon, and a
# tenth of a second of each command. What cannot be imported it does without.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("httpx._main", None)
