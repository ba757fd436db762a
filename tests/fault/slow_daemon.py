"""artfsd whose large writes to drafts go to threads at once, and wait there at a gate as on a disk that does not answer.

    python slow_daemon.py GATE MOUNTPOINT … (as artfsd)

While GATE/closed exists, each of them adds a byte to GATE/begun, waits until it is gone, and writes then.
"""

import sys
import time
from pathlib import Path

from artfsd import drafthandle
from artfsd.__main__ import main

GATE = Path(sys.argv[1])
really = drafthandle.write_all


def wait(fd: int, data: bytes, offset: int) -> None:
    if len(data) >= drafthandle.LARGE_WRITE and (GATE / "closed").exists():
        with (GATE / "begun").open("ab") as begun:
            begun.write(b".")
        while (GATE / "closed").exists():
            time.sleep(0.01)
    really(fd, data, offset)


drafthandle.write_all = wait
drafthandle.SLOW_WRITE_S = -1.0
del sys.argv[1]
sys.exit(main())
