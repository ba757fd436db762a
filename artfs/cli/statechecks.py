"""What `artfs doctor` looks for in what artfs itself keeps: what a killed process left, who may read what, what is damaged.

Each finding knows how to mend itself, where that can be done without asking anybody and without losing anything.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from artfs.cli.finding import Check
from artfs.cli.mounting import detach
from artfs.cli.output import human_size, plural
from artfs.cli.procs import is_running, mounts, probe
from artfs.client.control import known_mounts
from artfs.client.credentials import Credentials
from artfs.errors import ArtfsError, UnavailableError
from artfs.settings import Settings, config_path
from artfs.store.recovery import try_lock
from artfs.store.staging import TRASH, DraftArea, StagedDraft
from artfs.transfer.journal import is_unsettled, recover
from artfs.wire.control import MountRecord

PROBE_TIMEOUT_S = 5.0
KILL_S = 10.0
SHOWN = 3


def state_checks(settings: Settings) -> Iterator[Check]:
    yield check_private(settings)
    yield check_runs(settings.run_path)
    if not settings.server:
        yield check_staging(settings)
    yield from draft_checks(settings)


# modes ---------------------------------------------------------------------------------------------------------------
def private_places(settings: Settings) -> Iterator[tuple[Path, int]]:
    """What nobody else may look into, and the mode that it should have: folders in the state folder (which is a check of its own)
    and, of files, those with secrets and sockets."""
    for folder in {settings.state_path, settings.drafts_path, settings.run_path, settings.log_path} - {settings.home}:
        yield folder, 0o700
    if settings.server:
        yield settings.cache_path, 0o700
    yield Credentials().path, 0o600
    if settings.token and "token" in _text_of(config_path()):
        yield config_path(), 0o600
    for path in settings.run_path.glob("*.sock"):
        yield path, 0o600


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def check_private(settings: Settings) -> Check:
    open_ones = []
    for path, mode in private_places(settings):
        with contextlib.suppress(OSError):  # most are made at first use
            status = path.stat()
            if stat.S_IMODE(status.st_mode) & 0o077 and status.st_uid == os.geteuid():
                open_ones.append((path, mode))
    if not open_ones:
        return Check("private", "ok", "nobody else can look into what is yours")

    def mend() -> str:
        for path, mode in open_ones:
            path.chmod(mode)
        return f"closed {_some(path for path, _ in open_ones)}; whoever read a token before can still use it: make a new one"

    fix = " && ".join(f"chmod {mode:04o} {path}" for path, mode in open_ones)
    return Check("private", "warn", f"open to other users: {_some(path for path, _ in open_ones)}", fix, mend)


# what killed daemons left --------------------------------------------------------------------------------------------
def check_runs(run_path: Path) -> Check:
    """Records, sockets and locks of daemons that are gone. They hinder nobody: a new daemon takes their place, and others pass
    them over."""
    left = list(_left_in(run_path))
    if not left:
        return Check("daemons", "ok", "no daemon left anything behind")

    def mend() -> str:
        for path in left:
            with _locked(run_path / f"{path.name.partition('.')[0]}.lock") as is_dead:
                if is_dead:
                    path.unlink(missing_ok=True)
        return f"removed {plural(len(left), 'file')}"

    return Check(
        "daemons", "warn", f"daemons that were killed left {_some(left)}", " ".join(["rm", "-f", *map(str, left)]), mend
    )


def _left_in(run_path: Path) -> Iterator[Path]:
    for path in sorted(run_path.glob("*")) if run_path.is_dir() else ():
        if path.name.startswith("notify-"):
            pid = path.name.partition("-")[2]
            if pid.isdecimal() and not is_running(int(pid)):
                yield path
        elif path.suffix in (".json", ".sock", ".new"):
            with _locked(path.with_name(f"{path.name.partition('.')[0]}.lock")) as is_dead:
                if is_dead:
                    yield path


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether nobody has the lock of a mountpoint; inside of it, we have it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def check_staging(settings: Settings) -> Check:
    """Temporary files of writers that were killed. They are removed when the store is opened the next time."""
    tmp = settings.store_path / "tmp"
    count = nbytes = 0
    for folder in sorted(tmp.iterdir()) if tmp.is_dir() else ():
        descriptor = try_lock(str(folder))
        if descriptor is not None:
            try:
                for place, _, names in os.walk(folder):
                    count += len(names)
                    nbytes += sum(os.lstat(os.path.join(place, name)).st_size for name in names)
            finally:
                os.close(descriptor)
    if not count:
        return Check("staging", "ok", "no interrupted work lies about in the store")

    def mend() -> str:
        from artfs.api.session import open_session  # SQLAlchemy: only here

        with open_session(settings) as session, session.store.begin() as batch:
            batch.sync()
        return f"removed {plural(count, 'file')}"

    return Check(
        "staging", "warn", f"writers that were killed left {plural(count, 'file')}, {human_size(nbytes)}", "artfs gc", mend
    )


def draft_checks(settings: Settings) -> Iterator[Check]:
    """Commits that did not end, leftovers of drafts, drafts that cannot be read."""
    area = DraftArea(settings.drafts_path)
    if not settings.drafts_path.is_dir():
        yield Check("drafts", "ok", "none yet")
        return
    try:
        drafts = area.drafts()
    except ArtfsError as error:
        fix = "copy the files that it names to another draft, then move its folder out of the state folder"
        yield Check("drafts", "bad", str(error), fix)
        return
    is_ours = area.own()
    area.disown()
    if not is_ours:  # what it finds at its start, and what it does itself, is its business
        yield Check("drafts", "ok", f"{plural(len(drafts), 'draft')}, looked after by a running daemon")
        return
    unsettled = [draft for draft in drafts if is_unsettled(draft)]
    trash = list((settings.drafts_path / TRASH).glob("*"))
    if not unsettled and not trash:
        yield Check("drafts", "ok", f"{plural(len(drafts), 'draft')}, in order")
    if unsettled:
        labels = ", ".join(draft.label for draft in unsettled[:SHOWN])
        yield Check(
            "drafts", "warn", f"a commit was interrupted, which the next daemon or commit takes back or ends: {labels}",
            f"artfs commit {unsettled[0].label}", lambda: _recover(settings, unsettled),
        )  # fmt: skip
    if trash:

        def mend() -> str:
            if not area.own():
                raise UnavailableError("a daemon has just started, and does it itself")
            try:
                area.empty_trash()
            finally:
                area.disown()
            return f"removed {plural(len(trash), 'folder')}"

        yield Check(
            "drafts", "warn", f"{plural(len(trash), 'folder')} of drafts that were being made or removed were left",
            f"rm -r {settings.drafts_path / TRASH}", mend,
        )  # fmt: skip
    for draft in drafts:
        if draft.info.problem:
            yield Check(
                "drafts", "warn", f"{draft.label} was not committed when its server was back: {draft.info.problem}",
                f"artfs commit {draft.label}",
            )  # fmt: skip


def _recover(settings: Settings, drafts: list[StagedDraft]) -> str:
    from artfs.api.session import open_session  # SQLAlchemy: only here

    ended = 0
    with open_session(settings) as session:
        for draft in drafts:
            with draft.locked():
                ended += recover(session.store, draft, session.catalog)
    return f"{plural(ended, 'commit')} had ended, {len(drafts) - ended} were taken back: those drafts go on"


# what is damaged -----------------------------------------------------------------------------------------------------
def check_blobs(settings: Settings) -> Check:
    """Whether the tree of each version is in the store: a look at names, not at bytes, which `artfs verify --store` does."""
    from artfs.api.session import open_session  # SQLAlchemy: only here

    if not settings.catalog_path.exists():
        return Check("store", "ok", "empty yet")
    try:
        with open_session(settings) as session:
            members = session.catalog.versions()
            lacking = sorted(
                {member.qualified_name for member in members if session.store.try_size(member.version.digest) is None}
            )
    except ArtfsError as error:  # which the check of the catalog explains
        return Check("store", "warn", f"what it should hold is not known: {error}", "mend the catalog first")
    if lacking:
        return Check(
            "store", "bad", f"trees are missing of {', '.join(lacking[:SHOWN])}{_more(len(lacking))}; the rest can be read",
            "artfs restore BACKUP-DIR (into a new state folder), or artfs pull from a server that has them; "
            "artfs verify --store lists all that is missing",
        )  # fmt: skip
    return Check("store", "ok", f"has the tree of each of {plural(len(members), 'version')}")


def check_cache_index(settings: Settings) -> Check:
    """Only the index: bytes are checked whenever they are read."""
    index = settings.cache_path / "index.db"
    aside = sorted(index.parent.glob("index.db.damaged*"))

    def rebuild() -> str:
        from artfs.store.cache import Cache

        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{index}{end}", f"{index}.damaged{end}")
        with Cache(settings.cache_path, size=settings.cache_size, floor=settings.cache_floor) as cache:
            count = cache.status().count
        return f"put it aside and made a new one from the files: {plural(count, 'blob')}"

    def forget() -> str:
        for path in aside:
            path.unlink(missing_ok=True)
        return f"removed {plural(len(aside), 'file')}"

    if index.exists():
        try:
            with contextlib.closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
                found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.OperationalError as error:
            return Check("cache index", "warn", f"{index} cannot be looked at now: {error}", "artfs doctor (again)")
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found != "ok":
            fix = f"rm {index}   (it is made anew from what is in the cache; pins are to be made again)"
            return Check("cache index", "bad", f"{index} is damaged: {found}", fix, rebuild)
    if aside:
        return Check(
            "cache index", "warn", f"a damaged index was put aside: {_some(aside)}", f"rm {' '.join(map(str, aside))}", forget
        )
    return Check("cache index", "ok", "sound" if index.exists() else "none yet")


def free_space(settings: Settings) -> str:
    """`artfs gc`, or what the cache can do without."""
    if settings.server:
        from artfs.store.cache import Cache

        with Cache(settings.cache_path, size=settings.cache_size, floor=settings.cache_floor) as cache:
            status = cache.status()
            return f"the cache forgot {human_size(cache.evict(max(status.nbytes - status.pinned_nbytes, 0)))}"
    command = [sys.executable, "-m", "artfs.cli", "gc", "--home", str(settings.home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(done.stderr.strip())
    return done.stdout.strip().replace("\n", "; ")


# mounts --------------------------------------------------------------------------------------------------------------
def mount_checks(
    settings: Settings | None = None, probe_at: Callable[[Path, float], int | None] = probe
) -> Iterator[Check]:
    """One check for each artfs mount of this machine, or one that says there is none."""
    found = [mount for mount in mounts() if mount.is_artfs]
    records = {Path(record.mountpoint): record for record in known_mounts(settings.run_path)} if settings else {}
    for mount in found:
        path = Path(mount.mountpoint)
        answer = probe_at(path, PROBE_TIMEOUT_S)
        if answer is None:
            record = records.get(path)
            mend = _ending(record, mount.device, settings.deadline_s, probe_at) if record and settings else None
            yield Check("mount", "bad", f"{path} does not answer", f"artfs umount --lazy {path}", mend)
        elif answer in (errno.ENOTCONN, errno.ECONNABORTED):
            detail = f"{path} is stale: its daemon was killed"
            yield Check("mount", "bad", detail, f"fusermount3 -uz {path}", _detaching(path))
        elif answer == errno.EACCES:
            yield Check("mount", "ok", f"{path} is another user's")
        else:
            yield Check("mount", "ok", f"{path} answers")
    if not found:
        yield Check("mount", "ok", "no artfs mount on this machine")


def _detaching(path: Path) -> Callable[[], str]:
    def mend() -> str:
        detach(path, lazy=True)
        return f"detached it; `artfs mount {path}` mounts again"

    return mend


def _ending(
    record: MountRecord, device: str, deadline_s: float, probe_at: Callable[[Path, float], int | None]
) -> Callable[[], str]:
    """Ends a daemon of ours that hangs: what was closed is not lost by that, and who waits for it gets an error. Not before it
    has had longer than any request may take, and has told in its log what it is doing."""

    def mend() -> str:
        path = Path(record.mountpoint)
        if probe_at(path, deadline_s + 5) is not None:
            return "it answers again: it was only slow"
        if is_running(record.pid) and b"artfsd" in Path(f"/proc/{record.pid}/cmdline").read_bytes():
            os.kill(record.pid, signal.SIGUSR1)
            time.sleep(1)
            # For a daemon that hangs in the kernel, which no signal reaches, and for who waits for it.
            with contextlib.suppress(OSError):
                Path(f"/sys/fs/fuse/connections/{device.partition(':')[2]}/abort").write_text("1")
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGKILL)
            until = time.monotonic() + KILL_S
            while is_running(record.pid):
                if time.monotonic() > until:
                    raise UnavailableError(f"process {record.pid} does not end, even when it is killed: look at `dmesg`")
                time.sleep(0.05)
        with contextlib.suppress(ArtfsError):
            detach(path, lazy=True)
        return f"ended its daemon ({record.pid}), which told in its log what it was doing; `artfs mount {path}` mounts again"

    return mend


def _some(paths: Iterator[Path] | list[Path]) -> str:
    listed = [str(path) for path in paths]
    return ", ".join(listed[:SHOWN]) + _more(len(listed))


def _more(count: int) -> str:
    return f" and {count - SHOWN} more" if count > SHOWN else ""
