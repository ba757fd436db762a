"""Servers of many tests, each with a catalog of its own, in one process beside them: `artfs serve` takes a second to start, and
hundreds of tests want one.

A process, because the one that runs tests touches mounts whose daemons ask the server: what waits for a mount may hold Python's
lock. It serves as inprocess.py does; how `artfs serve` itself runs is the matter of tests/peer.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from artfs.testing.account import ROOT


class HostedServer:
    """One of them; `close` ends it."""

    def __init__(self, host: ServerHost, url: str) -> None:
        self._host = host
        self.url = url

    def close(self) -> None:
        self._host.call(f"end {self.url}")


class ServerHost:
    """The process. It ends with the one that made it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "artfs.testing.serverhost"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}", "PYTHONUNBUFFERED": "1"}, cwd="/",
        )  # fmt: skip

    def serve(self, home: Path) -> HostedServer:
        """A server without tokens. `home`: is made; its database and blobs are there."""
        return HostedServer(self, self.call(f"begin {home}"))

    def call(self, line: str) -> str:
        """Has it do something, and gives its answer. Raises AssertionError when it has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the process with the servers has ended; it was to {line}"
        return answer.rstrip("\n")


@functools.cache
def server_host() -> ServerHost:
    """That of this process."""
    return ServerHost()


def main() -> None:
    # Whoever only asks for servers does not load one.
    from artfs.server.parts import Places, prepare
    from artfs.testing.inprocess import serving

    running: dict[str, AbstractContextManager[str]] = {}
    with tempfile.TemporaryDirectory(prefix="artfs-template-") as folder:
        template = Path(folder) / "catalog.db"
        prepare(Places(template, folder), migrate=True, is_exposed=False)
        catalog = template.read_bytes()  # migrations take a while
    for line in sys.stdin:
        what, _, which = line.rstrip("\n").partition(" ")
        if what == "begin":
            home = Path(which)
            home.mkdir(mode=0o700, parents=True)
            (home / "catalog.db").write_bytes(catalog)
            server = serving(home)
            url = server.__enter__()
            running[url] = server
            sys.stdout.write(f"{url}\n")
        else:
            running.pop(which).__exit__(None, None, None)
            sys.stdout.write("ended\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
