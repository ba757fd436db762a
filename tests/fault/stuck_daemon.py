"""artfsd that gets stuck when somebody asks for it: `stat MOUNT/.artfs/stuck-HOW`.

    python stuck_daemon.py MOUNTPOINT … (as artfsd)

HOW is `loop`: the main thread waits in C, as in a system call that does not come back, whatever signal arrives; `lock`: it does
so with the interpreter lock; `answers`: requests wait for ever, and the event loop goes on.
"""

import ctypes
import os
import signal
import sys

from artfsd import run
from artfsd.__main__ import main
from artfsd.inodes import Attr, Wait
from artfsd.vfs import Vfs

FOR_EVER_S = 100_000


class StuckVfs(Vfs):
    wait_for_ever = False

    def lookup(self, parent: int, name: bytes) -> Attr:
        if name == b"stuck-loop":
            held = {number for number in signal.Signals if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGUSR2)}
            signal.pthread_sigmask(signal.SIG_BLOCK, held)
            ctypes.CDLL(None).sleep(FOR_EVER_S)
        elif name == b"stuck-lock":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            while True:
                ctypes.PyDLL(None).sleep(FOR_EVER_S)
        elif name == b"stuck-answers":
            self.wait_for_ever = True
        return super().lookup(parent, name)

    def statfs(self) -> os.statvfs_result:
        if self.wait_for_ever:
            raise Wait(lambda notify: False)  # until the deadline, which the test has made long
        return super().statfs()


run.Vfs = StuckVfs  # type: ignore[misc]
sys.exit(main())
