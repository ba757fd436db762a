"""What a version looks like (docs/semantics.md, "Versions")."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from artfs.model.digests import digest_bytes
from artfs.testing.corner import Corner
from artfs.testing.trees import Link, make, picture, random_tree

SOURCE = {
    "readme.md": "words\n",
    "empty": "",
    "run.sh*": "#!/bin/sh\necho ran\n",
    "data/one.csv": "a,b\n1,2\n",
    "data/two.csv": "a,b\n3,4\n" * 1000,
    "data/deep/er/file": b"\0\1\2",
    "data/first": Link("one.csv"),
    "data/deep/up": Link("../one.csv"),
    "also": Link("data/one.csv"),
    "nothing here": None,
    "na\u00efve \u4e2d.txt": "unicode",
    "big.bin": bytes(range(256)) * 6000,  # over a megabyte: it has a block list
}


def test_versions_and_aliases_are_listed(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "one", {"a": "1"}), aliases=("best",))
    corner.log(make(tmp_path / "two", {"a": "2"}))
    assert sorted(os.listdir(corner.path / "c")) == ["best", "latest", "v0", "v1"]
    assert {
        name: (corner.path / "c" / name / "a").read_text() for name in ("v0", "v1", "best", "latest")
    } == {
        "v0": "1",
        "v1": "2",
        "best": "1",
        "latest": "2",
    }
    assert os.listdir(corner.path) == ["c"]
    assert corner.name in os.listdir(corner.mount)


def test_the_root_lists_projects_and_drafts_only(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "one", {"a": "1"}))
    names = os.listdir(corner.mount)
    assert {corner.name, "drafts"} <= set(names)
    assert not [name for name in names if name.startswith((".", "@"))]
    assert sorted(os.listdir(corner.mount / ".artfs")) == ["accesslog", "status"]


def test_a_version_is_the_folder_that_was_logged(corner: Corner, tmp_path: Path) -> None:
    source = make(tmp_path / "source", SOURCE)
    corner.log(source)
    for name in ("latest", "v0"):
        assert picture(corner.path / "c" / name) == picture(source)


def test_diff_of_thousands_of_files_is_clean(corner: Corner, tmp_path: Path) -> None:
    source = random_tree(tmp_path / "source", files=1000, folders=30)
    wide = source / "wide"
    wide.mkdir()
    for number in range(1100):  # more than a tree page, and several readdir replies
        (wide / f"{number}.txt").write_text(str(number))
    corner.log(source)
    for name in ("latest", "v0"):
        done = subprocess.run(
            ["diff", "-r", source, corner.path / "c" / name], capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(os.listdir(corner.path / "c" / "v0" / "wide")) == 1100


def test_attributes_of_a_version(corner: Corner, tmp_path: Path) -> None:
    member = corner.log(make(tmp_path / "source", SOURCE))
    root = corner.path / "c" / "v0"
    committed = member.version.created_at.timestamp()
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
        assert status.st_mtime == status.st_ctime == status.st_atime == pytest.approx(committed, abs=1e-5)
        assert status.st_nlink == 1
        if stat.S_ISREG(status.st_mode):
            assert status.st_blocks == -(-status.st_size // 512)
    shown = {path.name: stat.filemode(path.lstat().st_mode) for path in root.rglob("*")}
    assert shown["readme.md"] == "-rw-r--r--"
    assert shown["run.sh"] == "-rwxr-xr-x"
    assert shown["data"] == "drwxr-xr-x"
    assert shown["first"] == "lrwxrwxrwx"
    assert (root / "big.bin").stat().st_size == 256 * 6000


def test_readdir_tells_the_kinds_of_names(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "source", SOURCE))
    kinds = {
        entry.name: (
            entry.is_dir(follow_symlinks=False),
            entry.is_file(follow_symlinks=False),
            entry.is_symlink(),
        )
        for entry in os.scandir(corner.path / "c" / "v0")
    }
    assert kinds["data"] == (True, False, False)
    assert kinds["readme.md"] == (False, True, False)
    assert kinds["also"] == (False, False, True)


def test_inode_numbers_of_a_listing_are_those_of_stat(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "source", SOURCE))
    root = corner.path / "c" / "v0"
    listed = {entry.name: entry.inode() for entry in os.scandir(root)}
    assert listed == {name: (root / name).lstat().st_ino for name in os.listdir(root)}


def test_programs_in_a_version_run(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "source", SOURCE))
    done = subprocess.run([corner.path / "c" / "v0" / "run.sh"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ran\n")


def test_links_of_a_version_lead_inside_it(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "source", SOURCE))
    root = corner.path / "c" / "latest"
    assert os.readlink(root / "data" / "first") == "one.csv"
    assert (root / "data" / "first").read_text() == "a,b\n1,2\n"
    assert os.readlink(root / "data" / "deep" / "up") == "../one.csv"
    assert (root / "data" / "deep" / "up").read_text() == "a,b\n1,2\n"
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        os.readlink(root / "readme.md")


def test_a_version_can_be_read_in_any_order(corner: Corner, tmp_path: Path) -> None:
    data = os.urandom(5_000_001)
    corner.log(make(tmp_path / "source", {"big": data}))
    path = corner.path / "c" / "v0" / "big"
    with path.open("rb", buffering=0) as stream:
        fd = stream.fileno()
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for start, size in (
            (4_999_990, 100),
            (0, 10),
            (262_140, 8),
            (3_000_000, 700_000),
            (5_000_001, 1),
            (9_999_999, 1),
        ):
            assert os.pread(fd, size, start) == data[start : start + size]
    assert path.read_bytes() == data


def test_extended_attributes_of_a_version(corner: Corner, tmp_path: Path) -> None:
    member = corner.log(
        make(tmp_path / "source", SOURCE),
        aliases=("best",),
        description="what it is",
        metadata={"rows": 2},
        tags=("gold",),
    )
    root = corner.path / "c" / "best"
    found = {name: os.getxattr(root, name).decode() for name in os.listxattr(root)}
    assert json.loads(found.pop("user.artfs.metadata")) == {"rows": 2}
    assert {key.removeprefix("user.artfs."): value for key, value in found.items()} == {
        "entity": "local",
        "project": corner.name,
        "collection": "c",
        "name": "c:v0",
        "qualified_name": f"local/{corner.name}/c:v0",
        "version": "v0",
        "type": "dataset",
        "aliases": ",".join(member.aliases),
        "tags": "gold",
        "state": "COMMITTED",
        "digest": member.version.digest,
        "commit_hash": member.version.digest,
        "size": str(member.version.size),
        "file_count": str(member.version.file_count),
        "description": "what it is",
        "created_at": member.version.created_at.isoformat(),
        "updated_at": member.version.updated_at.isoformat(),
        "is_link": "false",
    }


def test_extended_attributes_of_files_and_folders(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "source", SOURCE))
    root = corner.path / "c" / "v0"
    assert os.getxattr(root / "readme.md", "user.artfs.digest").decode() == digest_bytes(b"words\n")
    assert os.getxattr(root / "readme.md", "user.artfs.size") == b"6"
    assert sorted(os.listxattr(root / "big.bin")) == [
        "user.artfs.blocks",
        "user.artfs.digest",
        "user.artfs.size",
    ]
    assert os.getxattr(root / "data", "user.artfs.file_count") == b"3"
    assert os.getxattr(corner.path / "c", "user.artfs.latest") == b"v0"
    for name in ("user.artfs.nothing", "user.other", "security.capability"):
        with pytest.raises(OSError) as raised:
            os.getxattr(root / "readme.md", name)
        assert raised.value.errno == errno.ENODATA
    for name in ("system.posix_acl_access", "security.selinux"):
        with pytest.raises(OSError) as raised:
            os.getxattr(root / "readme.md", name)
        assert raised.value.errno == errno.EOPNOTSUPP


def test_getfattr_shows_them_to_a_person(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "source", SOURCE))
    done = subprocess.run(["getfattr", "-d", "c/latest"], cwd=corner.path, capture_output=True, text=True)
    assert 'user.artfs.version="v0"\n' in done.stdout


def test_statfs_shows_the_state_folders_disk(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "source", SOURCE))
    disk = os.statvfs(corner.daemon.workspace.home)
    for path in (corner.mount, corner.path / "c" / "latest", corner.drafts):
        shown = os.statvfs(path)
        assert (shown.f_blocks, shown.f_bsize, shown.f_frsize) == (disk.f_blocks, disk.f_bsize, disk.f_frsize)
        assert shown.f_namemax == 255


def test_an_empty_version_is_an_empty_folder(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "source", {}))
    assert os.listdir(corner.path / "c" / "latest") == []
    assert os.listdir(corner.path / "c" / "v0") == []


def test_files_of_an_alias_are_those_of_its_version(corner: Corner, tmp_path: Path) -> None:
    """The same inodes (and so the same pages); its directories are inodes of their own."""
    corner.log(make(tmp_path / "source", SOURCE), aliases=("best",))
    shown = corner.path / "c"
    for name in ("readme.md", "data/one.csv", "data/deep/er/file"):
        assert len({(shown / top / name).stat().st_ino for top in ("v0", "best", "latest")}) == 1
    for name in ("", "data"):
        assert len({(shown / top / name).stat().st_ino for top in ("v0", "best", "latest")}) == 3
