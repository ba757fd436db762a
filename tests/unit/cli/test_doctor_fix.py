"""`artfs doctor --fix`: each bad state of what artfs keeps is found, explained, mended, and then not there any more."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from artfs.api.session import open_session
from artfs.cli import checks, statechecks
from artfs.cli.finding import Check
from artfs.cli.procs import MountInfo
from artfs.errors import UnavailableError
from artfs.model.draft import DraftInfo
from artfs.settings import Settings, config_path
from artfs.store.cache import Cache
from artfs.store.recovery import read_boot_id
from artfs.store.staging import TRASH, DraftArea
from artfs.testing.serving import ServerProcess, artfs_serve
from artfs.transfer.journal import JOURNAL
from artfs.wire.control import MountRecord

from .conftest import Artfs

INFO = DraftInfo(entity="local", project="p", name="c", collection="c", began_at=datetime.now(UTC).isoformat())


@pytest.fixture(autouse=True)
def no_mounts(monkeypatch: pytest.MonkeyPatch) -> list[MountInfo]:
    """Those of this machine are other tests'."""
    table: list[MountInfo] = []
    monkeypatch.setattr(statechecks, "mounts", lambda: table)
    return table


def mended(artfs: Artfs, name: str) -> dict[str, Any]:
    """The finding called `name`, mended by `doctor --fix`; it is gone the next time."""
    before = [check for check in artfs("doctor", "--json", code=None).json if check["check"] == name and check["status"] != "ok"]
    assert before and before[0]["fix"] and before[0]["mended"] is None
    (found,) = [check for check in artfs("doctor", "--fix", "--json", code=None).json if check["check"] == name]
    assert (found["mended"], found["detail"]) == (True, before[0]["detail"]), found
    assert found["done"]
    after = [check for check in artfs("doctor", "--json", code=None).json if check["check"] == name]
    assert [check["status"] for check in after] == ["ok"], after
    return dict(found)


def test_what_others_could_read_is_closed(artfs: Artfs, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.home.chmod(0o755)
    mended(artfs, "state folder")
    settings.drafts_path.chmod(0o750)
    tokens = config_path().parent / "tokens.json"
    tokens.write_text("{}")
    tokens.chmod(0o644)
    config_path().write_text('token = "artfs_x"\n')
    config_path().chmod(0o640)
    found = mended(artfs, "private")
    assert str(settings.drafts_path) in found["detail"]
    modes = [path.stat().st_mode & 0o777 for path in (settings.home, settings.drafts_path, tokens, config_path())]
    assert modes == [0o700, 0o700, 0o600, 0o600]


def test_what_killed_daemons_left_is_removed_and_that_of_living_ones_is_not(artfs: Artfs, settings: Settings) -> None:
    run = settings.run_path
    for name in ("dead.json", "dead.sock", "dead.new", "dead.lock", "alive.json", "alive.sock", "notify-999999999"):
        (run / name).touch()
    (run / "alive.sock").chmod(0o600)
    (run / "dead.sock").chmod(0o600)
    with (run / "alive.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mended(artfs, "daemons")
        assert sorted(path.name for path in run.iterdir()) == ["alive.json", "alive.lock", "alive.sock", "dead.lock"]


def test_interrupted_work_in_the_store_is_removed(artfs: Artfs, two_versions: Path, settings: Settings) -> None:
    left = settings.store_path / "tmp" / f"{read_boot_id()}.1.999999999.1" / "t1"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half a blob")
    # Whoever opens the store removes it, also the check of the catalog: so not twice through the command.
    found = statechecks.check_staging(settings)
    assert (found.status, found.detail) == ("warn", "writers that were killed left 1 file, 11 B")
    assert found.mend is not None
    assert found.mend() == "removed 1 file"
    assert list((settings.store_path / "tmp").iterdir()) == []
    assert statechecks.check_staging(settings).status == "ok"


def test_an_interrupted_commit_is_taken_back(artfs: Artfs, settings: Settings) -> None:
    draft = DraftArea(settings.drafts_path).create(INFO)
    (draft.path / JOURNAL).touch()
    assert "were taken back" in mended(artfs, "drafts")["done"]
    assert not (draft.path / JOURNAL).exists()
    assert draft.path.exists()


def test_leftovers_of_drafts_are_removed_but_not_beside_a_daemon(artfs: Artfs, settings: Settings) -> None:
    (settings.drafts_path / TRASH / "gone").mkdir(parents=True)
    area = DraftArea(settings.drafts_path)
    assert area.own()
    (beside,) = statechecks.draft_checks(settings)
    assert (beside.status, beside.mend) == ("ok", None)
    area.disown()
    mended(artfs, "drafts")
    assert list(settings.drafts_path.glob(f"{TRASH}/*")) == []


def test_a_draft_that_cannot_be_read_needs_a_person(artfs: Artfs, settings: Settings) -> None:
    draft = DraftArea(settings.drafts_path).create(INFO)
    (draft.path / "draft.json").write_text("{")
    (found,) = [check for check in artfs("doctor", "--fix", "--json", code=1).json if check["check"] == "drafts"]
    assert (found["status"], found["mended"], found["done"]) == ("bad", False, "this needs a person")
    assert f"the files are in {draft.path}/files" in found["detail"]


def test_a_missing_tree_is_named(artfs: Artfs, two_versions: Path, settings: Settings) -> None:
    with open_session(settings) as session:
        member = session.catalog.resolve("local", "vega", "cars", "v0")
        session.store.path_of(member.version.digest).unlink()
    (found,) = [check for check in artfs("doctor", "--fix", "--json", code=1).json if check["check"] == "store"]
    assert (found["status"], found["mended"]) == ("bad", False)
    assert member.qualified_name in found["detail"]


def with_server(monkeypatch: pytest.MonkeyPatch, server: ServerProcess) -> None:
    monkeypatch.setenv("ARTFS_SERVER", server.url)


@pytest.fixture
def server(tmp_path: Path) -> Any:
    (tmp_path / "far").mkdir()
    with artfs_serve("--home", tmp_path / "far", "--no-auth", environ={"ARTFS_CONFIG": "/dev/null"}) as made:
        yield made


def test_a_damaged_index_of_the_cache_is_made_anew(
    artfs: Artfs, settings: Settings, server: ServerProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_server(monkeypatch, server)
    with Cache(settings.cache_path) as cache:
        for number in range(300):
            cache.index.pin("s", f"n{number}", f"{number:064x}", [f"{number:064x}"])
    index = settings.cache_path / "index.db"
    data = bytearray(index.read_bytes())
    data[5000:9000] = b"\xff" * 4000  # inner pages: the head is fine, so opening it notices nothing
    index.write_bytes(data)
    # The damaged one was put aside; a second look has that removed.
    (first,) = [check for check in artfs("doctor", "--fix", "--json", code=None).json if check["check"] == "cache index"]
    assert (first["status"], first["mended"]) == ("bad", True)
    mended(artfs, "cache index")
    with sqlite3.connect(index) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    connection.close()


def test_the_clock_is_compared_with_the_servers(
    settings: Settings, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings.with_changes(server=server.url)
    assert checks.check_server(given).status == "ok"

    class Late(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(datetime.now(UTC).timestamp() + 3600, tz)

    monkeypatch.setattr(checks, "datetime", Late)
    found = checks.check_server(given)
    assert found.status == "warn"
    assert "ahead of that of the server" in found.detail


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 99 Nov 2026 00:00:00 GMT"])
def test_a_server_that_tells_no_time(date: str) -> None:
    assert checks.clock_ahead(date, datetime.now(UTC)) == 0.0


def test_space_is_freed(artfs: Artfs, two_versions: Path, settings: Settings) -> None:
    artfs("delete", "-y", "--delete-aliases", "vega/cars:v0", "vega/cars:v1")
    blobs = sum(1 for _ in settings.store_path.glob("blobs/*/*"))
    check = checks.check_space(settings.home, 1 << 60, lambda: statechecks.free_space(settings))
    assert check.status == "bad"
    assert check.mend is not None
    assert "freed" in check.mend()
    assert sum(1 for _ in settings.store_path.glob("blobs/*/*")) < blobs


def test_what_root_may_mend_of_fuse(tmp_path: Path) -> None:
    device = tmp_path / "fuse"
    os.mknod(device, 0o020600, os.makedev(1, 3))
    program = tmp_path / "fusermount3"
    program.touch(0o755)
    for look in (lambda: checks.check_fuse_device(device), lambda: checks.check_fusermount(str(program), euid=0)):
        found: Check = look()
        assert found.status == "warn"
        assert found.mend is not None
        found.mend()
        assert look().status == "ok"


STUCK = "import sys, time; print('!', flush=True); time.sleep(1000)"


def test_a_daemon_of_ours_that_hangs_is_ended(
    no_mounts: list[MountInfo], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before it had time to answer; and no other process that has got its number."""
    no_mounts.append(MountInfo("/nowhere", "fuse.artfs", "artfs", "0:999999"))
    detached: list[Path] = []
    monkeypatch.setattr(statechecks, "detach", lambda path, *, lazy: detached.append(path))
    asked: list[float] = []

    def silent(path: Path, timeout_s: float) -> int | None:
        asked.append(timeout_s)
        return None

    for name, is_ended in (("artfsd", True), ("other", False)):
        with subprocess.Popen([sys.executable, "-c", STUCK, name], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.read(1) == b"!"
            record = MountRecord(
                id="x", pid=child.pid, mountpoint="/nowhere", socket="", entity="local", started_at="", device=0
            )
            monkeypatch.setattr(statechecks, "known_mounts", lambda path, record=record: [record])
            (found,) = statechecks.mount_checks(settings, silent)
            assert found.status == "bad"
            assert found.mend is not None
            reaper = Reaper(child)
            monkeypatch.setattr(statechecks, "is_running", reaper.is_running)
            found.mend()
            # SIGUSR1, which ends a process that knows nothing of it, was sent first.
            assert (child.poll() in (-signal.SIGUSR1, -signal.SIGKILL)) == is_ended
            child.kill()
    assert asked.count(settings.deadline_s + 5) == 2
    assert detached == [Path("/nowhere")] * 2


class Reaper:
    """Waits for a child of ours, which init would do for another's."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child

    def is_running(self, pid: int) -> bool:
        return self.child.poll() is None


def test_a_mount_that_was_only_slow_is_left_alone(
    no_mounts: list[MountInfo], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_mounts.append(MountInfo("/nowhere", "fuse.artfs", "artfs", "0:999999"))
    record = MountRecord(id="x", pid=os.getpid(), mountpoint="/nowhere", socket="", entity="local", started_at="", device=0)
    monkeypatch.setattr(statechecks, "known_mounts", lambda path: [record])
    (found,) = statechecks.mount_checks(settings, lambda path, timeout_s: 0 if timeout_s > 10 else None)
    assert found.mend is not None
    assert found.mend() == "it answers again: it was only slow"


def test_what_cannot_be_mended_says_why(artfs: Artfs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise UnavailableError("not today")

    from artfs.cli.commands import doctor

    broken = Check("thing", "bad", "is broken", "mend it", refuse)
    monkeypatch.setattr(doctor, "all_checks", lambda settings, trouble="": [broken])
    shown = artfs("doctor", "--fix", code=1).out
    assert "to mend it: mend it" in shown
    assert "not mended: not today" in shown
