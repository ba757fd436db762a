"""Runs artfs commands over state folders on recording disks (recording_disk.py).

    python disk_victims.py        with jobs on standard input, one JSON object a line:

    {"home": "/…", "arguments": ["commit", "p/c"]}

runs `artfs ARGUMENTS` in a child that is forked when everything has been imported, and answers with one line:
{"code": …, "out": …, "err": …}. See artfs.testing.recordingdisk.live_on_recording_disk.
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
from artfs.testing.recordingdisk import live_on_recording_disk

PRELOADED = (
    artfs.api.remote, artfs.catalog.sql.migrate, artfs.cli.commands.commit, artfs.cli.commands.log, artfs.cli.commands.ls,
    artfs.transfer.push, artfs.transfer.seal,
)  # fmt: skip
"""What a child would import by itself, before it is forked."""

def main() -> None:
    live_on_recording_disk(lambda: os.environ["ARTFS_HOME"])
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
