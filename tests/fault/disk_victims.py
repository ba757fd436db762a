"""Runs artfs commands over state folders on recording disks (recording_disk.py).

    python disk_victims.py        with jobs on standard input, one JSON object a line:

    {"home": "/…", "arguments": ["commit", "p/c"]}

runs `artfs ARGUMENTS` in a child that is forked when everything has been imported, and answers with one line:
{"code": …, "out": …, "err": …}. The child believes that it lives in an earlier boot of the machine, and tells the disk when it
calls syncfs(2), which the kernel does not pass on.
"""

import contextlib
import io
import json
import os
import sys

import artfs.api.remote
import artfs.catalog.sql.migrate
import artfs.cli.commands.commit
import artfs.cli.commands.log
import artfs.cli.commands.ls
import artfs.transfer.push
import artfs.transfer.seal
from artfs.cli.main import run
from artfs.store import layout, linux
from artfs.testing.recordingdisk import EARLIER_BOOT
from artfs.transfer import journal

PRELOADED = (
    artfs.api.remote, artfs.catalog.sql.migrate, artfs.cli.commands.commit, artfs.cli.commands.log, artfs.cli.commands.ls,
    artfs.transfer.push, artfs.transfer.seal,
)  # fmt: skip
"""What a child would import by itself, before it is forked."""

syncfs = linux.syncfs


def telling_syncfs(fd: int) -> None:
    """The disk's folder, and not `fd`: it hears of its root only."""
    syncfs(fd)
    os.setxattr(os.environ["ARTFS_HOME"], "user.disk.syncfs", b"")


def main() -> None:
    layout.read_boot_id = lambda: EARLIER_BOOT
    layout.syncfs = journal.syncfs = telling_syncfs
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            code, out, err = 70, io.StringIO(), io.StringIO()
            try:
                os.environ["ARTFS_HOME"] = job["home"]
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    code = run(job["arguments"])
            except BaseException as error:
                err.write(f"{type(error).__name__}: {error}")
            finally:
                said = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
                os.write(1, json.dumps(said).encode() + b"\n")
                os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
