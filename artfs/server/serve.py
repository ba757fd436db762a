"""Processes: one that owns the socket and looks after the others (granian's main process), and workers that answer.

The socket is ours, not granian's: it may come from systemd, its port may be 0, and connections that wait in it outlive a worker.

The end (SIGTERM): the main process hands it to each worker, which says "stopping" in /readyz, ends its streams of events, closes
connections after their answers, and when nothing runs any more, or after the limit, interrupts itself; granian then closes what
is left. A worker may get SIGTERM from systemd as well; it drains once.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from artfs.errors import StorageError, UsageError
from artfs.server.accesslog import AccessLog
from artfs.server.app import AppOptions, make_app
from artfs.server.calls import ServerParts
from artfs.server.dispatch import HttpOptions
from artfs.server.metrics import NoMetrics, PrometheusMetrics
from artfs.server.peers import Network

BACKLOG = 2048
CONNECTIONS = 16_384
"""Most connections of a worker; listeners to events hold one each."""

START_S = 30.0
"""How long workers may take until all of them can answer, in seconds."""

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

log = logging.getLogger(__name__)

OpenParts = Callable[[], ServerParts]
"""Opens the database and the bucket; called once in each worker. It must be picklable."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `artfs serve` was told; docs/server.md.

    Attributes:
        host, port: where to listen; port 0: any that is free.
        sockets: descriptors of listening sockets that systemd hands over; not empty: `host` and `port` do not count.
        workers: processes that answer.
        tls: (certificate, key) in PEM; None: plain HTTP.
        metrics: (host, port) to serve Prometheus's metrics on; None: nowhere.
        notify_socket: where systemd waits for READY=1.
    """

    host: str
    port: int
    sockets: Sequence[int] = ()
    workers: int = 1
    tls: tuple[Path, Path] | None = None
    open_to_all: bool = False
    proxies: tuple[Network, ...] = ()
    metrics: tuple[str, int] | None = None
    access_log: bool = True
    linger_s: float = 0.0
    drain_s: float = 30.0
    log_level: str = "info"
    notify_socket: str | None = None


def serve(options: ServeOptions, open_parts: OpenParts, on_ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, and returns when all workers have ended.

    `on_ready` is called with the base URL when requests are answered. Raises StorageError when it cannot listen, UsageError
    for a certificate or key that cannot be used; exits with 1 when workers cannot start (their log says why).
    """
    configure_logging(options.log_level)
    _raise_file_limit()
    check_tls(options.tls)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listen(options))
        counting = stack.enter_context(_counting(options))
        # As granian chooses it.
        method = "fork" if multiprocessing.get_start_method() == "fork" else "spawn"
        started = multiprocessing.get_context(method).Semaphore(0)
        server = _Server(
            listening,
            interface=Interfaces.ASGI,
            workers=options.workers,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=CONNECTIONS,
            http1_settings=HTTP1Settings(header_read_timeout=20_000),
            ssl_cert=options.tls and options.tls[0],
            ssl_key=options.tls and options.tls[1],
            ssl_protocol_min=SSLProtocols.tls12,
            respawn_failed_workers=True,
            workers_kill_timeout=int(options.drain_s) + 10,
            log_level=LogLevels.warning,
            log_dictconfig={"loggers": {"_granian": {"handlers": [], "propagate": True}}},
        )

        def tell() -> None:
            for _ in range(options.workers):
                if not started.acquire(timeout=START_S):
                    return
            notify(options.notify_socket, "READY=1")
            on_ready(base_url(listening, options.tls is not None))

        server.on_startup(counting)
        server.on_startup(lambda: threading.Thread(target=tell, daemon=True, name="ready").start())
        server.on_shutdown(lambda: notify(options.notify_socket, "STOPPING=1"))
        server.serve(target_loader=partial(_load, options, open_parts, started), wrap_loader=False)


class _Server(MPServer):
    def __init__(self, listening: socket.socket, **more: Any) -> None:
        super().__init__("artfs", **more)
        self._listening = listening

    def _init_shared_socket(self) -> None:
        # What granian does by itself for a Unix socket: workers inherit one that is open.
        is_unix = self._listening.family == socket.AF_UNIX
        self._ssp = None
        self._shd = SocketHolder(self._listening.fileno(), is_unix, BACKLOG)  # type: ignore[call-arg, assignment]
        self._sfd = self._listening.fileno()  # type: ignore[assignment]
        self._sso = None


def _load(options: ServeOptions, open_parts: OpenParts, started: Any) -> Any:
    """The application of a worker."""
    configure_logging(options.log_level)
    # Ctrl-C of a terminal reaches all its processes; workers wait for what the main one makes of it. What granian sets for
    # SIGINT when its loop runs comes later, and is what ends a worker that has drained.
    return make_app(
        open_parts(),
        AppOptions(
            http=HttpOptions(options.open_to_all, options.proxies),
            linger_s=options.linger_s,
            drain_s=options.drain_s,
            on_ready=started.release,
            on_drained=lambda: os.kill(os.getpid(), signal.SIGINT),
        ),
        metrics=PrometheusMetrics() if options.metrics else NoMetrics(),
        access_log=AccessLog() if options.access_log else None,
    )


# sockets and TLS ------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _listen(options: ServeOptions) -> Any:
    if options.sockets:
        listening = socket.socket(fileno=options.sockets[0])
        if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise UsageError("the socket that systemd handed over does not listen (it wants ListenStream=)")
    else:
        try:
            family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
            listening = socket.create_server(
                (options.host, options.port), family=family, backlog=BACKLOG,
                dualstack_ipv6=options.host == "::" and socket.has_dualstack_ipv6(),
            )
        except OSError as error:
            where = f"{options.host}:{options.port}"
            raise StorageError(f"cannot listen on {where}: {error.strerror or error}", error.errno or 1) from error
    listening.set_inheritable(True)
    if listening.family != socket.AF_UNIX:
        # Connections inherit it. Without it the body of a streamed answer waits, often for 40 ms, until the client's kernel has
        # acknowledged the head (Nagle's algorithm against delayed acknowledgements).
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listening:
        yield listening


def base_url(listening: socket.socket, is_tls: bool) -> str:
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if is_tls else 'http'}://{shown}:{port}"


def check_tls(tls: tuple[Path, Path] | None) -> None:
    """Raises UsageError."""
    if tls is None:
        return
    certificate, key = tls
    try:
        text = key.read_text(encoding="ascii", errors="replace")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"cannot use the certificate {certificate} with the key {key}: {error}") from error
    if "BEGIN PRIVATE KEY" not in text:
        raise UsageError(f"the key {key} is not in PKCS#8: `openssl pkcs8 -topk8 -nocrypt -in {key}` writes it so")


# the process ----------------------------------------------------------------------------------------------------------
def configure_logging(level: str) -> None:
    logging.basicConfig(level=level.upper(), format=_LOG_FORMAT, stream=sys.stderr, force=True)
    for name in ("alembic", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def notify(address: str | None, message: str) -> None:
    """Tells systemd (sd_notify(3)). Nothing without an address."""
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            connection.sendall(message.encode())


def _raise_file_limit() -> None:
    """Each connection is a descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 65_536)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _counting(options: ServeOptions) -> Any:
    """Gives what starts the metrics' own listener. Each worker counts into a file of a folder, which is read here."""
    if options.metrics is None:
        yield lambda: None
        return
    host, port = options.metrics
    with tempfile.TemporaryDirectory(prefix="artfs-metrics-") as folder:
        # Read by prometheus_client when it is imported, which has to come after this.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

        class Living(MultiProcessCollector):
            def collect(self) -> Any:
                for path in Path(folder).glob("gauge_live*_*.db"):
                    pid = int(path.stem.rpartition("_")[2])
                    if not Path(f"/proc/{pid}").exists():
                        mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
                return super().collect()  # type: ignore[no-untyped-call]

        registry = CollectorRegistry()
        Living(registry)  # type: ignore[no-untyped-call]

        def start() -> None:
            try:
                start_http_server(port, host, registry)
            except OSError as error:
                raise StorageError(
                    f"cannot serve metrics on {host}:{port}: {error.strerror or error}", error.errno or 1
                ) from error

        yield start
