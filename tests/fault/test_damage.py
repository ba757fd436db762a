"""Damaged state: a reader gets EIO, never wrong bytes; the log and `artfs verify` name what is damaged; the rest goes on."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from artfs.model.digests import BLOCK_SIZE
from artfs.model.entry import DirEntry
from artfs.model.manifest import Manifest
from artfs.model.tree import PageCache
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.outside import StateFolder, check_tree

LARGE = 20 * BLOCK_SIZE + 1234
MIDDLE = 10 * BLOCK_SIZE


Artfs = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Place:
    """A version p/c:v0 with `small`, `large`, `d/other`; and its state folder."""

    workspace: Workspace
    state: StateFolder
    source: Path
    artfs: Artfs

    def blob(self, path: str) -> Path:
        return self.state.blob(self.state.content("p/c:v0")[path])

    def digests(self, *without: str) -> dict[str, str]:
        return {path: digest for path, digest in self.state.content("p/c:v0").items() if path not in without}

    def verify(self) -> subprocess.CompletedProcess[str]:
        return self.artfs("verify", "p/c")


@pytest.fixture
def place(workspace: Workspace, artfs: Artfs, tmp_path: Path) -> Place:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    chance = random.Random(1)
    (source / "small").write_bytes(chance.randbytes(5000))
    (source / "large").write_bytes(chance.randbytes(LARGE))
    (source / "d" / "other").write_bytes(chance.randbytes(7000))
    done = artfs("log", source, "p/c")
    assert done.returncode == 0, done.stderr
    return Place(workspace, StateFolder(workspace.home), source, artfs)


def change(path: Path, offset: int) -> None:
    """Flips a bit, as a disk does: without asking for permission."""
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))
    path.chmod(0o444)


def flip(path: Path) -> None:
    change(path, path.stat().st_size // 2)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def swap(path: Path) -> None:
    """Other bytes, of the same size, under the name."""
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(b"x" * size)


DAMAGES = [flip, truncate, empty, swap, Path.unlink]


def read_by_process(path: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["cat", path], capture_output=True, timeout=60, check=False, env={"LC_ALL": "C"})


@pytest.fixture
def damaged_daemon(place: Place, make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon that is started after the damage is done, by `start`."""
    daemon = make_daemon(place.workspace)
    yield daemon
    assert daemon.is_running
    daemon.status()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["small", "large"])
def test_a_reader_of_a_damaged_blob_gets_eio_and_the_log_and_verify_name_it(
    place: Place, damaged_daemon: Daemon, name: str, damage: Callable[[Path], None]
) -> None:
    blob = place.blob(name)
    damage(blob)
    daemon = damaged_daemon
    daemon.expect_log(blob.name)
    daemon.start()
    latest = daemon.mountpoint / "p" / "c" / "latest"
    for _ in range(2):
        done = read_by_process(latest / name)
        assert done.returncode != 0
        assert b"Input/output error" in done.stderr
        assert place.source.joinpath(name).read_bytes().startswith(done.stdout), "bytes that nobody logged"
    lines = [line for line in daemon.log().splitlines() if blob.name in line]
    assert any(f"local/p/c:v0/{name}" in line for line in lines), lines
    check_tree(latest, place.digests(name), extra={name})
    check_verify(place, name, blob, is_gone=damage is Path.unlink)


def check_verify(place: Place, name: str, blob: Path, *, is_gone: bool) -> None:
    """`artfs verify` names it, and nothing else."""
    done = place.verify()
    assert done.returncode == 8
    said = done.stdout + done.stderr
    assert name in said
    assert blob.name[:12] in said
    assert "d/other" not in said
    done = place.artfs("verify", "--store")
    if is_gone:  # a store does not know what it should have
        assert done.returncode == 0
    else:
        assert done.returncode == 8 and blob.name[:12] in done.stdout + done.stderr


def test_other_blocks_of_a_damaged_large_blob_stay_readable(place: Place, damaged_daemon: Daemon) -> None:
    blob = place.blob("large")
    change(blob, MIDDLE + 17)
    right = place.source.joinpath("large").read_bytes()
    daemon = damaged_daemon
    daemon.expect_log(blob.name)
    daemon.start()
    with (daemon.mountpoint / "p" / "c" / "v0" / "large").open("rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # else the kernel reads ahead over the damage
        for offset in [0, MIDDLE - 4096, MIDDLE + BLOCK_SIZE, LARGE - 100, 5 * BLOCK_SIZE]:
            assert os.pread(stream.fileno(), 4096, offset) == right[offset : offset + 4096]
        for offset in [MIDDLE, MIDDLE + BLOCK_SIZE - 4096]:
            with pytest.raises(OSError, match="Input/output error") as caught:
                os.pread(stream.fileno(), 4096, offset)
            assert caught.value.errno == errno.EIO
        for offset in [MIDDLE - BLOCK_SIZE, MIDDLE + 3 * BLOCK_SIZE]:
            assert os.pread(stream.fileno(), 4096, offset) == right[offset : offset + 4096]
    assert sum("is damaged" in line and "ERROR" in line for line in daemon.log().splitlines()) == 1


def test_what_comes_before_the_damage_can_be_copied_out(place: Place, damaged_daemon: Daemon) -> None:
    blob = place.blob("large")
    change(blob, LARGE - 5)
    daemon = damaged_daemon
    daemon.expect_log(blob.name)
    daemon.start()
    done = read_by_process(daemon.mountpoint / "p" / "c" / "v0" / "large")
    assert done.returncode != 0
    right = place.source.joinpath("large").read_bytes()
    assert right.startswith(done.stdout)
    assert len(done.stdout) >= LARGE - 3 * BLOCK_SIZE


def test_damage_is_seen_while_the_file_is_open_and_its_mending_too(place: Place, damaged_daemon: Daemon) -> None:
    blob = place.blob("large")
    daemon = damaged_daemon
    daemon.expect_log(blob.name)
    daemon.start()
    right = place.source.joinpath("large").read_bytes()
    with (daemon.mountpoint / "p" / "c" / "v0" / "large").open("rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(stream.fileno(), 4096, 0) == right[:4096]
        change(blob, MIDDLE)
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(stream.fileno(), 4096, MIDDLE)
        change(blob, MIDDLE)
        assert os.pread(stream.fileno(), 4096, MIDDLE) == right[MIDDLE : MIDDLE + 4096]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_block_list_is_eio_for_its_file_alone(
    place: Place, damaged_daemon: Daemon, damage: Callable[[Path], None]
) -> None:
    entry = place.state.files(place.state.versions()["p/c:v0"])["large"]
    blocks = place.state.blob(entry.blocks.hex())
    damage(blocks)
    daemon = damaged_daemon
    daemon.expect_log(f"{blocks.name}|{entry.digest}")
    daemon.start()
    done = read_by_process(daemon.mountpoint / "p" / "c" / "v0" / "large")
    assert done.returncode != 0 and b"Input/output error" in done.stderr
    assert done.stdout == b""
    check_tree(daemon.mountpoint / "p" / "c" / "v0", place.digests("large"), extra={"large"})
    verified = place.verify()
    assert verified.returncode == 8 and "large" in verified.stdout + verified.stderr


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_tree_is_eio_for_what_is_below_it(
    place: Place, damaged_daemon: Daemon, damage: Callable[[Path], None]
) -> None:
    root = place.state.versions()["p/c:v0"]
    (place.source / "more").write_bytes(b"more")
    assert place.artfs("log", place.source, "p/c").returncode == 0
    below = subtree(place.state, root, "d")
    damage(place.state.blob(below))
    daemon = damaged_daemon
    daemon.expect_log(below)
    daemon.start()
    for name in ("v0", "v1", "latest"):
        version = daemon.mountpoint / "p" / "c" / name
        assert sorted(os.listdir(version))[:2] == ["d", "large"]
        with pytest.raises(OSError, match="Input/output error"):
            os.listdir(version / "d")
        with pytest.raises(OSError, match="Input/output error"):
            (version / "d" / "other").stat()
        assert (version / "small").read_bytes() == (place.source / "small").read_bytes()
    assert below in daemon.log()
    verified = place.verify()
    assert verified.returncode == 8
    assert below[:12] in verified.stdout + verified.stderr
    listed = place.artfs("ls", "p/c:v0/d")
    assert listed.returncode == 8
    assert len(listed.stderr.splitlines()) == 1 and below in listed.stderr


def test_a_damaged_root_tree_leaves_other_versions_alone(place: Place, damaged_daemon: Daemon) -> None:
    (place.source / "more").write_bytes(b"more")
    assert place.artfs("log", place.source, "p/c").returncode == 0
    roots = place.state.versions()
    flip(place.state.blob(roots["p/c:v0"]))
    daemon = damaged_daemon
    daemon.expect_log(roots["p/c:v0"])
    daemon.start()
    assert sorted(os.listdir(daemon.mountpoint / "p" / "c")) == ["latest", "v0", "v1"]
    with pytest.raises(OSError, match="Input/output error"):
        os.listdir(daemon.mountpoint / "p" / "c" / "v0")
    check_tree(daemon.mountpoint / "p" / "c" / "v1", place.state.content("p/c:v1"))


def subtree(state: StateFolder, root: str, name: str) -> str:
    """The digest of a directory's tree."""
    entry = Manifest(PageCache(lambda digest: state.blob(digest).read_bytes()), root).get(name)
    assert isinstance(entry, DirEntry)
    return entry.digest


def test_a_draft_cannot_take_damaged_content_over(place: Place, damaged_daemon: Daemon) -> None:
    """Copy on write checks what it copies; and what cannot be copied stays a name for the damaged blob."""
    blob = place.blob("small")
    flip(blob)
    daemon = damaged_daemon
    daemon.expect_log(blob.name)
    daemon.start()
    draft = daemon.mountpoint / "drafts" / "p" / "c:latest"
    draft.mkdir(parents=True)
    with pytest.raises(OSError, match="Input/output error"), (draft / "small").open("r+b") as stream:
        stream.write(b"x")
    (draft / "small").write_bytes(b"new")  # truncating needs no old bytes
    assert place.artfs("commit", "p/c:latest").returncode == 0
    digest = hashlib.sha256(b"new").hexdigest()
    assert place.state.content("p/c:v1") == {**place.digests(), "small": digest}
    check_tree(daemon.mountpoint / "p" / "c" / "latest", {**place.digests(), "small": digest})


def test_a_damaged_catalog_is_one_clear_line(place: Place, make_daemon: Callable[..., Daemon]) -> None:
    catalog = place.workspace.home / "catalog.db"
    data = bytearray(catalog.read_bytes())
    data[:4096] = b"no database at all".ljust(4096, b".")
    catalog.write_bytes(data)
    done = place.artfs("ls")
    assert done.returncode == 10
    assert len(done.stderr.splitlines()) == 1 and str(catalog) in done.stderr
    code, said = make_daemon(place.workspace).failed_start()
    assert code != 0
    assert str(catalog) in said and "Traceback" not in said


def test_two_blobs_that_were_exchanged_are_neither_s_content(place: Place, damaged_daemon: Daemon) -> None:
    """Each is whole and under a name that is in use: the directory of a file system that was repaired."""
    pairs = [("small", "d/other"), ("large", "small")]
    daemon = damaged_daemon
    daemon.start()
    for one, other in pairs:
        first, second = place.blob(one), place.blob(other)
        exchange(first, second)
        daemon.expect_log(f"{first.name}|{second.name}")
        for name in (one, other):
            done = read_by_process(daemon.mountpoint / "p" / "c" / "v0" / name)
            assert done.returncode != 0 and b"Input/output error" in done.stderr and not done.stdout
        verified = place.verify()
        assert verified.returncode == 8
        assert one in verified.stdout and other in verified.stdout
        exchange(first, second)
        assert place.verify().returncode == 0


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@pytest.mark.parametrize("damage", [flip, empty], ids=lambda damage: damage.__name__)
def test_a_damaged_draft_leaves_the_others_alone(
    place: Place, make_daemon: Callable[..., Daemon], damage: Callable[[Path], None]
) -> None:
    """The daemon starts, the log and `artfs status` say where its files are; `artfs gc` does not guess what it needs."""
    daemon = make_daemon(place.workspace).start()
    for name in ("good", "bad"):
        (daemon.mountpoint / "drafts" / "p" / name).mkdir(parents=True)
        (daemon.mountpoint / "drafts" / "p" / name / "file").write_bytes(b"mine")
    assert daemon.terminate() == 0
    about = next(place.workspace.home.rglob("bad/draft.json"))
    if damage is flip:
        about.write_bytes(about.read_bytes().replace(b'"project": "p"', b'"project": "q"'))
    else:
        damage(about)
    daemon.expect_log("bad/draft.json")
    daemon.start()
    assert (daemon.mountpoint / "drafts" / "p" / "good" / "file").read_bytes() == b"mine"
    with pytest.raises(OSError, match="Input/output error"):
        (daemon.mountpoint / "drafts" / "p" / "bad" / "file").read_bytes()
    assert str(about) in daemon.log()
    for words in (("status",), ("draft", "list")):
        done = place.artfs(*words)
        assert done.returncode == 0 and str(about) in done.stderr and "good" in done.stdout
    assert place.artfs("commit", "p/good").returncode == 0
    swept = place.artfs("gc")
    assert swept.returncode == 8 and str(about) in swept.stderr
    assert (about.parent / "files" / "file").read_bytes() == b"mine"
