"""Whose folders are used: of no newer artfs, and on no file system of a network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artfs.errors import CorruptError, StateVersionError, UsageError
from artfs.folders import FORMATS, NAME, NETWORK_KINDS, check_disk, check_format, kind_of_disk
from artfs.testing.disks import SmallDisk


def test_a_folder_gets_its_number_once(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    check_format(folder, "store")
    assert (folder / NAME).read_text() == '{"format": 1}\n'
    inode = (folder / NAME).stat().st_ino
    check_format(folder, "store")
    assert (folder / NAME).stat().st_ino == inode
    assert os.listdir(folder) == [NAME]


def test_what_a_power_cut_left_empty_is_written_again(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    check_format(tmp_path, "cache")
    assert (tmp_path / NAME).read_text() == '{"format": 1}\n'


@pytest.mark.parametrize("part", FORMATS)
def test_a_newer_one_is_refused_and_not_touched(tmp_path: Path, part: str) -> None:
    newer = f'{{"format": {FORMATS[part] + 1}, "and": "more"}}'  # type: ignore[index]
    (tmp_path / NAME).write_text(newer)
    with pytest.raises(StateVersionError, match=rf"{tmp_path} was made by a newer artfs .*: update artfs$"):
        check_format(tmp_path, part)  # type: ignore[arg-type]
    assert (tmp_path / NAME).read_text() == newer


@pytest.mark.parametrize("text", ["{", "{}", '{"format": "1"}', '{"format": 0}', "[]", "\x80"])
def test_one_that_says_nothing_is_an_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(CorruptError, match="remove that file; otherwise update artfs"):
        check_format(tmp_path, "store")


def test_one_that_cannot_be_written_to_is_used_without(tmp_path: Path) -> None:
    with SmallDisk(tmp_path, 4 * 1024 * 1024) as disk:
        disk.remount_read_only()
        check_format(tmp_path, "store")
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", sorted(NETWORK_KINDS))
def test_file_systems_of_a_network_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match=rf"{tmp_path} is on a file system \({kind}\) .*: set ARTFS_HOME to"):
        check_disk(tmp_path, "ARTFS_HOME", lambda path: kind)


@pytest.mark.parametrize("kind", ["", "fuse", "fuseblk", "fuse.ntfs-3g", "fuse.fuse-overlayfs", "fuse.gocryptfs"])
def test_others_are_not(tmp_path: Path, kind: str) -> None:
    check_disk(tmp_path, "ARTFS_HOME", lambda path: kind)


def test_local_disks_are_told_apart_by_the_kernel(tmp_path: Path) -> None:
    """Also where the folder is not there yet."""
    assert kind_of_disk(tmp_path) == ""
    assert kind_of_disk(tmp_path / "not" / "yet") == ""
    assert kind_of_disk("/proc") == ""
    assert kind_of_disk("/dev/shm") == ""


def test_the_number_of_nfs_is_its_number() -> None:
    """linux/magic.h; this machine can mount none."""
    header = Path("/usr/include/linux/magic.h").read_text()
    from artfs.folders import _FUSE, _MAGIC

    named = {fields[1]: int(fields[2].rstrip("L"), 0) for fields in map(str.split, header.splitlines())
             if len(fields) >= 3 and fields[0] == "#define" and fields[2].startswith("0x")}  # fmt: skip
    assert _MAGIC[named["NFS_SUPER_MAGIC"]] == "nfs"
    assert _MAGIC[named["CIFS_SUPER_MAGIC"]] == "cifs"
    assert _MAGIC[named["SMB2_SUPER_MAGIC"]] == "smb3"
    assert _MAGIC[named["V9FS_MAGIC"]] == "9p"
    assert _MAGIC[named["CEPH_SUPER_MAGIC"]] == "ceph"
    assert _MAGIC[named["AFS_SUPER_MAGIC"]] == "afs"
    assert named["FUSE_SUPER_MAGIC"] == _FUSE
