"""artfsd whose copies of inherited content wait at a gate, as those of very large files would.

    python gated_daemon.py GATE MOUNTPOINT … (as artfsd)

Each copy adds a byte to GATE/begun, and goes on once GATE/open exists.
"""

import sys
import time
from pathlib import Path

from artfsd import copyup
from artfsd.__main__ import main

GATE = Path(sys.argv[1])
really = copyup.try_reflink


def wait(source: int, target: int) -> bool:
    with (GATE / "begun").open("ab") as begun:
        begun.write(b".")
    while not (GATE / "open").exists():
        time.sleep(0.01)
    return really(source, target)


copyup.try_reflink = wait
del sys.argv[1]
sys.exit(main())
