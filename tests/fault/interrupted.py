"""Runs add_dir, save and download in children that are interrupted, or kill themselves, at a step that was chosen before.

    python interrupted.py        with jobs on standard input, one JSON object a line:

    {"work": "log", "source": "/folder", "name": "c1", "phase": "save", "step": 17, "signal": 9}
    {"work": "download", "name": "data:v0", "dest": "/folder", "phase": "download", "step": 30, "signal": 2}

The phases are "add_dir" and "save", and "download". A step is whatever Python audits of files (opening, making, renaming,
removing), starting a helper, a statement or transaction of the catalog, and each time that progress is told. Right before
the chosen one the child sends itself the signal; 2 is Ctrl-C. Step 0: none.

Each job is answered by one line of JSON: "status" (of the process, negative: the signal that ended it), "steps" of each
phase, as far as it came, and "error", the name of what it raised.
"""

import json
import os
import signal
import sys
import threading
from typing import Any

import sqlalchemy

import artfs
import artfs.api.run
import artfs.transfer.progress
from artfs.api.ambient import session_for

artfs.transfer.progress._PERIOD_S = 0

EVENTS = {"open", "os.chmod", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "subprocess.Popen"}


class Steps:
    def __init__(self, phase: str, step: int, sent: int) -> None:
        self.steps: dict[str, int] = {}
        self.phase = ""
        self._fate = (phase, step)
        self._signal = sent
        self._lock = threading.RLock()

    def count(self) -> None:
        with self._lock:
            if not self.phase:
                return
            number = self.steps[self.phase] = self.steps.get(self.phase, 0) + 1
            if (self.phase, number) != self._fate:
                return
        os.kill(os.getpid(), self._signal)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS:
            self.count()


def run(job: dict[str, Any], steps: Steps) -> None:
    session = session_for()
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", lambda *_: steps.count())
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", lambda _: steps.count())
    sys.addaudithook(steps.audit)
    with artfs.progress(lambda told: steps.count()):
        if job["work"] == "log":
            artifact = artfs.Artifact(job["name"], "dataset")
            steps.phase = "add_dir"
            artifact.add_dir(job["source"])
            steps.phase = "save"
            artifact.save("p")
        else:
            artifact = artfs.Api(session=session).artifact(f"p/{job['name']}")
            steps.phase = "download"
            artifact.download(job["dest"])
        steps.phase = ""


def main() -> None:
    # Whoever was started in the background by a shell, as a CI's tests may be, ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        job = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            steps = Steps(job["phase"], job["step"], job["signal"])
            error = ""
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                run(job, steps)
            except BaseException as raised:
                error = type(raised).__name__
            steps.phase = ""
            os.write(writer, json.dumps({"steps": steps.steps, "error": error}).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as stream:
            told = json.loads(stream.read() or b"{}")
        _, status = os.waitpid(child, 0)
        told["status"] = os.waitstatus_to_exitcode(status)
        print(json.dumps(told), flush=True)


main()
