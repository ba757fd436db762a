"""What `artfs doctor` looks at: this machine's FUSE, this Python, the state folder and the mounts. Each check
only looks; nothing is made, except that a missing catalog schema is brought up to date as any command would.
What can be mended without a person says how (`Check.mend`)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from artfs.cli import statechecks
from artfs.cli.finding import Check, Status
from artfs.cli.output import human_size
from artfs.cli.procs import mounts
from artfs.errors import ArtfsError, UnauthorizedError, UnavailableError
from artfs.folders import NETWORK_KINDS
from artfs.settings import Settings
from artfs.store.linux import try_reflink

PROBE_TIMEOUT_S = 5.0
SKEW_S = 60.0
"""So far clocks may be apart; the header has whole seconds, and the answer took some time."""


def all_checks(settings: Settings | None, trouble: str = "") -> Iterator[Check]:
    """Every check, in order. `settings` None: they could not be read, because of `trouble`."""
    yield from machine_checks()
    if settings is None:
        yield Check("settings", "bad", trouble, "mend the setting that is named, or unset it")
        yield from statechecks.mount_checks()
        return
    used = f", server {settings.server}" if settings.server else ""
    yield Check("settings", "ok", f"state folder {settings.home}, entity {settings.entity}{used}")
    yield from state_checks(settings)
    if settings.server:
        yield from server_checks(settings)
    yield from statechecks.mount_checks(settings)


def machine_checks() -> Iterator[Check]:
    yield check_kernel(platform.release())
    yield check_python(sys.version_info[:3])
    yield check_fuse_device(Path("/dev/fuse"))
    yield check_fusermount(shutil.which("fusermount3"), euid=os.geteuid())
    yield check_fuse_conf(Path("/etc/fuse.conf"), euid=os.geteuid())
    yield check_bindings()
    yield check_hashing()
    from artfs.cli.indexers import check_updatedb  # it knows of Check

    yield check_updatedb()


def check_kernel(release: str) -> Check:
    numbers = [int(part) if part.isdigit() else 0 for part in release.split("-")[0].split(".")[:2]]
    if sys.platform != "linux":
        return Check(
            "kernel",
            "bad",
            f"{sys.platform} is not Linux",
            "use a Linux machine (or WSL 2, or a virtual machine)",
        )
    if numbers < [5, 4]:
        return Check("kernel", "bad", f"Linux {release} is too old", "update to Linux 5.4 or newer")
    return Check("kernel", "ok", f"Linux {release}")


def check_python(version: tuple[int, ...]) -> Check:
    shown = ".".join(map(str, version))
    if version < (3, 11):
        return Check("python", "bad", f"Python {shown} is too old", "install artfs with Python 3.11 or newer")
    return Check("python", "ok", f"Python {shown} ({sys.executable})")


def check_fuse_device(device: Path) -> Check:
    name = "fuse device"
    try:
        mode = device.stat().st_mode
    except FileNotFoundError:
        return Check(
            name,
            "bad",
            f"{device} does not exist",
            "sudo modprobe fuse   (in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN)",
            _load_fuse if os.geteuid() == 0 else None,
        )
    except OSError as error:
        return Check(name, "bad", f"{device}: {error.strerror}", f"sudo chmod 0666 {device}")
    if not stat.S_ISCHR(mode):
        return Check(
            name,
            "bad",
            f"{device} is not a device",
            f"sudo rm {device} && sudo modprobe -r fuse && sudo modprobe fuse",
        )
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        fix = f"sudo chmod 0666 {device}" if error.errno == errno.EACCES else "sudo modprobe fuse"
        return Check(name, "bad", f"{device} cannot be opened: {error.strerror}", fix)
    if mode & 0o666 != 0o666:
        return Check(
            name,
            "warn",
            f"{device} has mode {stat.S_IMODE(mode):04o}: ordinary users cannot mount",
            f"sudo chmod 0666 {device}",
            (lambda: _chmod(device, 0o666)) if os.geteuid() == 0 else None,
        )
    return Check(name, "ok", f"{device} can be opened")


def _load_fuse() -> str:
    done = subprocess.run(["modprobe", "fuse"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(done.stderr.strip() or "modprobe failed")
    return "loaded the kernel's module"


def check_fusermount(path: str | None, *, euid: int) -> Check:
    name = "fusermount3"
    if path is None:
        return Check(name, "bad", "fusermount3 is not installed", "sudo apt install fuse3")
    if not os.stat(path).st_mode & stat.S_ISUID:
        status: Status = "warn" if euid == 0 else "bad"
        return Check(
            name, status, f"{path} is not setuid root: ordinary users cannot mount", f"sudo chmod u+s {path}",
            (lambda: _chmod(Path(path), 0o4755)) if euid == 0 else None,
        )  # fmt: skip
    return Check(name, "ok", f"{path} is setuid root")


def _chmod(path: Path, mode: int) -> str:
    path.chmod(mode)
    return f"{path} has mode {mode:04o} now"


def check_fuse_conf(path: Path, *, euid: int) -> Check:
    name = "fuse.conf"
    try:
        lines = [line.split("#")[0].strip() for line in path.read_text(errors="replace").splitlines()]
    except OSError:
        lines = []
    if "user_allow_other" in lines:
        return Check(name, "ok", f"{path} has user_allow_other: mounts may be shared with --allow-other")
    if euid == 0:
        return Check(name, "ok", f"{path} has no user_allow_other, which root does not need")
    return Check(
        name,
        "ok",
        f"{path} has no user_allow_other, so --allow-other is refused (to allow it: "
        f"echo user_allow_other | sudo tee -a {path})",
    )


def check_bindings() -> Check:
    """Loads pyfuse3 and the daemon in a child: a wrong libfuse would end this process."""
    done = subprocess.run(
        [sys.executable, "-c", "import pyfuse3, artfsd; print(pyfuse3.__version__)"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return Check("daemon", "ok", f"artfsd with pyfuse3 {done.stdout.strip()}")
    said = done.stderr.strip().splitlines()
    return Check(
        "daemon",
        "bad",
        f"the daemon cannot be loaded: {said[-1] if said else 'it crashed'}",
        "sudo apt install libfuse3-dev pkg-config gcc python3-dev && "
        f"{sys.executable} -m pip install --force-reinstall --no-binary pyfuse3 artfs",
    )


def check_hashing() -> Check:
    data = bytes(32 << 20)
    began = time.perf_counter()
    hashlib.sha256(data).digest()
    rate = len(data) / (time.perf_counter() - began)
    return Check("hashing", "ok", f"SHA-256 at {human_size(int(rate))}/s on one core")


# the state folder -----------------------------------------------------------------------------------------
def state_checks(settings: Settings) -> Iterator[Check]:
    home = settings.home
    there = next(path for path in (home, *home.parents) if path.exists())
    yield check_folder(home, there)
    yield check_file_system(there)
    yield check_space(there, settings.floor_on(os.statvfs(there)), lambda: statechecks.free_space(settings))
    if home.is_dir() and os.access(home, os.W_OK):
        yield check_reflink(home)
    yield Check("sqlite", *_sqlite(sqlite3.sqlite_version_info))
    yield from statechecks.state_checks(settings)
    if not settings.server:
        yield check_catalog(settings)
        yield statechecks.check_blobs(settings)


def check_folder(home: Path, there: Path) -> Check:
    """`there`: the state folder, or the nearest folder above it that exists."""
    name = "state folder"
    if there != home:
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return Check(name, "ok", f"{home} is made at first use")
        return Check(
            name,
            "bad",
            f"{home} does not exist and cannot be made below {there}",
            "export ARTFS_HOME=A-FOLDER-YOU-MAY-WRITE",
        )
    if not home.is_dir():
        return Check(name, "bad", f"{home} is not a directory", f"mv {home} {home}.old")
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        return Check(name, "bad", f"{home} is not writable for you", f"sudo chown -R $USER {home}")
    if home.stat().st_mode & 0o077:
        return Check(name, "warn", f"{home} is open to other users", f"chmod 0700 {home}", lambda: _chmod(home, 0o700))
    return Check(name, "ok", f"{home} is yours alone and writable")


def check_file_system(path: Path) -> Check:
    name = "file system"
    resolved = path.resolve()
    holding = [mount for mount in mounts() if resolved.is_relative_to(mount.mountpoint)]
    if not holding:  # a mount namespace that shows no mount at /
        return Check(name, "warn", f"the file system of {path} is not known", "look at /proc/self/mountinfo")
    # The longest mountpoint holds the path; of several on one mountpoint the last.
    mount = max(reversed(holding), key=lambda mount: len(mount.mountpoint))
    if mount.is_artfs:
        return Check(
            name, "bad", f"{path} is inside an artfs mount", "export ARTFS_HOME=A-FOLDER-ON-A-LOCAL-DISK"
        )
    if mount.fstype in NETWORK_KINDS:
        return Check(
            name,
            "bad",
            f"{path} is on a network file system ({mount.fstype}), where SQLite's locks fail",
            "export ARTFS_HOME=A-FOLDER-ON-A-LOCAL-DISK",
        )
    return Check(name, "ok", f"{path} is on {mount.fstype} (mounted at {mount.mountpoint})")


def check_space(path: Path, free_floor: int, mend: Callable[[], str] | None = None) -> Check:
    """`mend`: frees what it can."""
    disk = os.statvfs(path)
    free = disk.f_bavail * disk.f_frsize
    detail = f"{human_size(free)} free"
    if free < free_floor:
        return Check(
            "space", "bad", f"{detail}, below the floor of {human_size(free_floor)}: writes fail", "artfs gc", mend
        )
    if disk.f_files and disk.f_favail < 10_000:
        return Check("space", "warn", f"{detail}, but only {disk.f_favail:,} inodes", "artfs gc", mend)
    if free < max(1 << 30, 2 * free_floor):
        return Check("space", "warn", f"{detail}: it gets tight", "artfs gc", mend)
    return Check("space", "ok", detail)


def check_reflink(home: Path) -> Check:
    with tempfile.NamedTemporaryFile(dir=home) as source, tempfile.NamedTemporaryFile(dir=home) as target:
        source.write(bytes(4096))
        source.flush()
        shares = False
        with contextlib.suppress(OSError):  # a full disk is another check's finding
            shares = try_reflink(source.fileno(), target.fileno())
    how = (
        "reflinks: copies out of the store take no space and no time"
        if shares
        else "no reflinks: copies out of the store are full"
    )
    return Check("copies", "ok", how)


def _sqlite(version: tuple[int, ...]) -> tuple[Status, str, str]:
    shown = ".".join(map(str, version))
    if version < (3, 35):
        return "bad", f"SQLite {shown} is too old", "use a Python that was built with SQLite 3.35 or newer"
    return "ok", f"SQLite {shown}", ""


def check_catalog(settings: Settings) -> Check:
    path = settings.catalog_path
    if not path.exists():
        return Check("catalog", "ok", "none yet; it is made at first use")
    restore = "artfs restore BACKUP-DIR (into a new state folder)"
    try:
        from artfs.api.session import open_session  # SQLAlchemy: only here

        with open_session(settings) as session:
            versions = len(session.catalog.versions())
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            schema = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except ArtfsError as error:
        return Check(
            "catalog", "bad", str(error), "update artfs" if error.kind == "catalog-version" else restore
        )
    except sqlite3.Error as error:
        return Check("catalog", "bad", f"{path} is damaged: {error}", restore)
    if found != "ok":
        return Check("catalog", "bad", f"{path} is damaged: {found}", restore)
    return Check("catalog", "ok", f"schema {schema}, {versions:,} versions, sound")


# a server -------------------------------------------------------------------------------------------------
def server_checks(settings: Settings) -> Iterator[Check]:
    yield check_server(settings)
    cache = settings.cache_path
    yield check_file_system_of_cache(cache)
    yield statechecks.check_cache_index(settings)


def check_server(settings: Settings) -> Check:
    """Asks it, once, who we are."""
    from artfs.client.credentials import Credentials
    from artfs.client.http import Http
    from artfs.wire.routes import SERVER_ROUTES, by_name

    name = "server"
    try:
        patience_s = min(settings.network_timeout_s, PROBE_TIMEOUT_S)
        http = Http.of(settings.with_changes(network_timeout_s=patience_s), Credentials().find(settings))
        try:
            route = by_name(SERVER_ROUTES)["me"]
            began = time.perf_counter()
            answer = http.exchange(route)
            took_s = time.perf_counter() - began
            me = http.result(route, answer)
        finally:
            http.close()
    except UnauthorizedError as error:
        return Check(name, "bad", f"{settings.server} does not take the token: {error}", f"artfs login {settings.server}")
    except UnavailableError as error:
        return Check(
            name, "bad", f"{settings.server} cannot be reached: {error}",
            "look at the network, the proxy and the name of the server; without it, artfs works with what is in the cache",
        )
    except ArtfsError as error:
        return Check(name, "bad", f"{settings.server}: {error}", f"artfs login {settings.server}")
    took = f"{settings.server} answers in {took_s * 1000:.0f} ms"
    ahead_s = clock_ahead(answer.headers.get("date", ""), datetime.now(UTC))
    if abs(ahead_s) > SKEW_S:
        how = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} that of the server"
        return Check(
            name, "warn", f"{took}, but this machine's clock is {how}: certificates and signed URLs may be refused, and "
            "`@TIME` names other versions than are meant",
            "sudo timedatectl set-ntp true   (on the machine whose clock is wrong)",
        )  # fmt: skip
    if me.name is not None and not me.is_admin and not me.grants:
        return Check(
            name, "warn", f"{took}; {me.name} may read no project yet",
            f"an administrator grants it one: artfs token grant {me.name} ENTITY/PROJECT reader",
        )
    return Check(name, "ok", f"{took}; we are {me.name or 'anybody'}")


def clock_ahead(date: str, now: datetime) -> float:
    """How far `now` is after a Date header, in seconds; 0.0 for one that says nothing."""
    try:
        told = parsedate_to_datetime(date)
    except ValueError:
        return 0.0
    return (now - (told if told.tzinfo is not None else told.replace(tzinfo=UTC))).total_seconds()


def check_file_system_of_cache(cache: Path) -> Check:
    there = next(path for path in (cache, *cache.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Check("cache", "bad", f"{cache} is not writable for you", f"sudo chown -R $USER {there}")
    found = check_file_system(there)
    fix = found.fix.replace("ARTFS_HOME", "ARTFS_CACHE_PATH")
    detail = found.detail if there == cache else f"{found.detail}; {cache} is made at first use"
    return Check("cache", found.status, detail, fix)
