"""Runs add_dir, save and download, and commands, in children that are interrupted, or kill themselves, at a step that was
chosen before.

    python interrupted.py        with jobs on standard input, one JSON object a line:

    {"work": "log", "source": "/folder", "name": "c1", "phase": "save", "step": 17, "signal": 9}
    {"work": "download", "name": "data:v0", "dest": "/folder", "phase": "download", "step": 30, "signal": 2}
    {"work": "command", "arguments": ["log", "/folder", "p/c"], "environ": {}, "phase": "parts", "step": 3, "signal": 9}

The phases are "add_dir" and "save", "download", and of a command with a server: "start", and then what it asked last, by its
route ("missing", "blobs", "uploads", "parts", "finish", "commit", …). A step is whatever Python audits of files (opening,
making, renaming, removing), starting a helper, a statement or transaction of a database, what is sent to a socket or received
from it, and each time that progress is told. Right before the chosen one the child sends itself the signal; 2 is Ctrl-C.
Step 0: none.

Each job is answered by one line of JSON: "status" (of the process, negative: the signal that ended it), "steps" of each
phase, as far as it came, "error", the name of what it raised, and "said", what a command wrote to standard error.
"""

import contextlib
import io
import json
import os
import signal
import socket
import sys
import threading
from typing import Any

import httpx
import sqlalchemy

import artfs
import artfs.api.remote
import artfs.api.run
import artfs.cli.commands.commit
import artfs.cli.commands.get
import artfs.cli.commands.log
import artfs.cli.commands.push
import artfs.transfer.exchange
import artfs.transfer.progress
from artfs.api.ambient import session_for
from artfs.cli import exits
from artfs.cli.main import run as run_command

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


def count_network(steps: Steps) -> None:
    """What is sent and received are steps, and requests begin phases."""
    send = httpx.Client.send

    def told_send(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        words = [word for word in request.url.path.split("/") if word.isalpha()]
        steps.phase = words[-1] if words else "other"
        steps.count()
        return send(client, request, **options)

    def counted(name: str) -> Any:
        call = getattr(socket.socket, name)

        def counting(*arguments: Any) -> Any:
            steps.count()
            return call(*arguments)

        return counting

    httpx.Client.send = told_send  # type: ignore[method-assign, assignment]
    for name in ("send", "recv"):
        setattr(socket.socket, name, counted(name))


def run(job: dict[str, Any], steps: Steps) -> None:
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", lambda *_: steps.count())
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", lambda _: steps.count())
    sys.addaudithook(steps.audit)
    if job["work"] == "command":
        os.environ.update(job["environ"])
        count_network(steps)
        steps.phase = "start"
        code = run_command(job["arguments"])
        steps.phase = ""
        if code == exits.INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            sys.exit(code)
        return
    session = session_for()
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
            error, said = "", io.StringIO()
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
                    run(job, steps)
            except BaseException as raised:
                error = type(raised).__name__
            steps.phase = ""
            os.write(writer, json.dumps({"steps": steps.steps, "error": error, "said": said.getvalue()[-4000:]}).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as stream:
            told = json.loads(stream.read() or b"{}")
        _, status = os.waitpid(child, 0)
        told["status"] = os.waitstatus_to_exitcode(status)
        print(json.dumps(told), flush=True)


main()
