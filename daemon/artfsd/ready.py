"""Whether the mount answers, as another process sees it, and whoever wants to know: the record in the state folder, and systemd.

READY=1 and WATCHDOG=1 are said only after a child has had an answer that the kernel cannot give: statfs is passed on each time,
while stat may be answered from what the kernel remembers, even for a mount whose daemon hangs.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import trio

from artfs.api import reserve
from artfs.errors import StorageError
from artfs.settings import Settings
from artfs.wire.control import MountRecord
from artfsd import mountpoint as place

log = logging.getLogger(__name__)

PROBE_S = 30.0
"""How long an answer may take."""

_LOOK_S = 0.02
_LOOK_LATER_S = 0.2


class Supervisor:
    """What started us and wants to be told (sd_notify(3)). `address`: NOTIFY_SOCKET, None: nobody."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    def tell(self, message: str) -> None:
        if not self._address:
            return
        target = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)  # one that does not read must not hold the mount up
            sock.connect(target)
            sock.sendall(message.encode())


class Prober:
    """Asks the mount by a child. A child that gets no answer cannot be ended, by nobody, before the mount is: it is left behind,
    and no other one is started while there is such a one."""

    def __init__(self, mountpoint: str) -> None:
        self._mountpoint = mountpoint
        self._child: subprocess.Popen[bytes] | None = None

    async def answers(self) -> bool:
        """Within PROBE_S. Raises nothing."""
        if self._child is None:
            try:
                self._child = await trio.to_thread.run_sync(self._start)
            except OSError as error:  # no memory, no descriptors: then the mount cannot be said to be well
                log.warning("cannot start a process to look at the mount: %s", error)
                return False
        child = self._child
        with trio.move_on_after(PROBE_S):
            pause = _LOOK_S
            while child.poll() is None:
                await trio.sleep(pause)
                pause = min(pause * 1.3, _LOOK_LATER_S)
            self._child = None
            return child.returncode == 0
        child.kill()
        return False

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["stat", "-f", "-c", "%t", "--", self._mountpoint],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip

    def close(self) -> None:
        """A child that is still there is nobody's any more."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.returncode = -1  # or its destructor warns


async def announce(
    settings: Settings,
    mountpoint: str,
    supervisor: Supervisor,
    *,
    release: str,
    watchdog_s: float | None,
    read_ahead_kb: int,
    tuned: dict[str, str],
    terminate: Callable[[], None],
) -> None:
    """Says that the mount is ready once another process got an answer from it; then feeds the watchdog the same way.

    `release`: which artfs this is. `terminate`: ends the daemon, when the mount does not answer or nobody can be told of it.
    `tuned`: gets what is in force.
    """
    prober = Prober(mountpoint)
    try:
        mounted = place.find_mount(mountpoint) if await prober.answers() else None
        if mounted is None:
            log.error("the mount at %s does not answer", mountpoint)
            terminate()
            return
        # Only now: the kernel takes over what it negotiated when the first answer arrives.
        tuned.update(await trio.to_thread.run_sync(place.tune, mountpoint, read_ahead_kb))
        major, _, minor = mounted.device.partition(":")
        try:
            _write_record(settings, mountpoint, os.makedev(int(major), int(minor)), release)
        except OSError as error:
            log.error("%s", StorageError.wrap(error, "writing down that the mount is there"))
            terminate()
            return
        log.info("ready: %s shows %s", mountpoint, settings.home)
        supervisor.tell(f"READY=1\nSTATUS=serving {mountpoint}\nMAINPID={os.getpid()}")
        while watchdog_s:
            await trio.sleep(watchdog_s / 2)
            if await prober.answers():
                supervisor.tell("WATCHDOG=1")
            else:
                log.error("the mount at %s does not answer another process within %.0f s", mountpoint, PROBE_S)
    finally:
        prober.close()


def record_path(settings: Settings, mountpoint: str) -> Path:
    return settings.run_path / f"{place.mount_id(mountpoint)}.json"


def socket_path(settings: Settings, mountpoint: str) -> Path:
    return settings.run_path / f"{place.mount_id(mountpoint)}.sock"


def dump_path(settings: Settings, mountpoint: str) -> Path:
    """What SIGUSR1 writes; that of the process that fetches has `.fetch` in its name."""
    return settings.run_path / f"{place.mount_id(mountpoint)}.dump"


def _write_record(settings: Settings, mountpoint: str, device: int, release: str) -> None:
    record = MountRecord(
        id=place.mount_id(mountpoint),
        pid=os.getpid(),
        mountpoint=mountpoint,
        socket=str(socket_path(settings, mountpoint)),
        entity=settings.entity,
        started_at=datetime.now(UTC).isoformat(),
        device=device,
        release=release,
    )
    path = record_path(settings, mountpoint)
    aside = path.with_suffix(".new")
    data = msgspec.json.encode(record) + b"\n"
    try:
        aside.write_bytes(data)
    except OSError as error:
        if error.errno not in reserve.FULL or not reserve.release(settings.home):
            raise
        aside.write_bytes(data)
    aside.rename(path)


def watchdog_period(environ: Mapping[str, str]) -> float | None:
    """systemd's WatchdogSec in seconds, None when it asks for none of this process."""
    usec, pid = environ.get("WATCHDOG_USEC"), environ.get("WATCHDOG_PID")
    if not usec or (pid and int(pid) != os.getpid()):
        return None
    return int(usec) / 1e6
