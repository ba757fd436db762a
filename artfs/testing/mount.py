"""A real daemon for tests: `python -m artfsd` as a process of its own.

A process that serves a mount must never touch that mount, so the tests are clients and the daemon is a child. It
notifies readiness as it would notify systemd (NOTIFY_SOCKET), so nothing here waits by sleeping.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from artfs.catalog import open_catalog
from artfs.client.control import DaemonClient
from artfs.settings import Settings, load_settings
from artfs.testing.account import ROOT, Account
from artfs.testing.serverhost import server_host

START_TIMEOUT_S = 30.0
"""Far above what a start takes (under a second); only a daemon that hangs meets it."""

STOP_TIMEOUT_S = 30.0

_BAD_LEVEL = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b")
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_CRASH = re.compile(r"^\s*[+|]?\s*(Exception Group )?Traceback \(most recent call last\)|^Fatal Python error|Warning: ")


class DaemonFailedError(AssertionError):
    """The daemon did not come up, or did not end; the message ends with its log."""


@functools.cache
def empty_catalog() -> bytes:
    """The file of one. To make it runs all migrations, which takes longer than all else that a daemon does at its start."""
    with tempfile.TemporaryDirectory(prefix="artfs-template-") as folder:
        path = Path(folder) / "catalog.db"
        open_catalog(path).close()
        return path.read_bytes()


class Served(Protocol):
    """A running server, or what is before it."""

    @property
    def url(self) -> str: ...

    def close(self) -> None: ...


@dataclass
class Workspace:
    """A short-named folder for one test: state folder, mountpoint and log. Removed by `remove`.

    Short, because a Unix socket's path may have 107 bytes; not pytest's tmp_path, because only root may enter that.

    Attributes:
        with_server: of the class: whether each workspace has a server, which has its catalog; otherwise that is embedded.
        server: that server.
    """

    with_server: ClassVar[bool] = False

    account: Account = field(default_factory=Account)
    path: Path = field(init=False)
    server: Served | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="artfs-", dir="/tmp"))
        self.path.chmod(0o755)
        for folder in (self.home, self.mountpoint, self.path / "cache"):
            folder.mkdir()
            self.account.own(folder)
        self.config.touch()
        self.serve()

    def serve(self) -> None:
        """Starts what is to be the server, if there is to be one."""
        if self.with_server:
            self.server = server_host().serve(self.path / "server" / "server")
        else:
            self.catalog_path.write_bytes(empty_catalog())
            self.account.own(self.catalog_path)
            self.catalog_path.chmod(0o600)

    @property
    def home(self) -> Path:
        return self.path / "home"

    @property
    def mountpoint(self) -> Path:
        return self.path / "mnt"

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def environ(self) -> dict[str, str]:
        """The environment in which `artfs` and `import artfs` use this workspace and nothing else."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ARTFS_")}
        inherited.pop("NOTIFY_SOCKET", None)
        paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}", "LC_ALL": "C.UTF-8"}
        own = {"ARTFS_HOME": str(self.home), "ARTFS_CONFIG": str(self.config), "ARTFS_CACHE_PATH": str(self.path / "cache")}
        if self.server is not None:
            own["ARTFS_SERVER"] = self.server.url
        return {**inherited, **paths, **own, **self.account.environ}

    @property
    def catalog_path(self) -> Path:
        """The database's file."""
        return self.home / "catalog.db" if self.server is None else self.path / "server" / "server" / "catalog.db"

    @property
    def blobs_path(self) -> Path:
        """Where whole blobs are files of their digests' names on this machine: the store, or a server's cache."""
        return self.path / "cache" / "blobs" if self.server is not None else self.home / "store" / "blobs"

    @property
    def settings(self) -> Settings:
        return load_settings(self.environ)

    def artfs(self, *arguments: str | os.PathLike[str], check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the command line: `artfs ARGUMENTS`. With `check`, a failure raises AssertionError with what it said."""
        command = [self.account.python, "-m", "artfs.cli", *arguments]
        done = self.account.run(command, env=self.environ)
        if check and done.returncode:
            shown = " ".join(os.fspath(argument) for argument in arguments)
            raise AssertionError(f"`artfs {shown}` exited {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def remove(self) -> None:
        """Detaches whatever is still mounted inside and removes the folder."""
        detach(self.mountpoint)
        try:
            if self.server is not None:
                self.server.close()
        finally:
            shutil.rmtree(self.path)


def is_mounted(path: Path) -> bool:
    """Whether something is mounted at `path`, by the kernel's table: it neither touches the mount nor can it hang."""
    wanted = str(path.parent.resolve() / path.name)
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    decode = re.compile(r"\\([0-7]{3})")
    return any(
        decode.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[4]) == wanted for line in table.splitlines()
    )


def detach(path: Path) -> None:
    """Takes away what is mounted at `path`, dead or alive; nothing there is fine."""
    command = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    while is_mounted(path):
        subprocess.run([*command, str(path)], check=True, capture_output=True)


class Daemon:
    """One artfsd over a workspace. As a context manager it starts on entering and is checked and removed on leaving.

    Arguments:
        workspace: where its state and its mountpoint are.
        arguments: more of the command line ("--aliases=symlinks").
        environ: added to its environment.
    """

    def __init__(
        self, workspace: Workspace, arguments: Sequence[str] = (), environ: dict[str, str] | None = None
    ) -> None:
        self.workspace = workspace
        self.arguments = tuple(arguments)
        self.environ = environ or {}
        self.log_path = workspace.path / f"artfsd-{len(list(workspace.path.glob('artfsd-*')))}.log"
        self.log_path.touch()
        self._expected: list[re.Pattern[str]] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def mountpoint(self) -> Path:
        return self.workspace.mountpoint

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running (or ended) process; AssertionError before the first `start`."""
        assert self._process is not None, "the daemon was never started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def command(self) -> list[str]:
        """What is run: `python -m artfsd MOUNTPOINT --foreground …`."""
        return [
            self.workspace.account.python,
            "-m",
            "artfsd",
            str(self.mountpoint),
            "--home",
            str(self.workspace.home),
            "--foreground",
            *self.arguments,
        ]

    def start(self, timeout_s: float = START_TIMEOUT_S) -> Self:
        """Starts it and returns when it says that the mount answers. May be called again after it ended.

        Raises DaemonFailedError when it ends first (see `failed_start` where that is what is tested) or stays silent.
        """
        assert not self.is_running, "the daemon runs already"
        with tempfile.TemporaryDirectory(prefix="artfs-notify-", dir="/tmp") as folder:
            address = Path(folder) / "socket"
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
                ready.bind(str(address))
                Path(folder).chmod(0o755)
                address.chmod(0o777)
                self._spawn({"NOTIFY_SOCKET": str(address)})
                self._await_ready(ready, time.monotonic() + timeout_s)
        return self

    def _spawn(self, environ: dict[str, str]) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**self.workspace.environ, **self.environ, **environ},
                start_new_session=True,
                **self.workspace.account.popen_arguments(),
            )

    def _await_ready(self, ready: socket.socket, deadline: float) -> None:
        ready.settimeout(0.1)
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in ready.recv(4096).split(b"\n"):
                    return
            if not self.is_running:
                raise DaemonFailedError(f"artfsd exited {self.process.returncode} before READY=1:\n{self.log()}")
        self.kill()
        raise DaemonFailedError(f"artfsd did not say READY=1 in time:\n{self.log()}")

    def failed_start(self, timeout_s: float = START_TIMEOUT_S) -> tuple[int, str]:
        """For tests of refusals: runs it until it ends; (exit code, what it wrote). Expects its log lines."""
        self._expected.append(re.compile(""))
        self._spawn({})
        try:
            return self.process.wait(timeout_s), self.log()
        except subprocess.TimeoutExpired:
            self.kill()
            raise DaemonFailedError(f"artfsd was expected to refuse, but runs:\n{self.log()}") from None

    def client(self) -> DaemonClient:
        """Its control socket."""
        name = hashlib.sha256(os.fsencode(self.mountpoint)).hexdigest()[:16]
        return DaemonClient(self.workspace.settings.run_path / f"{name}.sock")

    def status(self) -> dict[str, Any]:
        """What MOUNT/.artfs/status shows, asked over the control socket: asking counts no request of the mount."""
        return self.client().call("status", timeout_s=START_TIMEOUT_S)

    def status_file(self) -> dict[str, Any]:
        """MOUNT/.artfs/status, read as a user would."""
        shown: dict[str, Any] = json.loads((self.mountpoint / ".artfs" / "status").read_bytes())
        return shown

    def requests(self) -> Counter[str]:
        """How many requests of each kind ("lookup", "read", …) the handlers have answered."""
        return Counter(self.status()["requests"])

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Fills the yielded counter, at the end of the block, with the requests that came during it.

        RELEASE and FORGET follow a close() with a delay of their own, so theirs may be missing.
        """
        before = self.requests()
        during: Counter[str] = Counter()
        yield during
        during.update(self.requests() - before)

    def log(self) -> str:
        """All that it has written to standard error, over all its starts."""
        return self.log_path.read_text(errors="replace")

    def expect_log(self, pattern: str) -> None:
        """Announces lines of WARNING or worse that contain the regular expression, with their tracebacks."""
        self._expected.append(re.compile(pattern))

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, as systemd sends it; returns the exit code once it ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Waits for its end and returns the exit code; one that hangs is killed and DaemonFailedError raised."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DaemonFailedError(f"artfsd did not end:\n{self.log()}") from None

    def kill(self) -> None:
        """kill -9 of the daemon alone. The mountpoint is left as that leaves it."""
        self.process.kill()
        self.process.wait()

    def unmount(self) -> None:
        """`fusermount3 -u`, then waits for its end."""
        done = self.workspace.account.run(["fusermount3", "-u", str(self.mountpoint)])
        assert done.returncode == 0, done.stderr
        self.wait()

    def close(self) -> None:
        """Ends it if it runs, and detaches the mount. Removes no file and checks nothing."""
        try:
            if self.is_running:
                self.terminate()
        finally:
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)  # helpers that outlived it
            detach(self.mountpoint)

    def check_log(self) -> None:
        """Raises AssertionError when it logged a warning, an error or a traceback that no test announced."""
        found = unannounced(self.log(), self._expected)
        if found:
            raise AssertionError("artfsd logged what no test announced:\n" + "\n".join(found))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self.check_log()


def unannounced(log: str, expected: Sequence[re.Pattern[str]]) -> list[str]:
    """The lines of `log` that are of WARNING or worse and match none of `expected`, and tracebacks that belong to none.

    What follows a line with a level, up to the next such line, belongs to it and is announced with it.
    """
    surprises = []
    is_announced = False
    for line in log.splitlines():
        if _LEVEL.search(line):
            is_announced = any(pattern.search(line) for pattern in expected)
            if not is_announced and _BAD_LEVEL.search(line):
                surprises.append(line)
        elif _CRASH.search(line) and not is_announced:
            surprises.append(line)
    return surprises


def read_what_is_there(descriptor: int) -> bytes:
    """All that can be read without waiting."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(descriptor, 1 << 20):
            data += piece
    return data
