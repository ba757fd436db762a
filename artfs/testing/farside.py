"""A workstation whose server is behind a network that goes wrong when told to (faultproxy.py): a workspace with such a server,
and what every test of it ends with."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from artfs.api.session import Session, open_session
from artfs.store.cache import Cache
from artfs.store.cache.check import CacheCheck, check_cache
from artfs.testing.faultproxy import FaultProxy
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.s3 import CREDENTIALS, S3Server, rclone_server
from artfs.testing.serving import ServerProcess
from artfs.testing.waiting import until
from artfs.transfer.verify import Problem, verify_version

PART = 2 * 1024 * 1024

LIMIT_S = 4.0
"""The time limits that a FarWorkspace sets: of a system call, and of a call to the server with all its tries."""

SPARE_S = 4.0
"""What is allowed beyond a limit before a test says that something hangs: this machine has other things to do, too."""


class FarServer:
    """`artfs serve` without tokens, behind a proxy. `close` ends both. Uploads have parts of PART bytes.

    Arguments:
        home: its state folder; database and blobs are below it.
        environ: of its process.
        with_bucket: blobs are in a bucket of an S3 server, which everybody reaches through a proxy of its own.
    Attributes:
        proxy: before the server. `bucket`: the one before the S3 server; None: there is none.
        process: the server; None while it is down.
        home: as given.
    """

    def __init__(self, home: Path, environ: dict[str, str], *, with_bucket: bool = False) -> None:
        self.home = home
        self._environ = {**environ, "ARTFS_HOME": str(home)}
        self._arguments = ["--no-auth", "--no-access-log"]
        self._logs: list[str] = []
        self.bucket: FaultProxy | None = None
        self.process: ServerProcess | None = None
        with ExitStack() as stack:
            if with_bucket:
                s3 = stack.enter_context(rclone_server(home / "s3"))
                self.bucket = stack.enter_context(FaultProxy(s3.endpoint))
                self._arguments += ["--blobs", S3Server(self.bucket.url, None).url("blobs")]
                self._environ.update(CREDENTIALS)
            self.process = self._run()
            stack.callback(self._end)
            self.proxy = stack.enter_context(FaultProxy(self.process.url))
            self._stack = stack.pop_all()

    @property
    def url(self) -> str:
        """Of the proxy."""
        return self.proxy.url

    @property
    def log(self) -> str:
        """All that its processes wrote to standard error."""
        return "".join([*self._logs, self.process.log if self.process is not None else ""])

    def _run(self) -> ServerProcess:
        serve = ["-m", "artfs.testing.smallparts", str(PART), "serve", "--listen", "127.0.0.1:0"]
        return ServerProcess([*serve, *self._arguments], self._environ)

    def start(self) -> None:
        """Again, after `kill`; on another port, to which the proxy leads from now on."""
        assert self.process is None, "it runs"
        self.process = self._run()
        self.proxy.retarget(self.process.url)

    def kill(self) -> None:
        """kill -9 of the server and its workers. The proxy stays, and connects to nobody."""
        process, self.process = self.process, None
        assert process is not None, "it does not run"
        process.kill()
        self._logs.append(process.log)

    def go_away(self) -> None:
        """Neither the server nor the bucket can be reached."""
        for proxy in self.proxies():
            proxy.refuse()
            proxy.reset_now()

    def heal(self) -> None:
        """Nothing goes wrong from now on."""
        for proxy in self.proxies():
            proxy.clear()
            proxy.set_link()
            proxy.silence(False)
            proxy.refuse(False)
        if self.process is None:
            self.start()

    def proxies(self) -> list[FaultProxy]:
        return [self.proxy, *([self.bucket] if self.bucket is not None else [])]

    def _end(self) -> None:
        if self.process is not None:
            self.process.close()

    def close(self) -> None:
        self._stack.close()


@dataclass(kw_only=True)
class FarWorkspace(Workspace):
    """See Workspace; its server is `far`, whatever `--with-server` says, and what waits for it waits LIMIT_S.

    Attributes:
        far: may be shared with others; `remove` leaves it.
        extra: more of the environment of all that runs in it.
    """

    far: FarServer
    extra: dict[str, str] = field(default_factory=dict)

    def serve(self) -> None:
        self.server = self.far

    def remove(self) -> None:
        self.server = None
        super().remove()

    @property
    def environ(self) -> dict[str, str]:
        limits = {"ARTFS_DEADLINE_S": str(LIMIT_S), "ARTFS_NETWORK_TIMEOUT_S": str(LIMIT_S)}
        return {**super().environ, **limits, **self.extra}

    def session(self) -> Session:
        """What another process of this workstation would have. A context manager."""
        return open_session(self.settings)

    def problems(self, project: str) -> list[Problem]:
        """What is wrong with the project's versions: each byte of each of them is read, through the cache and the proxy."""
        found: list[Problem] = []
        with self.session() as session:
            for member in session.catalog.versions():
                if member.project == project:
                    found += verify_version(session.store, member.version.digest, workers=1)
        return found

    def check_cache(self) -> CacheCheck:
        """Every byte of the cache; what is wrong is gone afterwards."""
        settings = self.settings
        with Cache(settings.cache_path, size=settings.cache_size, floor=settings.cache_floor) as cache:
            return check_cache(cache)


def check_sound(workspace: FarWorkspace, project: str, daemon: Daemon | None = None) -> None:
    """What a test of faults ends with, once nothing goes wrong any more: the cache has no wrong byte, all versions verify, and
    the daemon waits for nothing and ends at once."""
    workspace.far.heal()
    assert workspace.check_cache().damaged == []
    assert workspace.problems(project) == []
    if daemon is not None:
        until(lambda: not daemon.status()["in_flight"], "all requests are answered")
        until(lambda: not daemon.status()["transfers"]["under_way"], "all transfers have ended")
        with at_most(0):
            assert daemon.terminate() == 0


def open_files(pid: int) -> Counter[str]:
    """What the descriptors of a process are, by kind: "socket", "pipe", "blob" (of a cache, whole or not), "cache" (what else
    there is of it), "file" …"""
    kinds: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue  # closed meanwhile
        if "/cache/" in target:
            kind = "blob" if "/partial/" in target or "/blobs/" in target else "cache"
        else:
            kind = target.partition(":")[0] if ":" in target else "file"
        kinds[kind] += 1
    return kinds


def thread_names(pid: int) -> list[str]:
    """Of a process, sorted; the kernel keeps 15 characters of each."""
    names = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            names.append((task / "comm").read_text().strip())
    return sorted(names)


@contextmanager
def at_most(limit_s: float) -> Iterator[None]:
    """Says so when the body took longer: something waited that must not."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert took < limit_s + SPARE_S, f"it took {took:.1f} s instead of {limit_s:.1f}"


def readable(path: Path) -> bool:
    """Whether all of a file can be read."""
    try:
        path.read_bytes()
    except OSError:
        return False
    return True
