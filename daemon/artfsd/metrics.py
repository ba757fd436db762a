"""What Prometheus is told of a mount, when it is asked for: `GET /metrics` on a Unix socket or a port of this machine.

All of it is what MOUNT/.artfs/status shows, read anew for each answer. docs/semantics.md lists the names.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h11
import trio

from artfs.errors import MissingExtraError, StorageError, UsageError

if TYPE_CHECKING:
    from prometheus_client import Metric

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long a caller may take to say what it wants, and to take the answer."""

_LOCAL = ("127.0.0.1", "::1", "localhost")

Status = Callable[[], dict[str, Any]]


class MetricsServer:
    """Serves the metrics of one mount.

    Arguments:
        address: "unix:PATH", or "PORT" or "HOST:PORT" of the loopback interface.
        status: what MOUNT/.artfs/status shows.
    Raises UsageError for another address, MissingExtraError without the package prometheus-client.
    """

    def __init__(self, address: str, status: Status) -> None:
        try:
            # `core` is needed at the first question only, when another version may be installed.
            from prometheus_client import CollectorRegistry, ProcessCollector, core  # noqa: F401
        except ImportError:
            raise MissingExtraError("metrics need the package prometheus-client: pip install 'artfs[metrics]'") from None
        self._address = parse_address(address)
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(_MountCollector(status))

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled. Raises StorageError when the address is taken."""
        try:
            listeners = await self._listen()
        except OSError as error:
            raise StorageError.wrap(error, f"serving metrics on {self._shown}") from error
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                await trio.serve_listeners(self._answer, listeners, handler_nursery=nursery)
        finally:
            if isinstance(self._address, str):
                with suppress(OSError):
                    os.unlink(self._address)

    @property
    def _shown(self) -> str:
        return self._address if isinstance(self._address, str) else "{}:{}".format(*self._address)

    async def _listen(self) -> list[trio.SocketListener]:
        if not isinstance(self._address, str):
            host, port = self._address
            return await trio.open_tcp_listeners(port, host=host)
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(self._address).st_mode):
                os.unlink(self._address)  # of a daemon that was killed
        opened = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            await opened.bind(self._address)
        except BaseException:
            opened.close()
            raise
        finally:
            os.umask(mask)
        opened.listen(16)
        return [trio.SocketListener(opened)]

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            with trio.move_on_after(PATIENCE_S), suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
                connection = h11.Connection(h11.SERVER)
                while not isinstance(event := connection.next_event(), h11.Request):
                    if isinstance(event, h11.ConnectionClosed):
                        return
                    connection.receive_data(await stream.receive_some(65_536))
                code, body = self._reply(event)
                headers = [("Content-Type", "text/plain; version=0.0.4; charset=utf-8"), ("Connection", "close")]
                head = h11.Response(status_code=code, headers=[*headers, ("Content-Length", str(len(body)))])
                events = [head, *([h11.Data(data=body)] if event.method != b"HEAD" else []), h11.EndOfMessage()]
                await stream.send_all(b"".join(connection.send(each) or b"" for each in events))

    def _reply(self, request: h11.Request) -> tuple[int, bytes]:
        from prometheus_client import generate_latest

        if request.target.partition(b"?")[0] != b"/metrics":
            return 404, b"look at /metrics\n"
        if request.method not in (b"GET", b"HEAD"):
            return 405, b"GET it\n"
        try:
            return 200, generate_latest(self._registry)
        except Exception:
            # What goes wrong here must not end what serves the mount.
            log.exception("collecting metrics failed")
            return 500, b"collecting metrics failed; the daemon's log says why\n"


def parse_address(text: str) -> str | tuple[str, int]:
    """The path of a socket, or (host, port). Raises UsageError."""
    if text.startswith("unix:") and text != "unix:":
        return os.path.abspath(os.path.expanduser(text[len("unix:") :]))
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if host in _LOCAL and port.isascii() and port.isdecimal() and 0 < int(port) < 65_536:
        return host, int(port)
    raise UsageError(f"metrics are served on unix:PATH, PORT or 127.0.0.1:PORT, not on {text!r}")


class _MountCollector:
    """What prometheus_client collects from."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        status = self._status()
        requests = CounterMetricFamily("artfs_mount_requests", "Requests of the kernel that were answered", labels=["op"])
        for name, count in status["requests"].items():
            requests.add_metric([name], count)
        yield requests
        for name, text, value in _gauges(status):
            yield GaugeMetricFamily(f"artfs_{name}", text, value)
        for name, text, value in _counters(status):
            yield CounterMetricFamily(f"artfs_{name}", text, value)


def _gauges(status: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    yield "mount_requests_running", "Requests of the kernel under way", status["in_flight"]
    yield "mount_inodes", "Inodes that the kernel knows", status["inodes"]
    yield "mount_open_files", "Files of versions that are open", status["blobs"]["open"]
    yield "drafts", "Drafts in use", len(status["drafts"])
    yield "draft_files_to_hash", "Closed files of drafts whose hashes are not known yet", status["hashing"]
    if "server" in status:
        server, cache, transfers = status["server"], status["cache"], status["transfers"]
        yield "server_up", "Whether the server can be reached, as far as is known", server["online"]
        yield "server_events_connected", "Whether the server tells what changes", server["events"]
        if server["latency_s"] is not None:
            yield "server_latency_seconds", "How long the server takes to answer", server["latency_s"]
        yield "transfers_waiting", "Blocks and small files that somebody waits for", transfers["waiting"]
        yield "transfers_running", "Blocks and small files under way", transfers["under_way"]
        if "error" in cache:
            return
        yield "cache_bytes", "Bytes of blobs in the cache", cache["size"]
        yield "cache_blobs", "Blobs in the cache", cache["blobs"]
        yield "cache_pinned_bytes", "Bytes of the cache that are pinned", cache["pinned_size"]
        yield "cache_limit_bytes", "Bytes that the cache may have, without those that are pinned", cache["limit"]
        yield "cache_free_bytes", "Bytes free on its disk", cache["free"]


def _counters(status: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    yield "invalidations", "What the kernel was told to forget", status["invalidations"]
    if "transfers" in status:
        transfers = status["transfers"]
        yield "reads", "Reads of files of versions that the daemon answered", transfers["reads"]
        yield "reads_waited", "Those of them that had to wait for the server", transfers["waited"]
        yield "fetched_bytes", "Bytes of blobs that came", transfers["nbytes"]
        yield "fetch_requests", "Requests for them", transfers["requests"]
        yield "fetch_failures", "Requests for them that failed in the end", transfers["failures"]
        yield "fetched_wrong", "Blobs and blocks that came with wrong bytes, and were asked for again", transfers["wrong"]
        yield "cache_damaged", "Blobs and blocks of the cache that were found damaged", transfers["damaged"]
