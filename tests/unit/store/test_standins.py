"""Names that are swapped, where the file system can do that in one step and where it cannot."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from artfs.store import standins


def refuse(*_arguments: object) -> int:
    ctypes.set_errno(errno.EINVAL)
    return -1


@pytest.mark.parametrize("can", [True, False], ids=["in one step", "in three"])
def test_two_names_are_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: bool) -> None:
    if not can:
        monkeypatch.setattr(standins, "_libc", SimpleNamespace(renameat2=refuse))
    place = tmp_path / "place"
    (place / "folder" / "below").mkdir(parents=True)
    (place / "link").symlink_to("nowhere")
    standins.exchange(os.fsencode(place / "folder"), os.fsencode(place / "link"))
    assert (place / "link" / "below").is_dir()
    assert os.readlink(place / "folder") == "nowhere"
    assert sorted(os.listdir(place)) == ["folder", "link"]


@pytest.mark.parametrize("can", [True, False], ids=["in one step", "in three"])
def test_what_cannot_be_swapped_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: bool) -> None:
    if not can:
        monkeypatch.setattr(standins, "_libc", SimpleNamespace(renameat2=refuse))
    place = tmp_path / "place"
    place.mkdir()
    (place / "one").write_text("1")
    with pytest.raises(FileNotFoundError):
        standins.exchange(os.fsencode(place / "one"), os.fsencode(place / "two"))
    assert os.listdir(place) == ["one"]
