"""artfsd that is slow between noticing a request and reading it, as it is by chance when others want the processor.

    python late_daemon.py LATE_S MOUNTPOINT … (as artfsd)

Whoever is killed meanwhile takes the request back, and what would be read is not there any more.
"""

import sys
import time

from artfsd import run, shim
from artfsd.__main__ import main

LATE_S = float(sys.argv.pop(1))


class LateShim(shim.LoopShim):
    async def _wait_readable(self, fd: int) -> None:
        await super()._wait_readable(fd)
        time.sleep(LATE_S)  # noqa: ASYNC251  (the loop itself is late)


run.LoopShim = LateShim  # type: ignore[misc]
sys.exit(main())
