"""Ordinary programs on an alias's folder do what they do on an ordinary folder (docs/semantics.md, "Versions")."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.trees import Link, make, picture, random_tree

GETDENTS64 = {"x86_64": 217, "aarch64": 61}[platform.machine()]
"""The system call's number."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = random_tree(tmp_path_factory.mktemp("tools") / "source", files=300, folders=20)
    return make(source, {"link": Link("file"), "file": "words", "run*": "#!/bin/sh\n", "empty": None})


@pytest.fixture(scope="module")
def alias(served: Daemon, source: Path) -> Iterator[Path]:
    """The folder of the alias `latest`."""
    corner = Corner(served, "tools")
    corner.log(source)
    yield corner.path / "c" / "latest"
    assert picture(corner.path / "c" / "latest") == picture(source)


def run(*command: str | os.PathLike[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout


def disown(copy: Path) -> None:
    """The copy is like any folder of one's own: it can be changed and deleted."""
    assert stat.S_ISDIR(copy.lstat().st_mode)
    (copy / "file").write_text("changed")
    (copy / "new").touch()
    shutil.rmtree(copy)


def test_cp_of_an_alias_copies_a_folder(alias: Path, source: Path, tmp_path: Path) -> None:
    for options in ("-r", "-a", "-rL"):
        run("cp", options, alias, ".", cwd=tmp_path)
        copied = tmp_path / "latest"
        if options == "-rL":
            (copied / "link").unlink()
            (copied / "link").symlink_to("file")
        assert picture(copied) == picture(source)
        disown(copied)


def test_cp_of_one_file_keeps_its_mode(alias: Path, tmp_path: Path) -> None:
    run("cp", alias / "run", alias / "file", tmp_path)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_tar_of_an_alias_packs_a_folder(alias: Path, source: Path, tmp_path: Path) -> None:
    run("tar", "cf", tmp_path / "packed.tar", "latest", cwd=alias.parent)
    with tarfile.open(tmp_path / "packed.tar") as packed:
        members = packed.getmembers()
    assert members[0].isdir()
    assert all(not member.islnk() for member in members)
    run("tar", "xf", tmp_path / "packed.tar", cwd=tmp_path)
    assert picture(tmp_path / "latest") == picture(source)
    disown(tmp_path / "latest")


def test_rsync_of_an_alias_copies_a_folder(alias: Path, source: Path, tmp_path: Path) -> None:
    run("rsync", "-a", alias, tmp_path)
    assert picture(tmp_path / "latest") == picture(source)
    again = run("rsync", "-ai", alias, tmp_path)
    assert again == ""  # sizes and times are stable: nothing is sent again
    disown(tmp_path / "latest")


def test_du_of_an_alias_is_that_of_a_folder(alias: Path, source: Path) -> None:
    def apparent(folder: Path) -> int:
        return int(run("du", "-s", "--apparent-size", "-B1", folder).split()[0])

    assert apparent(alias) == apparent(source)
    files = sum(
        -(-path.lstat().st_size // 512) for path in source.rglob("*") if path.is_file() or path.is_symlink()
    )
    folders = 1 + sum(path.is_dir() for path in source.rglob("*"))
    assert int(run("du", "-s", "-B512", alias).split()[0]) == files + folders * 8


def test_find_of_an_alias_finds_everything(alias: Path, source: Path) -> None:
    for options in (
        [],
        ["-type", "f"],
        ["-type", "d"],
        ["-type", "l"],
        ["-size", "+100c"],
        ["-perm", "-100"],
        ["-empty"],
    ):
        found = run("find", ".", *options, cwd=alias).splitlines()
        assert sorted(found) == sorted(run("find", ".", *options, cwd=source).splitlines())


def test_ls_of_an_alias_goes_down(alias: Path, source: Path) -> None:
    def names(folder: Path) -> list[str]:
        return [line.replace(str(folder), "") for line in run("ls", "-RA", folder).splitlines()]

    assert names(alias) == names(source)


def test_grep_of_an_alias_searches(alias: Path) -> None:
    assert run("grep", "-rl", "words", ".", cwd=alias).splitlines() == ["./file"]


def test_a_walk_stays_on_one_file_system(alias: Path, source: Path) -> None:
    assert len(run("find", ".", "-xdev", cwd=alias).splitlines()) == len(picture(source)) + 1


def test_mv_out_of_a_version_copies_and_says_so(alias: Path, tmp_path: Path) -> None:
    """The copy is made; what cannot be removed is named; the version stays."""
    done = subprocess.run(["mv", alias / "file", tmp_path / "moved"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    assert (tmp_path / "moved").read_text() == "words"


def test_rm_of_an_alias_is_refused_whole(alias: Path, source: Path) -> None:
    done = subprocess.run(["rm", "-rf", alias], capture_output=True, text=True)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    assert picture(alias) == picture(source)


def test_python_copies_an_alias(alias: Path, source: Path, tmp_path: Path) -> None:
    shutil.copytree(alias, tmp_path / "copied", symlinks=True)
    assert picture(tmp_path / "copied") == picture(source)
    disown(tmp_path / "copied")


def test_an_ordinary_users_copy_is_theirs(
    ordinary_workspace: Workspace, make_daemon: Callable[..., Daemon]
) -> None:
    workspace = ordinary_workspace
    source = make(workspace.path / "source", {"folder/file": "words", "run*": "#!/bin/sh\n"})
    workspace.artfs("log", source, "demo/c")
    alias = make_daemon(workspace).start().mountpoint / "demo" / "c" / "latest"
    for command in (["cp", "-r"], ["cp", "-a"], ["rsync", "-a"]):
        script = (
            f'{" ".join(command)} "$0" copied && touch copied/folder/new && rm copied/run && rm -r copied'
        )
        done = workspace.account.run(["sh", "-c", script, str(alias) + "/"], cwd=workspace.home)
        assert (done.returncode, done.stderr) == (0, "")


def entries_of(folder: Path, nbytes: int) -> list[tuple[str, int]]:
    """(name, inode) of everything that getdents64(2) gives into a buffer of `nbytes`, which Python would hide a part of."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(nbytes)
    found = []
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while got := libc.syscall(GETDENTS64, fd, buffer, nbytes):
            assert got > 0, os.strerror(ctypes.get_errno())
            at = 0
            while at < got:
                ino, _, length, _ = struct.unpack_from("=QqHB", buffer.raw, at)
                found.append((buffer.raw[at + 19 : at + length].split(b"\0")[0].decode(), ino))
                at += length
    finally:
        os.close(fd)
    return found


@pytest.mark.parametrize("nbytes", [32, 64, 32768])
def test_every_directory_lists_itself_and_its_parent(corner: Corner, tmp_path: Path, nbytes: int) -> None:
    """As on a disk, with their inodes and once each, however little a reader takes at a time."""
    corner.log(make(tmp_path / "folder", {"a/b/c": "x", "a/empty": None, "link": Link("a"), **{f"f{n}": "" for n in range(30)}}))
    draft = corner.begin("c:latest")
    (draft / "own" / "deep").mkdir(parents=True)
    (draft / "own" / "moved").mkdir()
    (draft / "own" / "moved").rename(draft / "a" / "moved")
    roots = [corner.path, corner.path / "c", *(corner.path / "c").iterdir(), corner.drafts.parent, corner.drafts, draft]
    inner = [path / below for path in (*roots[2:4], draft) for below in ("a", "a/b", "a/empty")]
    for folder in [*roots, *inner, draft / "own", draft / "own" / "deep", draft / "a" / "moved"]:
        found = entries_of(folder, nbytes)
        assert found[:2] == [(".", folder.stat().st_ino), ("..", folder.parent.stat().st_ino)], folder
        assert sorted(name for name, _ in found[2:]) == sorted(os.listdir(folder))
        assert dict(found[2:]) == {path.name: path.lstat().st_ino for path in folder.iterdir()}
