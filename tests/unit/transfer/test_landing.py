"""Where a pull writes: what a killed one left, what an interrupted one leaves, helpers, reflinks and hard links."""

import fcntl
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from artfs.errors import BadBlobError, ConflictError
from artfs.model.digests import digest_bytes
from artfs.model.manifest import Manifest
from artfs.store.folder import FolderStore
from artfs.transfer import pull as pull_module
from artfs.transfer import writer as writer_module
from artfs.transfer.helpers import Helpers
from artfs.transfer.pull import pull
from artfs.transfer.push import Pushed
from artfs.transfer.smallcopy import File, NotThatBlob, Reflinks, copy_files, decode_group, encode_group
from artfs.transfer.verify import verify_directory
from artfs.wire.control import Progress

Push = Callable[..., Pushed]
Open = Callable[[str], Manifest]

DEAD = ".artfs-0123456789abcdef.tmp"


@pytest.fixture
def version(push: Push, manifest: Open, folder: Path) -> Manifest:
    return manifest(push(folder).root)


@pytest.fixture
def many(push: Push, manifest: Open, tmp_path: Path) -> Manifest:
    """1,200 small files in 10 directories."""
    root = tmp_path / "many"
    for number in range(10):
        (root / f"d{number}").mkdir(parents=True)
    for number in range(1200):
        (root / f"d{number % 10}" / f"f{number}").write_bytes(b"%d" % number)
    return manifest(push(root).root)


def leftovers(dest: Path) -> list[Path]:
    return list(dest.rglob(".artfs-*"))


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


# what a killed pull left --------------------------------------------------------------------------


def leave_dead(dest: Path) -> Path:
    """What a pull of `folder` leaves that is killed, with more than that thrown in."""
    dead = dest / DEAD
    (dead / "sub" / "deep").mkdir(parents=True)
    (dead / "empty").mkdir()
    (dead / "run.sh").write_bytes(b"#!/bin/s")  # half
    (dead / "a.txt").write_bytes(b"hellO\n")  # wrong
    (dead / "sub" / "same.txt").write_bytes(b"hello\n")  # whole
    (dead / "sub" / "link").symlink_to("/etc/passwd")
    (dead / "sub" / "deep" / "large.bin").write_bytes(bytes(range(256)) * 8999)  # half
    (dead / ".artfs-01234567-1.tmp").write_bytes(b"hello\n")
    (dead / "unknown").write_bytes(b"x")
    return dead


def test_what_a_killed_pull_left_is_used_or_removed(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    inode = (leave_dead(dest) / "sub" / "same.txt").stat().st_ino
    done = pull(store, version, dest)
    assert verify_directory(store, version.root, dest) == []
    assert (dest / "sub" / "same.txt").stat().st_ino == inode
    assert (done.written, done.unchanged) == (5, 1)


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_what_a_killed_pull_of_another_version_left(
    store: FolderStore, version: Manifest, tmp_path: Path, what: str
) -> None:
    dest = tmp_path / "dest"
    there = dest / DEAD / "a.txt"
    there.parent.mkdir(parents=True)
    if what == "link":
        there.symlink_to("b.txt")
    else:
        os.mkfifo(there)
    pull(store, version, dest)
    assert verify_directory(store, version.root, dest) == []
    assert not leftovers(dest)


def test_only_what_is_wanted_is_used(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    leave_dead(dest)
    pull(store, version, dest, path_prefix="zero")
    assert [path.name for path in dest.rglob("*")] == ["zero"]


def test_two_pulls_to_one_folder_do_not_disturb_each_other(
    store: FolderStore, version: Manifest, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    other = leave_dead(dest)
    with opened(other) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        pull(store, version, dest)
        assert (other / "unknown").exists()
    pull(store, version, dest)
    assert verify_directory(store, version.root, dest) == []


def test_a_folder_of_the_version_may_have_such_a_name(
    store: FolderStore, push: Push, manifest: Open, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / DEAD).mkdir(parents=True)
    (source / DEAD / "f").write_bytes(b"mine")
    version = manifest(push(source).root)
    pull(store, version, tmp_path / "dest")
    pull(store, version, tmp_path / "dest")
    assert verify_directory(store, version.root, tmp_path / "dest") == []


def test_a_directory_that_appears_meanwhile_is_filled(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    dest = tmp_path / "dest"

    def appear(progress: Progress) -> None:
        (dest / "sub" / "deep").mkdir(parents=True, exist_ok=True)
        (dest / "sub" / "mine").write_bytes(b"mine")

    pull(store, version, dest, on_progress=appear)
    assert (dest / "sub" / "mine").read_bytes() == b"mine"
    assert [problem.path for problem in verify_directory(store, version.root, dest)] == ["sub/mine"]


@pytest.mark.parametrize("target", ["elsewhere", None])
def test_what_appears_in_the_way_of_a_directory(
    store: FolderStore, version: Manifest, tmp_path: Path, target: str | None
) -> None:
    dest = tmp_path / "dest"
    (tmp_path / "elsewhere").mkdir()

    def appear(progress: Progress) -> None:
        if not os.path.lexists(dest / "sub"):
            if target is None:
                (dest / "sub").write_bytes(b"mine")
            else:
                (dest / "sub").symlink_to(tmp_path / target)

    with pytest.raises(ConflictError, match="/sub is a"):
        pull(store, version, dest, on_progress=appear)
    assert leftovers(dest) == []
    assert list((tmp_path / "elsewhere").iterdir()) == []


# interrupted --------------------------------------------------------------------------------------


class Stop(BaseException):
    """As Ctrl-C, but surely ours."""


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("after", [1, 400, 1000])
def test_an_interrupted_pull_leaves_whole_files_only(
    store: FolderStore, many: Manifest, tmp_path: Path, workers: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("artfs.transfer.progress._PERIOD_S", 0)
    dest = tmp_path / "dest"

    def stop(progress: Progress) -> None:
        if progress.files >= after:
            raise Stop

    with pytest.raises(Stop):
        pull(store, many, dest, workers=workers, on_progress=stop)
    assert leftovers(dest) == []
    kept = {str(path.relative_to(dest)): path for path in dest.rglob("*") if path.is_file()}
    assert len(kept) >= after - 64
    wanted = dict(many.files())
    assert all(digest_bytes(path.read_bytes()) == wanted[name].digest for name, path in kept.items())
    done = pull(store, many, dest, workers=workers)
    assert (done.unchanged, done.written) == (len(kept), 1200 - len(kept))
    assert verify_directory(store, many.root, dest) == []


# helpers ------------------------------------------------------------------------------------------


def put(store: FolderStore, *contents: bytes) -> list[File]:
    with store.begin() as batch:
        digests = [batch.put_bytes(data) for data in contents]
    return [
        (b"n%d\n\xff" % at, os.fsencode(store.path_of(digest)), digest, len(contents[at]), 0o644)
        for at, digest in enumerate(digests)
    ]


def test_groups_are_written_by_a_process_of_their_own(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "landing" / "in").mkdir(parents=True)
    files = put(store, b"", b"one", bytes(70_000))
    with opened(tmp_path / "landing") as fd, closing(Helpers[str](1, fd)) as helpers:
        assert helpers.offer("good", b"in", files)
        assert helpers.offer("bad", b".", [(b"x", files[1][1], files[2][2], 3, 0o644)])
        assert not helpers.offer("third", b".", files)  # it has enough to do
        assert list(helpers.done(wait=True)) == [("good", 70_003), ("bad", -1)]
        assert helpers.offer("nowhere", b"nowhere", files)
        assert list(helpers.done(wait=True)) == [("nowhere", -1)]
    made = [(tmp_path / "landing" / "in" / os.fsdecode(name)).read_bytes() for name, *_ in files]
    assert made == [b"", b"one", bytes(70_000)]


def test_the_groups_of_a_killed_helper_are_told(store: FolderStore, tmp_path: Path) -> None:
    files = put(store, b"one")
    with opened(tmp_path) as fd, closing(Helpers[str](1, fd)) as helpers:
        assert helpers.offer("first", b".", files)
        assert list(helpers.done(wait=True)) == [("first", 3)]
        assert helpers._helpers is not None
        process = helpers._helpers[0]._process
        process.send_signal(signal.SIGSTOP)
        assert helpers.offer("second", b".", files)
        process.kill()
        process.wait()
        assert list(helpers.done(wait=True)) == [("second", -1)]
        assert not helpers.offer("third", b".", files)


def test_a_pull_goes_on_without_its_helper(
    store: FolderStore, many: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doomed(Helpers[object]):
        offered = 0

        def offer(self, *arguments: object) -> bool:  # type: ignore[override]
            taken = super().offer(*arguments)  # type: ignore[arg-type]
            Doomed.offered += taken
            if Doomed.offered == 2 and self._helpers:  # it takes so many at least, however busy it is
                self._helpers[0]._process.kill()
            return taken

    monkeypatch.setattr(pull_module, "Helpers", Doomed)
    done = pull(store, many, tmp_path / "dest", workers=2)
    assert Doomed.offered >= 2
    assert done.written == 1200
    assert verify_directory(store, many.root, tmp_path / "dest") == []


@pytest.mark.parametrize("executable", ["", "/usr/sbin/uwsgi", "/usr/bin/python3-that-is-not-there"])
def test_where_no_python_can_be_started(
    store: FolderStore, many: Manifest, tmp_path: Path, executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", executable)
    pull(store, many, tmp_path / "dest", workers=3)
    assert verify_directory(store, many.root, tmp_path / "dest") == []


def test_a_damaged_blob_among_many(store: FolderStore, many: Manifest, tmp_path: Path) -> None:
    blob = store.path_of(digest_bytes(b"1199"))
    blob.chmod(0o644)
    blob.write_bytes(b"1198")
    with pytest.raises(BadBlobError, match="d9/f1199"):
        pull(store, many, tmp_path / "dest", workers=3)
    assert not (tmp_path / "dest" / "d9" / "f1199").exists()
    assert leftovers(tmp_path / "dest") == []


def test_messages_to_helpers() -> None:
    files = [(b"a\n\xff", b"/blobs/ab", "ab" * 32, 7, 0o755), (b"b", b"/c", "cd" * 32, 0, 0o644)]
    message = encode_group(b"some/where", files)
    assert int.from_bytes(message[:8], "little") == len(message) - 8
    assert decode_group(message[8:]) == (b"some/where", files)


# reflinks and hard links --------------------------------------------------------------------------


class CopyingReflinks(Reflinks):
    """A disk that can reflink, as far as one sees from above."""

    def __init__(self, *, damage: bool = False) -> None:
        super().__init__()
        self.damage = damage
        self.clones = 0

    def try_clone(self, source: int, target: int) -> bool:
        data = os.pread(source, 1 << 24, 0)
        os.pwrite(target, b"?" + data[1:] if self.damage else data, 0)
        self.clones += 1
        return True


def test_every_file_is_a_reflink_where_the_disk_can(
    store: FolderStore, version: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reflinks = CopyingReflinks()
    monkeypatch.setattr(writer_module, "Reflinks", lambda: reflinks)
    pull(store, version, tmp_path / "dest")
    assert verify_directory(store, version.root, tmp_path / "dest") == []
    assert reflinks.clones >= 5  # all but the empty one


@pytest.mark.parametrize("path", ["a.txt", "sub/same.txt", "sub/deep/large.bin"])
def test_what_a_reflink_made_is_checked(
    store: FolderStore, version: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(writer_module, "Reflinks", lambda: CopyingReflinks(damage=True))
    with pytest.raises(BadBlobError):
        pull(store, version, tmp_path / "dest", path_prefix=path)
    assert not (tmp_path / "dest" / path).exists()


def test_a_disk_that_cannot_reflink_is_asked_once(store: FolderStore, tmp_path: Path) -> None:
    files = put(store, b"one", b"two")

    class Refusing(Reflinks):
        asked = 0

        def try_clone(self, source: int, target: int) -> bool:
            Refusing.asked += 1
            self.work = False
            return False

    with opened(tmp_path) as fd:
        assert copy_files(fd, files, Refusing()) == 6
        with pytest.raises(NotThatBlob):
            copy_files(fd, [(b"x", files[0][1], files[1][2], 3, 0o644)], Refusing())
    assert Refusing.asked == 2
    assert (tmp_path / os.fsdecode(files[1][0])).read_bytes() == b"two"


def test_hard_links_on_request(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    done = pull(store, version, dest, hard_links=True)
    assert (done.written, done.links) == (6, 1)
    assert verify_directory(store, version.root, dest) == []
    for path in ("a.txt", "sub/deep/large.bin", "zero"):
        status = (dest / path).stat()
        assert os.path.samestat(status, store.path_of(dict(version.files())[path].digest).stat())
        assert stat.S_IMODE(status.st_mode) == 0o444
    assert (dest / "run.sh").stat().st_nlink == 1  # its mode is its own
    again = pull(store, version, dest, hard_links=True)
    assert (again.written, again.unchanged) == (0, 7)


def test_a_hard_link_does_not_stay_where_a_copy_is_wanted(
    store: FolderStore, version: Manifest, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    pull(store, version, dest, hard_links=True)
    pull(store, version, dest)
    assert all(path.stat().st_nlink == 1 for path in dest.rglob("*") if path.is_file() and not path.is_symlink())
    (dest / "a.txt").write_bytes(b"edited")
    assert store.read(digest_bytes(b"hello\n")) == b"hello\n"


def test_a_damaged_blob_is_not_linked(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    blob = store.path_of(digest_bytes(b"hello\n"))
    blob.chmod(0o644)
    blob.write_bytes(b"hellO\n")
    with pytest.raises(BadBlobError):
        pull(store, version, tmp_path / "dest", hard_links=True)
    assert not (tmp_path / "dest" / "a.txt").exists()
