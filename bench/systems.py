"""What bench/remote.py compares: mounts over one S3 server. Each has the same few methods, and its own way of doing them."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from artfs.testing.faultproxy import Counts, FaultProxy
from artfs.testing.mount import Daemon, Workspace, detach, is_mounted
from artfs.testing.postgres import postgres
from artfs.testing.serving import ServerProcess, artfs_serve

KEY, SECRET = "bench", "benchbench"
RCLONE = Path(sys.executable).with_name("rclone")
START_S = 60.0
KEPT = ".kept"
"""A file that makes the S3 server have a folder."""

LARGE = 16 * 1024 * 1024
"""Copies of files of this size are removed at once; small ones stay to the end (see bench/mount.py)."""


@dataclass(frozen=True)
class Link:
    """What a client is given. `s3`: endpoint of the S3 server; `server`: URL of ours ("" when there is none)."""

    s3: str
    server: str


class Network:
    """The S3 server, our server over it (twice, see `link`), and a proxy before each. Ended by `close`.

    Attributes:
        data: the folder of the bucket that the peers read, `artfs` that of ours.
    """

    def __init__(self, work: Path) -> None:
        self._stack = ExitStack()
        self._root = work / "s3"
        self.data = self._root / "data"
        self.artfs = self._root / "artfs"
        for folder in (self.data, self.artfs):
            folder.mkdir(parents=True)
        self._log = work / "s3.log"
        self._database = work / "database"
        self._s3 = ""
        self._servers: list[ServerProcess] = []
        self._proxies: list[FaultProxy] = []

    def start(self, *, ours: bool, database: str) -> None:
        """After the peers' data is in its folder. `database`: "postgres" or "sqlite"."""
        port = free_port()
        # Its defaults, but for how long it knows a folder: when it forgets one it reads every file anew to compute its MD5.
        command: list[str | Path] = [RCLONE, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
        command += ["--config", "/dev/null", "--dir-cache-time", "100h", self._root]
        self._stack.enter_context(running(command, self._log))
        wait_for_port(port)
        self._s3 = f"http://127.0.0.1:{port}"
        self._proxies = [self._stack.enter_context(FaultProxy(self._s3))]
        if ours:
            place = str(self._database) if database == "sqlite" else self._make_database()
            self._servers = [self._serve(place, public) for public in ("", self._proxies[0].url)]
            self._proxies.append(self._stack.enter_context(FaultProxy(self._servers[1].url)))

    def _make_database(self) -> str:
        server = self._stack.enter_context(postgres())
        return server.url(self._stack.enter_context(server.database(server.template)))

    def _serve(self, database: str, public: str) -> ServerProcess:
        options = {"endpoint": self._s3, "region": "us-east-1", **({"public": public} if public else {})}
        # https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html
        environ = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
        blobs = f"s3://artfs/bench?{urlencode(options)}"
        arguments = ["--database", database, "--blobs", blobs, "--no-auth", "--no-access-log", "--migrate"]
        return self._stack.enter_context(artfs_serve(*arguments, environ=environ))

    @contextmanager
    def link(self, rtt_ms: float, *, counted: bool = False) -> Iterator[Link]:
        """What clients are given. Without delay they have no proxy before the servers, unless what they move is `counted`: it
        takes time, and from the fastest most. Our server is there twice because it signs URLs for the S3 server as clients
        see it."""
        servers = [server.url for server in self._servers]
        if not rtt_ms and not counted:
            yield Link(self._s3, servers[0] if servers else "")
            return
        for proxy in self._proxies:
            proxy.set_link(delay_s=rtt_ms / 2000)
            proxy.reset_counts()
        yield Link(self._proxies[0].url, self._proxies[1].url if servers else "")

    def server_url(self) -> str:
        """Of ours, without a proxy."""
        return self._servers[0].url

    def server_pid(self) -> int:
        return self._servers[0].pid

    def counts(self) -> tuple[int, int, int]:
        """(requests, bytes to the servers, bytes to the client) since the link was made or `reset_counts`."""
        found = [proxy.counts() for proxy in self._proxies]
        return sum(c.requests for c in found), sum(c.up for c in found), sum(c.down for c in found)

    def both_counts(self) -> list[Counts]:
        """Of the S3 server's proxy, then of our server's."""
        return [proxy.counts() for proxy in self._proxies]

    def reset_counts(self) -> None:
        for proxy in self._proxies:
            proxy.reset_counts()

    def learn_digests(self) -> None:
        """The S3 server reads every object of the peers once to compute its MD5; whoever comes first must not wait for it."""
        self.rclone("lsf", "-R", "--files-only", "bench:data")

    def rclone(self, *command: str | Path) -> None:
        """The S3 server is its remote `bench`."""
        environ = {**os.environ, **rclone_environ(self._s3)}
        subprocess.run([RCLONE, "--config", "/dev/null", *command], env=environ, check=True, stdout=subprocess.DEVNULL)

    def close(self) -> None:
        self._stack.close()


class System(ABC):
    """A mount that is started with an empty cache.

    Attributes:
        name: what it is called in the report.
        root: where it is mounted.
        patience_s: how long a copy may take. TimeoutExpired when it does not end.
    """

    name: str

    def __init__(self, work: Path, network: Network, patience_s: float) -> None:
        self.patience_s = patience_s
        self.work = work / self.name
        self.work.mkdir()
        self.network = network
        self.root = self.work / "mnt"
        self._starts = 0

    @contextmanager
    def mounted(self, link: Link) -> Iterator[None]:
        """Mounted, with a cache folder that is new."""
        self._starts += 1
        try:
            self.start(link)
            yield
        finally:
            self.stop()
            remove_large(self.work)

    @property
    def cache(self) -> Path:
        return self.work / f"cache{self._starts}"

    @abstractmethod
    def start(self, link: Link) -> None:
        """Returns when the mount answers."""

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def path(self, name: str) -> Path:
        """Where a data set is read."""

    def prepare(self, source: Path, name: str) -> None:  # noqa: B027  (only one has something to do)
        """What somebody else must do before `copy_in` can work."""

    @abstractmethod
    def copy_in(self, source: Path, name: str) -> None:
        """Copies a folder into the mount and returns when all of it is with the server."""

    def close(self) -> None:  # noqa: B027
        """When it is mounted no more."""

    @property
    @abstractmethod
    def pid(self) -> int: ...

    def rss(self) -> int:
        """Resident memory of what serves the mount, in bytes."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024


class Peer(System):
    """A mount of the bucket `data`. `spawn` says what runs."""

    def __init__(self, work: Path, network: Network, patience_s: float) -> None:
        super().__init__(work, network, patience_s)
        self.root.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self, link: Link) -> tuple[list[str | Path], dict[str, str]]:
        """What stays in the foreground, and what is added to its environment."""

    def start(self, link: Link) -> None:
        self.cache.mkdir()
        command, environ = self.command(link)
        with (self.work / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environ}
            )
        end = time.monotonic() + START_S
        while not is_mounted(self.root):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not mount:\n{(self.work / 'log').read_text()}")
            time.sleep(0.02)
        os.listdir(self.root)

    def stop(self) -> None:
        if self._process is None:
            return
        done = subprocess.run(["fusermount3", "-u", self.root], capture_output=True, check=False)
        if done.returncode:
            detach(self.root)
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def path(self, name: str) -> Path:
        return self.root / name

    def copy_in(self, source: Path, name: str) -> None:
        there, wanted = self.network.data / name, totals(source)
        target = self.root / name
        if not target.exists():
            target.mkdir()
        end = time.monotonic() + self.patience_s
        subprocess.run(["cp", "-r", f"{source}/.", target], check=True, timeout=self.patience_s)
        while self.waits() or totals(there) != wanted:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"{self.name}: {totals(there)} of {wanted} sent", self.patience_s)
            time.sleep(0.05)

    def waits(self) -> bool:
        """Whether it has something still to send."""
        return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


class Rclone(Peer):
    """Its defaults, with the cache full, and what everybody is told to use over S3: the server's times (else it asks for each
    file's), and no wait before a file is sent."""

    name = "rclone"

    def command(self, link: Link) -> tuple[list[str | Path], dict[str, str]]:
        self._control = free_port()
        options: list[str | Path] = ["--vfs-cache-mode", "full", "--cache-dir", self.cache, "--use-server-modtime"]
        options += ["--vfs-write-back", "0s", "--rc", "--rc-no-auth", "--rc-addr", f"127.0.0.1:{self._control}"]
        command = [RCLONE, "--config", "/dev/null", "mount", "bench:data", self.root, *options]
        return command, rclone_environ(link.s3)

    def waits(self) -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{self._control}/vfs/stats", method="POST")
        with urllib.request.urlopen(request) as answer:
            cache = json.load(answer)["diskCache"]
        return bool(cache["uploadsInProgress"] or cache["uploadsQueued"])


class S3fs(Peer):
    """Its defaults, with a cache folder, and attributes of more files remembered than we have: above its 100,000 it sorts all of
    them for each one that comes, and a walk does not end. It sends a file before close() returns."""

    name = "s3fs"

    def command(self, link: Link) -> tuple[list[str | Path], dict[str, str]]:
        options = ["-o", f"url={link.s3}", "-o", "use_path_request_style", "-o", f"use_cache={self.cache}"]
        options += ["-o", "max_stat_cache_size=1000000"]
        return ["s3fs", "data", self.root, "-f", *options], {"AWSACCESSKEYID": KEY, "AWSSECRETACCESSKEY": SECRET}

    def prepare(self, source: Path, name: str) -> None:
        """Makes the folders: s3fs makes them by objects like `name/`, which rclone's server (1.75) takes for files."""
        skeleton = self.work / name
        for path, _folders, _names in os.walk(source):
            folder = skeleton / os.path.relpath(path, source)
            folder.mkdir(parents=True)
            (folder / KEPT).touch()
        self.network.rclone("copy", skeleton, f"bench:data/{name}")


class BenchWorkspace(Workspace):
    """A workspace whose commands use a server. `added`: to their environment."""

    added: dict[str, str]

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, **self.added}

    def command(self, *arguments: str | Path, patience_s: float | None = None) -> None:
        """`artfs ARGUMENTS`, for as long as it takes, or until TimeoutExpired. RuntimeError when it fails."""
        command = [sys.executable, "-m", "artfs.cli", *arguments]
        done = subprocess.run(
            command, env=self.environ, capture_output=True, text=True, check=False, timeout=patience_s, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise RuntimeError(f"artfs {' '.join(map(str, arguments))} exited {done.returncode}: {done.stdout}{done.stderr}")


class Artfs(System):
    """artfsd over `artfs serve`; data sets are collections of the project `bench`."""

    name = "artfs"
    workspace: BenchWorkspace
    """Of the running daemon."""

    def __init__(self, work: Path, network: Network, patience_s: float) -> None:
        super().__init__(work, network, patience_s)
        self._daemon: Daemon | None = None
        self._workspaces: list[BenchWorkspace] = []

    def start(self, link: Link) -> None:
        self.workspace = self._workspace(link)
        self._daemon = Daemon(self.workspace).start()
        self.root = self._daemon.mountpoint

    def _workspace(self, link: Link) -> BenchWorkspace:
        made = BenchWorkspace()
        made.added = {"ARTFS_SERVER": link.server, "ARTFS_CACHE_PATH": str(self.cache)}
        self._workspaces.append(made)
        return made

    @property
    def daemon(self) -> Daemon:
        assert self._daemon is not None
        return self._daemon

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.close()
            log = self._daemon.log_path.read_text(errors="replace")
            if re.search(r"\b(WARNING|ERROR|CRITICAL)\b|Traceback", log):
                print(f"    artfsd said:\n{log[-4000:]}", flush=True)
            self._daemon = None

    def path(self, name: str) -> Path:
        return self.root / "bench" / name / "latest"

    def copy_in(self, source: Path, name: str) -> None:
        draft = self.root / "drafts" / "bench" / name
        draft.mkdir(parents=True)
        subprocess.run(["cp", "-r", f"{source}/.", draft], check=True, timeout=self.patience_s)
        self.workspace.command("commit", f"bench/{name}", patience_s=self.patience_s)

    def client_environ(self, link: Link) -> dict[str, str]:
        """Of a process that uses the server without the mount, with a cache of its own."""
        self._starts += 1
        return self._workspace(link).environ

    def log_in(self, source: Path, name: str, link: Link) -> None:
        """By `artfs log`, without the mount, with a cache of its own."""
        self._starts += 1
        self._workspace(link).command("log", source, f"bench/{name}")
        remove_large(self.work)

    @property
    def pid(self) -> int:
        return self.daemon.pid

    def rss(self) -> int:
        """With what the process that fetches has of its own: the rest it shares with the daemon."""
        helper = self.daemon.status()["transfers"]["process"]
        private = re.findall(r"Private_\w+:\s+(\d+) kB", Path(f"/proc/{helper}/smaps_rollup").read_text()) if helper else []
        return super().rss() + 1024 * sum(map(int, private))

    def close(self) -> None:
        for workspace in self._workspaces:
            workspace.remove()


def rclone_environ(endpoint: str) -> dict[str, str]:
    """A remote named `bench` (https://rclone.org/docs/#config-file)."""
    values = {
        "TYPE": "s3", "PROVIDER": "Rclone", "ENDPOINT": endpoint, "ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET,
    }  # fmt: skip
    return {f"RCLONE_CONFIG_BENCH_{name}": value for name, value in values.items()}


def totals(folder: Path) -> tuple[int, int]:
    """(files, bytes) below a folder; what the S3 server is still writing does not count."""
    files = nbytes = 0
    for path, _folders, names in os.walk(folder):
        for name in names:
            if name != KEPT and not name.startswith(".rclone_temp"):
                files += 1
                nbytes += os.stat(os.path.join(path, name)).st_size
    return files, nbytes


def remove_large(folder: Path) -> None:
    for path, _folders, names in os.walk(folder):
        for name in names:
            file = os.path.join(path, name)
            if not os.path.islink(file) and os.path.isfile(file) and os.stat(file).st_blocks * 512 >= LARGE:
                os.unlink(file)


@contextmanager
def running(command: list[str | Path], log: Path) -> Iterator[int]:
    """A program that runs until the end of the block. Its pid."""
    with log.open("ab") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_for_port(port: int) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def unique(name: str) -> str:
    return f"{name}-{secrets.token_hex(3)}"


def measured(*command: Any, patience_s: float | None = None) -> tuple[float, int]:
    """Runs a reader, which says "SECONDS NBYTES" last. Both. TimeoutExpired when it does not end."""
    texts = [str(part) for part in command]
    done = subprocess.run(texts, capture_output=True, text=True, check=False, timeout=patience_s)
    if done.returncode:
        raise RuntimeError(f"{' '.join(texts)}: {done.stderr}")
    seconds, nbytes = done.stdout.split()[-2:]
    return float(seconds), int(nbytes)
