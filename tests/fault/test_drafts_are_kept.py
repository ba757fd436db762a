"""Drafts at unlucky moments: nothing that was written is lost or takes another file's place."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.errors import DraftBusyError
from artfs.model.draft import DraftInfo
from artfs.store import staging
from artfs.store.staging import DraftArea
from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.trees import make, picture

SLOW = Path(__file__).parent / "slow_daemon.py"
MIB = 1024 * 1024
HALF = MIB // 2
"""Of a write that large: the kernel may ask for the last page of it in a request of its own."""
BEGAN = "2026-01-01T00:00:00+00:00"


def test_what_is_added_after_a_commit_that_left_its_folder_stays(daemon: Daemon) -> None:
    """The version is there, and the folder of its draft could not be removed (here, because something is in the way): it goes
    on as a draft, and what is put into it is not thrown away as if it had been committed."""
    daemon.expect_log("the committed draft .* could not be removed")
    corner = Corner(daemon, "p")
    draft = corner.begin()
    (draft / "old").write_text("old")
    trash = daemon.workspace.settings.drafts_path / ".trash"
    trash.rmdir()
    trash.touch()
    assert corner.commit().version == "v0"
    trash.unlink()
    assert (draft / "old").read_text() == "old"
    (draft / "new").write_text("new")
    assert corner.commit().version == "v1"
    assert {path.name for path in (corner.path / "c" / "v1").iterdir()} == {"old", "new"}
    assert (corner.path / "c" / "v1" / "new").read_text() == "new"


def test_two_drafts_of_one_name_begin_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two projects: each is its own."""
    area = DraftArea(tmp_path / "drafts")
    begun, go_on = threading.Event(), threading.Event()
    really = staging._write_info

    def wait(path: Path, info: DraftInfo) -> None:
        really(path, info)
        if info.project == "p":
            begun.set()
            assert go_on.wait(10)

    monkeypatch.setattr(staging, "_write_info", wait)
    first = threading.Thread(target=area.create, args=(DraftInfo("local", "p", "c", "c", BEGAN),))
    first.start()
    assert begun.wait(10)
    try:
        area.create(DraftInfo("local", "q", "c", "c", BEGAN))
    finally:
        go_on.set()
        first.join()
    assert [draft.label for draft in area.drafts()] == ["p/c", "q/c"]


def steps(area: DraftArea, moves: list[Callable[[], object]]) -> set[str]:
    """What the draft refers to, while somebody does one of the moves after each digest that is found."""
    (draft,) = area.drafts()
    found = set()
    for digest in draft.object_digests():
        found.add(digest)
        if moves:
            moves.pop(0)()
    return found


@pytest.mark.embedded("a server's gc looks at no drafts")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_moved_while_garbage_is_collected_is_kept(daemon: Daemon, tmp_path: Path, what: str) -> None:
    """Files that are nowhere but in the draft, as those of a commit that failed."""
    corner = Corner(daemon, "p")
    wanted = set()
    source = tmp_path / "source"
    for number in range(4):
        data = f"content {number}"
        make(source, {f"{number}/file": data})
        wanted.add(hashlib.sha256(data.encode()).hexdigest())
    corner.log(source)
    draft = corner.begin()
    for number in range(4):
        (draft / str(number)).mkdir()
        os.link(corner.path / "c" / "v0" / str(number) / "file", draft / str(number) / "file")
    order: list[str] = []

    def move() -> None:
        # Out of a folder that was not looked into yet, into one that was.
        names = [entry.name for entry in os.scandir(staged(daemon, "."))]
        seen, unseen = names[-1], names[0]
        order.append(unseen)
        if what == "file":
            os.rename(draft / unseen / "file", draft / seen / "moved")
        else:
            os.rename(draft / unseen, draft / seen / "moved")

    assert steps(DraftArea(daemon.workspace.settings.drafts_path), [move]) == wanted
    assert order


@pytest.mark.embedded("a server keeps what it was sent for a day")
def test_a_copy_whose_original_was_swept_is_committed(daemon: Daemon, tmp_path: Path) -> None:
    """It was opened to be changed, and was not: its bytes are the draft's own then, its digest is known, and nobody has the
    blob any more."""
    corner = Corner(daemon, "p")
    data = os.urandom(3 * MIB)
    corner.log(make(tmp_path / "source", {"large": data}))
    draft = corner.begin()
    os.link(corner.path / "c" / "v0" / "large", draft / "large")
    (draft / "large").open("r+b").close()
    corner.artfs("delete", "--yes", "--delete-aliases", "p/c:v0")
    corner.artfs("gc")
    assert corner.commit("c").file_count == 1
    assert (corner.path / "c" / "latest" / "large").read_bytes() == data
    corner.verify_store()


class SlowDaemon(Daemon):
    """See slow_daemon.py."""

    @property
    def gate(self) -> Path:
        return self.workspace.path / "gate"

    def command(self) -> list[str]:
        python, _, _, *arguments = super().command()
        return [python, str(SLOW), str(self.gate), *arguments]

    def shut(self) -> None:
        (self.gate / "closed").touch()

    def open(self) -> None:
        (self.gate / "closed").unlink()


@pytest.fixture
def slow(workspace: Workspace) -> Iterator[SlowDaemon]:
    made = SlowDaemon(workspace, environ={"ARTFS_DEADLINE_S": "1"})
    made.gate.mkdir()
    made.expect_log("no answer within 1 s")
    with made:
        yield made


def wait_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not done():
        assert time.monotonic() < until, "too late"
        time.sleep(0.05)


def staged(daemon: Daemon, name: str) -> Path:
    """The file on the disk: the kernel does not know yet that it changed."""
    return daemon.workspace.settings.drafts_path / "local" / "p" / "c" / "files" / name


def timed_out(fd: int, data: bytes, offset: int) -> None:
    with pytest.raises(OSError) as raised:
        os.pwrite(fd, data, offset)
    assert raised.value.errno == errno.ETIMEDOUT


def test_a_write_that_took_too_long_goes_to_its_own_file(slow: SlowDaemon) -> None:
    """Its writer was told ETIMEDOUT and closed the file; it is done some time later, and meanwhile the draft is busy."""
    corner = Corner(slow, "p")
    draft = corner.begin()
    late = os.open(draft / "late", os.O_WRONLY | os.O_CREAT, 0o644)
    os.pwrite(late, b"a" * MIB, 0)
    slow.shut()
    timed_out(late, b"b" * MIB, 0)
    os.close(late)
    corner.barrier()
    others = [os.open(draft / f"other-{number}", os.O_WRONLY | os.O_CREAT, 0o644) for number in range(8)]
    for number, fd in enumerate(others):
        os.write(fd, b"%d" % number)
    busy = None
    try:
        corner.commit()
    except DraftBusyError as error:
        busy = error
    slow.open()
    wait_until(lambda: staged(slow, "late").read_bytes().startswith(b"b" * HALF))
    for number, fd in enumerate(others):
        os.close(fd)
        assert (draft / f"other-{number}").read_bytes() == b"%d" % number
    assert busy is not None
    assert "late" in busy.paths
    corner.commit()
    assert (corner.path / "c" / "latest" / "late").read_bytes().startswith(b"b" * HALF)
    corner.verify_store()


def test_the_digest_is_that_of_what_a_late_write_left(slow: SlowDaemon) -> None:
    """The write ended after its request and before the file was closed."""
    corner = Corner(slow, "p")
    draft = corner.begin()
    with open(os.open(draft / "file", os.O_WRONLY | os.O_CREAT, 0o644), "wb", buffering=0) as stream:
        for at in range(0, 8 * MIB, MIB):
            os.pwrite(stream.fileno(), b"a" * MIB, at)
        slow.shut()
        timed_out(stream.fileno(), b"b" * MIB, 0)
        slow.open()
        wait_until(lambda: staged(slow, "file").read_bytes().startswith(b"b" * HALF))
    corner.commit()
    assert (corner.path / "c" / "latest" / "file").read_bytes().startswith(b"b" * HALF)
    corner.verify_store()


def test_a_hard_link_that_nobody_looked_at_is_the_same_file(daemon: Daemon, tmp_path: Path) -> None:
    """Also after the name by which the file was opened is gone."""
    corner = Corner(daemon, "p")
    draft = corner.begin()
    (draft / "one").write_bytes(b"a" * 8192)
    os.link(draft / "one", draft / "two")
    daemon.terminate()
    daemon.start()
    with (draft / "one").open("r+b", buffering=0) as stream:
        (draft / "one").unlink()
        assert (draft / "two").read_bytes() == b"a" * 8192
        os.pwrite(stream.fileno(), b"b" * 10, 0)
        assert (draft / "two").read_bytes()[:11] == b"b" * 10 + b"a"
        assert os.fstat(stream.fileno()).st_ino == (draft / "two").stat().st_ino
    with (draft / "two").open("r+b", buffering=0) as stream:
        os.pwrite(stream.fileno(), b"c", 5000)
    corner.commit()
    assert (corner.path / "c" / "latest" / "two").read_bytes() == b"b" * 10 + b"a" * 4990 + b"c" + b"a" * 3191
    corner.verify_store()


def test_what_cannot_be_moved_on_a_full_disk_stays_where_it_is(workspace: Workspace, make_daemon: Callable[..., Daemon]) -> None:
    """With all that is in it. (Here the disk has no inodes left, which is what hiding what was inherited takes.)"""
    drafts = workspace.settings.drafts_path
    drafts.mkdir(mode=0o700)
    options = "size=64m,nr_inodes=200,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "artfs-test", str(drafts)], check=True)
    try:
        daemon = make_daemon(workspace, environ={"ARTFS_FREE_FLOOR": "0"})
        daemon.expect_log("No space left on device")
        with daemon:
            corner = Corner(daemon, "p")
            corner.log(make(workspace.path / "source", {"mine": "inherited", "theirs": "theirs", "one/x": "1", "two/y": "2"}))
            draft = corner.begin("c:latest")
            (draft / "mine").write_text("mine")
            (draft / "one" / "x").write_text("changed")
            (draft / "sub").mkdir()
            before = picture(draft)
            fill = [drafts / f"fill-{number}" for number in range(200)]
            with pytest.raises(OSError, match="No space left"):
                for path in fill:
                    path.touch()
            for name in ("mine", "theirs", "one", "two"):
                with pytest.raises(OSError, match="No space left"):
                    os.rename(draft / name, draft / "sub" / name)
            assert picture(draft) == before
            for path in fill:
                path.unlink(missing_ok=True)
            assert picture(draft) == before
            for name in ("mine", "theirs", "one", "two"):
                os.rename(draft / name, draft / "sub" / name)
            corner.commit("c:latest")
            after = {name.removeprefix("sub/"): item for name, item in picture(corner.path / "c" / "latest").items()}
            assert after == before
    finally:
        subprocess.run(["umount", "--lazy", str(drafts)], check=True)
