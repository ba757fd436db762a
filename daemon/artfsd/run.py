"""The daemon from start to end: the one place where its parts are put together."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio

from artfs.api.session import Session, open_session, prepare_home
from artfs.errors import MountpointError
from artfs.release import release
from artfs.settings import Settings
from artfs.stacks import Dumps
from artfs.store.linux import keep_large_buffers
from artfs.store.staging import DraftArea
from artfs.transfer.expiry import Expiry
from artfsd import inside, ready
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

END_S = 1.0
"""How long requests may still wait for a server after SIGTERM, in seconds."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What a mount is told besides the settings. `notify_socket`: systemd's, None when there is none. `line_prefix`: of lines on
    standard error that do not come from the log."""

    mountpoint: str
    allow_other: bool = False
    symlinked_aliases: bool = False
    notify_socket: str | None = None
    watchdog_s: float | None = None
    line_prefix: str = ""


def serve(settings: Settings, options: MountOptions) -> None:
    """Mounts, serves until it is unmounted or told to end by SIGTERM or SIGINT, and cleans up. Raises ArtfsError."""
    mountpoint = place.resolve(options.mountpoint)
    place.check_apart(mountpoint, settings.home)
    prepare_home(settings)
    os.chdir("/")  # hold no directory busy; and mount(8) would show a file of the name `artfs` here as the source
    _raise_limits()
    keep_large_buffers()
    dump_path = ready.dump_path(settings, mountpoint)
    process = _fork_fetch_process(
        settings, lambda who: Dumps(who, dump_path.with_suffix(".fetch.dump"), prefix=options.line_prefix)
    )
    dumps = Dumps(f"the mount at {mountpoint}", dump_path, prefix=options.line_prefix)
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
        session.references.load()
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
        this = release()  # now: what is installed may be another one later
        operations: Operations | None = None

        def status() -> dict[str, Any]:
            assert operations is not None
            return {
                "pid": os.getpid(),
                "release": this,
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
        dumps.sections.insert(0, ("requests", partial(inside.request_lines, operations)))
        if session.remote is not None:
            dumps.sections.insert(1, ("transfers", session.remote.fetcher.under_way))
        if process is not None:
            dumps.sections.append(("the process that fetches", partial(_pass_on, process)))
        dumps.start()
        vars(pyfuse3)["trio"] = shim
        _mount(operations, mountpoint, options)
        # What was made up to here lives as long as the process; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)  # nodes come and go by the thousand, in no cycles
        try:
            trio.run(
                _main, settings, options, mountpoint, vfs, session, server_side, notifier, shim, tuned, dumps, this
            )
        finally:
            notifier.close()
            signal.setitimer(signal.ITIMER_REAL, 0)
            pyfuse3.close(unmount=True)
            log.info("unmounted %s", mountpoint)


def _fork_fetch_process(settings: Settings, make_dumps: Callable[[str], Dumps]) -> FetchProcess | None:
    """While there is one thread. `make_dumps`: what SIGUSR1 has it write. None: without a server there is nothing to fetch."""
    if not settings.server:
        return None
    from artfs.api.remote import fork_fetch_process  # loads httpx, before the fork

    try:
        return fork_fetch_process(settings, make_dumps)
    except OSError as error:
        log.warning("no process of its own fetches from the server: %s", error)
        return None


def _pass_on(process: FetchProcess) -> list[str]:
    """It tells itself."""
    if not process.is_there:
        return ["has ended"]
    os.kill(process.pid, signal.SIGUSR1)
    return [f"process {process.pid} was asked, too"]


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
    dumps: Dumps,
    this: str,
) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, GUARD_S, GUARD_S)
    socket_path = ready.socket_path(settings, mountpoint)
    supervisor = ready.Supervisor(options.notify_socket)
    root = trio.lowlevel.current_root_task()
    assert root is not None
    dumps.sections.append(("tasks", lambda: inside.task_lines(root)))

    def apply(applies: list[Callable[[], list[Invalidation]]]) -> None:
        moved = [invalidation for take in applies for invalidation in take()]
        if moved:
            vfs.blobs.drop_idle()
        notifier.send(moved)
        if server_side is not None:
            server_side.names_moved()

    expiry = Expiry(session.catalog)
    watcher = Watcher(
        session.catalog,
        settings.poll_s,
        trio.lowlevel.current_trio_token(),
        nodes=vfs.changed_nodes,
        apply=apply,
        failed=vfs.unwatched,
        # A server expires its versions itself.
        tick=expiry.tick if session.remote is None else lambda: None,
    )
    expiry.ended = watcher.has_ended
    catch_up = session.remote.catch_up if session.remote is not None else lambda: None
    control = ControlServer(vfs, mountpoint, watcher, notifier, catch_up, this, pyfuse3.terminate)
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
                partial(
                    ready.announce, settings, mountpoint, supervisor, release=this, watchdog_s=options.watchdog_s,
                    read_ahead_kb=read_ahead_kb, tuned=tuned, terminate=pyfuse3.terminate,
                )
            )  # fmt: skip
            workers = WORKERS if session.remote is None else REMOTE_WORKERS
            await pyfuse3.main(min_tasks=workers, max_tasks=workers)
            nursery.cancel_scope.cancel()
    finally:
        supervisor.tell("STOPPING=1")
        watcher.close()
        for path in (ready.record_path(settings, mountpoint), socket_path):
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
