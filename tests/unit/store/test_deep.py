"""Trees that are deeper than a path can say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artfs.store.linux import PATH_MAX, within_reach
from artfs.store.standins import remove_tree
from artfs.testing.trees import nest


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """An empty folder."""
    path = tmp_path / "top"
    path.mkdir()
    return path


def nested(top: Path, name: str, times: int) -> bytes:
    """Makes folders in each other, with a file in the last one; returns its path, which may be of use to nobody."""
    at = nest(top, name, times)
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)
    return os.fsencode(top) + b"/" + b"/".join([os.fsencode(name)] * times)


@pytest.mark.parametrize(("name", "times"), [("a" * 250, 3), ("a" * 255, 60), ("a", 3000)])
def test_a_folder_is_reached_however_deep_it_is(top: Path, name: str, times: int) -> None:
    folder = nested(top, name, times)
    open_before = len(os.listdir("/proc/self/fd"))
    with within_reach(folder) as near:
        assert len(near) < PATH_MAX
        assert os.listdir(near) == [b"file"]
    with pytest.raises(FileNotFoundError), within_reach(folder + b"/" + b"b" * 255) as near:
        os.listdir(near)
    assert len(os.listdir("/proc/self/fd")) == open_before
    (top / "beside").write_text("stays")
    remove_tree(os.fsencode(top / name))
    assert os.listdir(top) == ["beside"]


def test_links_are_removed_and_not_followed(top: Path) -> None:
    (top / "kept").mkdir()
    (top / "kept" / "file").write_text("stays")
    (top / "gone").mkdir()
    (top / "gone" / "link").symlink_to("../kept")
    remove_tree(os.fsencode(top / "gone"))
    remove_tree(os.fsencode(top / "gone"))
    assert (top / "kept" / "file").read_text() == "stays"
    assert os.listdir(top) == ["kept"]
