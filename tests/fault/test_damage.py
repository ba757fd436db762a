"""Bits that rot in the store: an error for whoever reads them, never wrong bytes; the rest goes on
(docs/semantics.md, "Versions")."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.testing.mount import Daemon, Workspace
from artfs.testing.trees import make

BLOCK = 256 * 1024


@pytest.fixture
def daemon(workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    made = make_daemon(workspace).start()
    source = make(tmp_path / "s", {"small": "s" * 5000, "sound": "fine", "d/deep": "x"})
    (source / "large").write_bytes(os.urandom(8 * BLOCK))
    workspace.artfs("log", source, "p/c")
    return made


def blob_of(daemon: Daemon, name: str) -> Path:
    digest = os.getxattr(daemon.mountpoint / "p/c/v0" / name, "user.artfs.digest").decode()
    return daemon.workspace.home / "store" / "blobs" / digest[:2] / digest


def flip(path: Path, offset: int) -> None:
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))
    path.chmod(0o444)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a flipped bit": lambda path: flip(path, path.stat().st_size // 2),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["small", "large"])
def test_a_damaged_file_is_an_error_and_never_wrong_bytes(daemon: Daemon, name: str, damage: str) -> None:
    blob = blob_of(daemon, name)
    DAMAGES[damage](blob)
    daemon.expect_log(blob.name)
    with pytest.raises(OSError) as raised:
        (daemon.mountpoint / "p/c/v0" / name).read_bytes()
    assert raised.value.errno == errno.EIO
    assert f"p/c:v0/{name}" in daemon.log()
    assert (daemon.mountpoint / "p/c/v0/sound").read_text() == "fine"
    for arguments in (["verify", "p/c:v0"], ["verify", "--store"]):
        if damage == "gone" and "--store" in arguments:
            continue  # what is not there cannot be found in it
        done = daemon.workspace.artfs(*arguments, check=False)
        assert done.returncode != 0
        assert name in done.stdout + done.stderr or blob.name in done.stdout + done.stderr


def test_a_file_that_rots_while_it_is_known_is_found_when_it_is_read_again(daemon: Daemon) -> None:
    path = daemon.mountpoint / "p/c/v0/small"
    assert path.read_text() == "s" * 5000
    flip(blob_of(daemon, "small"), 10)
    daemon.expect_log("small")
    Path("/proc/sys/vm/drop_caches").write_text("1")
    with pytest.raises(OSError) as raised:
        path.read_bytes()
    assert raised.value.errno == errno.EIO


def test_a_damaged_tree_is_an_error_and_the_rest_goes_on(daemon: Daemon) -> None:
    digest = os.getxattr(daemon.mountpoint / "p/c/v0/d", "user.artfs.digest").decode()
    daemon.terminate()  # so that nobody remembers the page
    blob = daemon.workspace.home / "store" / "blobs" / digest[:2] / digest
    flip(blob, 5)
    daemon.start()
    daemon.expect_log(digest)
    with pytest.raises(OSError) as raised:
        os.listdir(daemon.mountpoint / "p/c/v0/d")
    assert raised.value.errno == errno.EIO
    assert (daemon.mountpoint / "p/c/v0/sound").read_text() == "fine"
    assert daemon.workspace.artfs("verify", "p/c:v0", check=False).returncode != 0
