"""Starting and ending the daemon: what `artfs mount`, `artfs umount` and `mount.artfs` do."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from artfs.cli.procs import (
    Holder,
    MountInfo,
    holders,
    is_running,
    probe,
    resolve_mountpoint,
    try_mount,
)
from artfs.client.control import DaemonClient, running_mounts
from artfs.errors import (
    AlreadyMountedError,
    ConflictError,
    DraftBusyError,
    MountpointError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from artfs.settings import Settings
from artfs.wire.control import MountRecord

if TYPE_CHECKING:
    from artfs.store.staging import StagedDraft

START_TIMEOUT_S = 60.0
"""The first start on a new state folder makes the catalog; on a slow disk that takes seconds."""
STOP_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 10.0
STATUS_TIMEOUT_S = 5.0
MAX_LOG_SIZE = 8 * 1024 * 1024
"""A log larger than this at start is kept as `.log.1`, and a new one begun. Bytes."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What a mount may be told beyond the settings.

    Attributes:
        allow_other: let other users in (an ordinary user needs `user_allow_other` in /etc/fuse.conf).
        aliases: show aliases as directories or as symbolic links.
        log_level: "debug", "info", "warning" or "error"; None leaves the daemon's own default.
    """

    allow_other: bool = False
    aliases: Literal["directories", "symlinks"] = "directories"
    log_level: str | None = None


def daemon_command(settings: Settings, mountpoint: Path, options: MountOptions) -> list[str]:
    """The command line of the daemon for this mount."""
    command = [
        sys.executable,
        "-m",
        "artfsd",
        str(mountpoint),
        "--foreground",
        "--home",
        str(settings.home),
        "--entity",
        settings.entity,
        f"--aliases={options.aliases}",
    ]
    if options.allow_other:
        command.append("--allow-other")
    if options.log_level is not None:
        command += ["--log-level", options.log_level]
    return command


def prepare_mountpoint(
    settings: Settings, mountpoint: str | os.PathLike[str], on_note: Callable[[str], None] = lambda text: None
) -> Path:
    """Checks that something can be mounted at `mountpoint`, clears what a killed daemon left there (and says
    so through `on_note`), and returns the resolved path.

    Raises MountpointError (missing, no directory, not empty, not writable, taken by another program),
    AlreadyMountedError.
    """
    path = resolve_mountpoint(mountpoint)
    there = try_mount(path)
    if there is not None and there.fstype.startswith("fuse"):
        _clear_or_refuse(settings, path, there, on_note)
    try:
        names = sorted(os.listdir(path))
    except FileNotFoundError:
        raise MountpointError(
            f"the mountpoint {path} does not exist; make it with `mkdir -p {path}`"
        ) from None
    except NotADirectoryError:
        raise MountpointError(f"the mountpoint {path} is not a directory") from None
    except OSError as error:
        raise MountpointError(f"the mountpoint {path} cannot be used: {error.strerror}") from error
    if names:
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise MountpointError(
            f"the mountpoint {path} is not empty (it holds {shown}); choose an empty directory"
        )
    if not os.access(path, os.W_OK):
        raise MountpointError(f"the mountpoint {path} is not writable for you; fusermount3 wants it to be")
    if settings.home == path or settings.home.is_relative_to(path) or path.is_relative_to(settings.home):
        raise MountpointError(
            f"the mountpoint {path} and the state folder {settings.home} are inside each other"
        )
    return path


def _clear_or_refuse(
    settings: Settings, path: Path, there: MountInfo, on_note: Callable[[str], None]
) -> None:
    record = try_record(settings, path)
    if record is not None:
        raise AlreadyMountedError(
            f"{path} is already served by artfs (pid {record.pid}); `artfs umount {path}` ends it"
        )
    answer = probe(path, PROBE_TIMEOUT_S)
    if answer is None:
        raise MountpointError(
            f"what is mounted at {path} ({there.fstype}) does not answer; `umount -l {path}` detaches it"
        )
    if answer not in (errno.ENOTCONN, errno.ECONNABORTED):
        if there.is_artfs:
            raise AlreadyMountedError(f"{path} is already served by an artfs of another state folder or user")
        raise MountpointError(f"{path} is taken: a {there.fstype} file system is mounted there")
    if not there.is_artfs:
        raise MountpointError(
            f"{path} has a dead mount of another program ({there.fstype}): `fusermount3 -uz {path}`"
        )
    detach(path, lazy=True)
    on_note(f"cleared a stale mount at {path}, left by a daemon that was killed")


def try_record(settings: Settings, mountpoint: Path) -> MountRecord | None:
    """The live daemon of this state folder that serves `mountpoint` (resolved), or None."""
    return next((r for r in running_mounts(settings.run_path) if Path(r.mountpoint) == mountpoint), None)


def log_file(settings: Settings, mountpoint: Path) -> Path:
    """Where the daemon for `mountpoint` writes its log."""
    return settings.log_path / f"{hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]}.log"


def start_daemon(
    settings: Settings,
    mountpoint: str | os.PathLike[str],
    options: MountOptions | None = None,
    *,
    on_note: Callable[[str], None] = lambda text: None,
    timeout_s: float = START_TIMEOUT_S,
) -> MountRecord:
    """Starts a daemon in a session of its own and returns its record once the mount answers.

    Raises MountpointError and AlreadyMountedError (see prepare_mountpoint), and UnavailableError with the
    daemon's own last line when it ended, or did not answer within `timeout_s`; then no daemon is left behind.
    """
    settings.make_home()
    path = prepare_mountpoint(settings, mountpoint, on_note)
    log = log_file(settings, path)
    if log.exists() and log.stat().st_size > MAX_LOG_SIZE:
        log.replace(log.with_suffix(".log.1"))
    # Beside the control sockets: whoever could make those can make this one.
    address = settings.run_path / f"notify-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(log.open("ab"))
        log_start = stream.tell()
        ready = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        _bind(ready, address)
        stack.callback(address.unlink, missing_ok=True)
        child = _spawn(daemon_command(settings, path, options or MountOptions()), str(address), stream)
        try:
            _wait_ready(child, ready, log, log_start, timeout_s)
            record = try_record(settings, path)
            if record is None or probe(path, PROBE_TIMEOUT_S) != 0:
                raise UnavailableError(
                    f"the daemon says that it is ready, but {path} does not answer; its log is {log}"
                )
        except BaseException:
            _stop_child(child)
            raise
        child.returncode = 0  # it is left to run: Popen's destructor must not warn about it
    return record


def _bind(ready: socket.socket, address: Path) -> None:
    address.unlink(missing_ok=True)
    try:
        ready.bind(str(address))
    except OSError as error:  # "AF_UNIX path too long" has no errno
        raise UsageError(
            f"cannot make a socket in {address.parent}: {error}; choose a shorter --home"
        ) from error
    ready.settimeout(0.1)


def _spawn(command: list[str], notify: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "NOTIFY_SOCKET": notify, "PYTHONUNBUFFERED": "1"}
    # The daemon runs in / so as to hold no directory; relative paths must mean there what they mean here.
    if "PYTHONPATH" in environment:
        environment["PYTHONPATH"] = os.pathsep.join(
            map(os.path.abspath, environment["PYTHONPATH"].split(os.pathsep))
        )
    if environment.get("ARTFS_CONFIG"):
        environment["ARTFS_CONFIG"] = os.path.abspath(environment["ARTFS_CONFIG"])
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        cwd="/",
        start_new_session=True,
    )


def _wait_ready(
    child: subprocess.Popen[bytes], ready: socket.socket, log: Path, log_start: int, timeout_s: float
) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if "READY=1" in ready.recv(4096).decode(errors="replace").splitlines():
                return
        except TimeoutError:
            if child.poll() is not None:
                said = last_line(log, log_start) or f"it said nothing (exit status {child.returncode})"
                raise UnavailableError(f"the daemon did not start: {said} (log: {log})") from None
    said = last_line(log, log_start) or "it said nothing"
    raise UnavailableError(f"the daemon did not answer within {timeout_s:g} s: {said} (log: {log})")


def _stop_child(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def last_line(log: Path, start: int) -> str:
    """The last line with anything in it that was written to `log` from byte `start` on; "" when there is
    none."""
    with log.open("rb") as stream:
        stream.seek(max(start, os.fstat(stream.fileno()).st_size - 65536))
        lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines()]
    return next((line.removeprefix("artfsd: ") for line in reversed(lines) if line), "")


# ending ---------------------------------------------------------------------------------------------------
def unmount(
    settings: Settings,
    mountpoint: str | os.PathLike[str],
    *,
    lazy: bool = False,
    timeout_s: float = STOP_TIMEOUT_S,
) -> Path:
    """Ends the mount and waits until it and its daemon are gone; returns the resolved path.

    `lazy`: detach it now even if it is in use; the daemon ends when the last user has left, and is not waited
    for. Raises NotFoundError (nothing of artfs is mounted there), ConflictError (in use; says by whom),
    UnavailableError.
    """
    path = resolve_mountpoint(mountpoint)
    there = try_mount(path)
    record = try_record(settings, path)
    if there is None and record is None:
        raise NotFoundError(f"nothing is mounted at {path}; `artfs status` shows the running mounts")
    if there is not None and not there.is_artfs:
        raise NotFoundError(f"what is mounted at {path} ({there.fstype}) is not artfs; use `umount`")
    if lazy and there is not None:
        detach(path, lazy=True)
        return path
    refuse_busy(path, record)
    asked = record is not None and _ask_daemon(record, timeout_s)
    if not asked and try_mount(path) is not None:
        # No daemon answers: a dead mount can only be detached, a live one of another home is ended the
        # ordinary way.
        detach(path, lazy=record is None and probe(path, PROBE_TIMEOUT_S) != 0)
    _wait_gone(path, record, timeout_s)
    return path


def _ask_daemon(record: MountRecord, timeout_s: float) -> bool:
    try:
        DaemonClient(record.socket).call("umount", timeout_s=timeout_s)
    except UnavailableError:
        return False
    except ConflictError:
        refuse_busy(Path(record.mountpoint), record)
        raise
    return True


def refuse_busy(mountpoint: Path, record: MountRecord | None) -> None:
    """Raises ConflictError that says who uses the mount, when somebody does."""
    users = holders(mountpoint, skip=frozenset([record.pid] if record is not None else []))
    if users:
        raise ConflictError(f"{mountpoint} is in use: {_names(users)}; end that first, or say --lazy")


def _names(users: list[Holder]) -> str:
    shown = [f"{user.command} (pid {user.pid}) {user.how} {user.path}" for user in users[:3]]
    return "; ".join(shown) + (f"; and {len(users) - 3} more" if len(users) > 3 else "")


def detach(mountpoint: Path, *, lazy: bool) -> None:
    """Unmounts by the system's own tools. Raises ConflictError (in use), UnavailableError (refused; says
    why)."""
    said = ""
    attempts = [["fusermount3", "-uz" if lazy else "-u", str(mountpoint)]]
    if os.geteuid() == 0:
        attempts.append(["umount", *(["-l"] if lazy else []), str(mountpoint)])
    for attempt in attempts:
        if shutil.which(attempt[0]) is None:
            said = said or f"{attempt[0]} is not installed"
            continue
        done = subprocess.run(attempt, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode == 0 or try_mount(mountpoint) is None:
            return
        said = done.stderr.strip().replace("\n", "; ") or f"{attempt[0]} failed"
    if "busy" in said:
        refuse_busy(mountpoint, None)
        raise ConflictError(f"{mountpoint} is in use; leave it, or say --lazy")
    raise UnavailableError(f"cannot unmount {mountpoint}: {said}")


def _wait_gone(mountpoint: Path, record: MountRecord | None, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while (there := try_mount(mountpoint) is not None) or (record is not None and is_running(record.pid)):
        if time.monotonic() > deadline:
            if there:
                raise UnavailableError(f"{mountpoint} is still mounted after {timeout_s:g} s; try --lazy")
            assert record is not None
            raise UnavailableError(f"{mountpoint} is unmounted, but its daemon (pid {record.pid}) still runs")
        time.sleep(0.05)


# requests to a running daemon -----------------------------------------------------------------------------
def barrier(record: MountRecord, timeout_s: float) -> None:
    """Sends one request through the mount and waits for its answer: files closed before this call are then
    known to the daemon as closed (the kernel sends RELEASE before it). Raises UnavailableError when the mount
    does not answer."""
    answer = probe(Path(record.mountpoint) / ".artfs" / f"barrier-{os.urandom(8).hex()}", timeout_s)
    if answer is None:
        raise UnavailableError(f"the mount at {record.mountpoint} does not answer within {timeout_s:g} s")
    if answer not in (0, errno.ENOENT):
        raise UnavailableError(f"the mount at {record.mountpoint} does not answer: {os.strerror(answer)}")


def try_serving(settings: Settings, entity: str) -> MountRecord | None:
    """The running daemon that serves the drafts of `entity` (of several on a state folder one does), or None:
    then nobody has files of them open. Raises UnavailableError when a daemon hangs, as it may be that one."""
    for record in running_mounts(settings.run_path):
        if (
            record.entity == entity
            and DaemonClient(record.socket).call("status", timeout_s=STATUS_TIMEOUT_S).get("serves_drafts", True)
        ):
            return record
    return None


def check_not_served(settings: Settings, draft: StagedDraft) -> None:
    """Whoever is to end a draft without a daemon calls it with the draft's lock, as one may have been started since nobody was
    found. Raises DraftBusyError then: files may be open in it."""
    serving = try_serving(settings, draft.info.entity)
    if serving is not None:
        raise DraftBusyError(f"the draft {draft.label} is served at {serving.mountpoint} since a moment ago; say it again")
