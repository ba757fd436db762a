"""The daemon from start to end: the one place where its parts are put together."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyfuse3
import trio

from artfs.api import reserve
from artfs.api.session import Session, open_session
from artfs.errors import MountpointError, StorageError
from artfs.settings import Settings
from artfs.store.linux import keep_large_buffers
from artfs.store.staging import DraftArea
from artfs.transfer.expiry import Expiry
from artfs.wire.control import MountRecord
from artfsd import mountpoint as place
from artfsd.control import ControlServer
from artfsd.metrics import MetricsServer
from artfsd.naming import Invalidation
from artfsd.notify import Notifier, Watcher
from artfsd.operations import Operations
from artfsd.serverside import ServerSide
from artfsd.shim import LoopShim
from artfsd.vfs import Vfs
from artfsd.waiting import WaitingCommits

if TYPE_CHECKING:
    from artfs.transfer.fetchprocess import FetchProcess

log = logging.getLogger(__name__)

GUARD_S = 0.5
"""Period of the signal that interrupts pyfuse3's read of /dev/fuse, which holds the interpreter lock: without it, a
client that is killed at the wrong moment freezes the process until the next request."""

THREADS = 16
"""Blocking operations at once; a cold disk gains nothing from more."""

REMOTE_THREADS = 64
"""With a server: some of them wait for it, for as long as they may, and must not keep the others from the disk."""

WORKERS = 64
REMOTE_WORKERS = 400
"""Requests in work at once (each may hold a buffer of 1 MiB, touched only when it is needed). With a server many wait for
transfers, and those who ask for what is here must not wait behind them."""

READY_TIMEOUT_S = 30.0

END_S = 1.0
"""How long requests may still wait for a server after SIGTERM, in seconds."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What a mount is told besides the settings. `notify_socket`: systemd's, None when there is none."""

    mountpoint: str
    allow_other: bool = False
    symlinked_aliases: bool = False
    notify_socket: str | None = None
    watchdog_s: float | None = None


def serve(settings: Settings, options: MountOptions) -> None:
    """Mounts, serves until it is unmounted or told to end by SIGTERM or SIGINT, and cleans up. Raises ArtfsError."""
    mountpoint = place.resolve(options.mountpoint)
    place.check_apart(mountpoint, settings.home)
    settings.make_home()
    os.chdir("/")  # hold no directory busy; and mount(8) would show a file of the name `artfs` here as the source
    _raise_limits()
    keep_large_buffers()
    process = _fork_fetch_process(settings)
    with ExitStack() as stack:
        if process is not None:
            stack.callback(process.close)
        lock = place.lock(settings.run_path, mountpoint)
        stack.callback(os.close, lock)
        # Its record is taken away at the end of a daemon, unless that is a sudden one.
        place.prepare(mountpoint, was_killed=(settings.run_path / f"{place.mount_id(mountpoint)}.json").exists())
        session = stack.enter_context(_open_session(settings, process))
        server_side: ServerSide | None = None
        if session.remote is not None:
            server_side = ServerSide(session)
            stack.callback(server_side.close)
        # One connection from here to the end: on a full disk, the next first one would not get its shared memory.
        session.catalog.change_token()
        area = DraftArea(settings.drafts_path)
        own_drafts = area.own()
        stack.callback(area.disown)
        if not own_drafts:
            log.info("another daemon serves the drafts of %s; this mount shows versions only", settings.home)
        notifier = Notifier()
        stack.callback(notifier.close)
        shim = LoopShim()
        tuned: dict[str, str] = {}
        started = datetime.now(UTC)
        operations: Operations | None = None

        def status() -> dict[str, Any]:
            assert operations is not None
            return {
                "pid": os.getpid(),
                "mountpoint": mountpoint,
                "home": str(settings.home),
                "entity": settings.entity,
                "started_at": started.isoformat(),
                "requests": dict(sorted(operations.counts.items())),
                "in_flight": len(operations.in_flight),
                "invalidations": notifier.sent,
                "rss": _rss(),
                "tuning": tuned,
                **(server_side.status() if server_side is not None else {}),
            }

        vfs = Vfs(
            settings,
            session.catalog,
            session.store,
            session.references,
            session.remote.fetcher if session.remote is not None else None,
            uid=os.getuid(),
            gid=os.getgid(),
            area=area if own_drafts else None,
            symlinked_aliases=options.symlinked_aliases,
            watched=True,
            notify=notifier.send,
            status=status,
        )
        stack.callback(vfs.close)
        if vfs.drafts is not None:
            vfs.drafts.recover_all()
        limiter = trio.CapacityLimiter(THREADS if session.remote is None else REMOTE_THREADS)
        operations = Operations(vfs, shim, settings.deadline_s, limiter)
        shim.idle = vfs.pool.hash_small
        shim.busy = vfs.pool.has_threads_at_work
        if session.remote is not None:
            fetcher, pool = session.remote.fetcher, vfs.pool
            shim.busy = lambda: fetcher.is_busy or pool.has_threads_at_work()
        vars(pyfuse3)["trio"] = shim
        _mount(operations, mountpoint, options)
        # What was made up to here lives as long as the process; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)  # nodes come and go by the thousand, in no cycles
        try:
            trio.run(_main, settings, options, mountpoint, vfs, session, server_side, notifier, shim, tuned)
        finally:
            notifier.close()
            signal.setitimer(signal.ITIMER_REAL, 0)
            pyfuse3.close(unmount=True)
            log.info("unmounted %s", mountpoint)


def _fork_fetch_process(settings: Settings) -> FetchProcess | None:
    """While there is one thread. None: without a server there is nothing to fetch."""
    if not settings.server:
        return None
    from artfs.api.remote import fork_fetch_process  # loads httpx, before the fork

    try:
        return fork_fetch_process(settings)
    except OSError as error:
        log.warning("no process of its own fetches from the server: %s", error)
        return None


def _open_session(settings: Settings, process: FetchProcess | None) -> Session:
    """`process`: fetches for it. Raises as open_session."""
    if process is None:
        return open_session(settings, listen=True)
    from artfs.api.remote import open_remote

    return Session(settings, *open_remote(settings, listen=True, process=process))


def _mount(operations: Operations, mountpoint: str, options: MountOptions) -> None:
    flags = set(pyfuse3.default_options) | {"fsname=artfs", "subtype=artfs"}
    if options.allow_other:
        flags.add("allow_other")
    elif os.geteuid() == 0:
        # Only root can come here, whom no mode stops. Without the kernel's checks, files are made with a request less:
        # after each, it would ask for the directory's attributes again.
        flags.discard("default_permissions")
    try:
        pyfuse3.init(operations, mountpoint, flags)
    except RuntimeError as error:
        advice = "look at `artfs doctor`"
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            advice = "you may not use /dev/fuse (as root: `chmod 0666 /dev/fuse`)"
        elif options.allow_other and os.geteuid() != 0:
            advice = "--allow-other needs the line `user_allow_other` in /etc/fuse.conf"
        raise MountpointError(f"cannot mount at {mountpoint} ({error}); {advice}") from error


async def _main(
    settings: Settings,
    options: MountOptions,
    mountpoint: str,
    vfs: Vfs,
    session: Session,
    server_side: ServerSide | None,
    notifier: Notifier,
    shim: LoopShim,
    tuned: dict[str, str],
) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, GUARD_S, GUARD_S)
    identity = place.mount_id(mountpoint)
    socket_path = settings.run_path / f"{identity}.sock"
    record_path = settings.run_path / f"{identity}.json"

    def apply(applies: list[Callable[[], list[Invalidation]]]) -> None:
        moved = [invalidation for take in applies for invalidation in take()]
        if moved:
            vfs.blobs.drop_idle()
        notifier.send(moved)
        if server_side is not None:
            server_side.names_moved()

    watcher = Watcher(
        session.catalog,
        settings.poll_s,
        trio.lowlevel.current_trio_token(),
        nodes=vfs.changed_nodes,
        apply=apply,
        failed=vfs.unwatched,
        # A server expires its versions itself.
        tick=Expiry(session.catalog).tick if session.remote is None else lambda: None,
    )
    catch_up = session.remote.catch_up if session.remote is not None else lambda: None
    control = ControlServer(vfs, mountpoint, watcher, notifier, catch_up)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_signals, session.remote.fetcher.close if session.remote is not None else None)
            await nursery.start(control.serve, str(socket_path))
            watcher.start()
            if settings.metrics:
                await nursery.start(MetricsServer(settings.metrics, vfs.status).serve)
            if server_side is not None and vfs.drafts is not None:
                waiting = WaitingCommits(control, vfs.drafts, trio.lowlevel.current_trio_token())
                server_side.on_online = waiting.came_back
                nursery.start_soon(waiting.run)
            read_ahead_kb = place.READ_AHEAD_KB if session.remote is None else place.REMOTE_READ_AHEAD_KB
            nursery.start_soon(
                _announce, settings, options, mountpoint, identity, str(socket_path), record_path, tuned, read_ahead_kb
            )
            workers = WORKERS if session.remote is None else REMOTE_WORKERS
            await pyfuse3.main(min_tasks=workers, max_tasks=workers)
            nursery.cancel_scope.cancel()
    finally:
        _notify(options.notify_socket, "STOPPING=1")
        watcher.close()
        for path in (record_path, socket_path):
            with suppress(OSError):  # gone already, or the disk has failed: dead records are passed over
                path.unlink()


async def _signals(hang_up: Callable[[], None] | None) -> None:
    """`hang_up`: ends what requests may be waiting for; it may block."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        async for number in received:
            log.info("%s: unmounting", signal.Signals(number).name)
            pyfuse3.terminate()
            if hang_up is not None:
                await trio.sleep(END_S)  # less if all of them are answered before
                await trio.to_thread.run_sync(hang_up)
            return


async def _announce(
    settings: Settings,
    options: MountOptions,
    mountpoint: str,
    identity: str,
    socket_path: str,
    record_path: Path,
    tuned: dict[str, str],
    read_ahead_kb: int,
) -> None:
    """Says that the mount is ready once another process got an answer from it; then feeds the watchdog the same way."""
    device = await _probe(mountpoint)
    if device is None:
        log.error("the mount at %s does not answer", mountpoint)
        pyfuse3.terminate()
        return
    # Only now: the kernel takes over what it negotiated when the first answer arrives.
    tuned.update(await trio.to_thread.run_sync(place.tune, mountpoint, read_ahead_kb))
    record = MountRecord(
        id=identity,
        pid=os.getpid(),
        mountpoint=mountpoint,
        socket=socket_path,
        entity=settings.entity,
        started_at=datetime.now(UTC).isoformat(),
        device=device,
    )
    try:
        _write_record(settings, record_path, record)
    except OSError as error:
        log.error("%s", StorageError.wrap(error, "writing down that the mount is there"))
        pyfuse3.terminate()
        return
    log.info("ready: %s shows %s", mountpoint, settings.home)
    _notify(options.notify_socket, f"READY=1\nSTATUS=serving {mountpoint}\nMAINPID={os.getpid()}")
    while options.watchdog_s:
        await trio.sleep(options.watchdog_s / 2)
        if await _probe(mountpoint) is not None:
            _notify(options.notify_socket, "WATCHDOG=1")


def _write_record(settings: Settings, path: Path, record: MountRecord) -> None:
    aside = path.with_suffix(".new")
    data = msgspec.json.encode(record) + b"\n"
    try:
        aside.write_bytes(data)
    except OSError as error:
        if error.errno not in reserve.FULL or not reserve.release(settings.home):
            raise
        aside.write_bytes(data)
    aside.rename(path)


async def _probe(mountpoint: str) -> int | None:
    """The mount's device number as another process sees it, None when it gets no answer."""
    with trio.move_on_after(READY_TIMEOUT_S):
        done = await trio.run_process(
            ["stat", "-c", "%d", "--", mountpoint], capture_stdout=True, capture_stderr=True, check=False
        )
        text = done.stdout.strip()
        return int(text) if done.returncode == 0 and text.isdigit() else None
    return None


def _notify(address: str | None, message: str) -> None:
    """sd_notify(3)."""
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(target)
        sock.sendall(message.encode())


def _raise_limits() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _rss() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def watchdog_period(environ: Mapping[str, str]) -> float | None:
    """systemd's WatchdogSec in seconds, None when it asks for none of this process."""
    usec, pid = environ.get("WATCHDOG_USEC"), environ.get("WATCHDOG_PID")
    if not usec or (pid and int(pid) != os.getpid()):
        return None
    return int(usec) / 1e6
