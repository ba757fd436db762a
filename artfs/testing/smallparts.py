"""`artfs serve` whose uploads have small parts, so that files of a few megabytes have many.

    python -m artfs.testing.smallparts NBYTES ARGUMENTS (as of artfs)
"""

from __future__ import annotations

import importlib
import runpy
import sys
from functools import partial

from artfs.server import parts
from artfs.server.blobs import Blobs
from artfs.server.calls import ServerParts
from artfs.server.parts import open_parts as open_real_parts


def open_parts(part_size: int, places: parts.Places) -> ServerParts:
    """In a worker."""
    vars(parts)["Blobs"] = partial(Blobs, part_size=part_size)
    return open_real_parts(places)


if __name__ == "__main__":
    # Workers find the function by the module's name, which is not "__main__" to them.
    named = importlib.import_module("artfs.testing.smallparts")
    parts.open_parts = partial(named.open_parts, int(sys.argv.pop(1)))
    runpy.run_module("artfs.cli", run_name="__main__", alter_sys=True)
