"""Drafts are writable folders (docs/semantics.md, "Drafts"): each list of steps is done to a draft and to an ordinary
folder, which must answer and end up the same; then the draft is committed, and the version must be the same, too.

The random counterpart is tests/peer/test_draft_against_ext4.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.steps import PLAN, STEPS, append, unlink_and_make_again
from artfs.testing.trees import Link, alike, make, picture


def committed_alike(corner: Corner, draft: Path, folder: Path) -> None:
    """After the commit the version is what the folder is (but for links that no version may hold)."""
    for link in [path for path in folder.rglob("*") if path.is_symlink()]:
        assert not os.readlink(link).startswith("/")
    corner.commit(draft.name)
    assert picture(corner.path / "c" / "latest") == picture(folder)


@pytest.mark.parametrize("kind", STEPS)
def test_a_draft_is_an_ordinary_folder(corner: Corner, tmp_path: Path, kind: str) -> None:
    """A draft that began empty."""
    draft = make(corner.begin(), PLAN)
    folder = make(tmp_path / "folder", PLAN)
    alike(STEPS[kind], draft, folder)
    committed_alike(corner, draft, folder)


@pytest.mark.parametrize("kind", STEPS)
def test_a_draft_from_a_version_is_an_ordinary_folder(corner: Corner, tmp_path: Path, kind: str) -> None:
    """Copied on write; the version that it began as stays what it was."""
    folder = make(tmp_path / "folder", PLAN)
    before = picture(folder)
    corner.log(folder)
    draft = corner.begin("c:latest")
    alike(STEPS[kind], draft, folder)
    committed_alike(corner, draft, folder)
    assert picture(corner.path / "c" / "v0") == before


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_draft_after_a_restart_is_an_ordinary_folder(
    workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path, end: str
) -> None:
    """Also after kill -9: the daemon then knows of what was copied or hidden only what lies in the state folder."""
    corner = Corner(make_daemon(workspace).start(), "p")
    folder = tmp_path / "folder"
    for kind in STEPS:
        make(folder / kind, PLAN)
    corner.log(folder)
    draft = corner.begin("c:latest")
    for kind in STEPS:
        alike([unlink_and_make_again, append], draft / kind, folder / kind)
    getattr(corner.daemon, end)()
    corner.daemon.start()
    assert picture(draft) == picture(folder)
    for kind, steps in STEPS.items():
        alike([step for step in steps if step is not unlink_and_make_again], draft / kind, folder / kind)
    committed_alike(corner, draft, folder)


def test_links_are_what_they_were_after_a_restart(
    workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """Their owners, times and other names: of those that the draft made, and of those that it inherited, of which nothing is on
    disk before."""
    corner = Corner(make_daemon(workspace).start(), "p")
    corner.log(make(tmp_path / "folder", {"kept/link": Link("inner"), "kept/other": Link("x"), "moved/link": Link("y")}))
    draft = corner.begin("c:latest")
    (draft / "own").symlink_to("kept")
    untouched = (draft / "kept" / "other").lstat()
    links = [draft / "kept" / "link", draft / "own", draft / "moved" / "link"]
    owner = (7, 8) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    for number, link in enumerate(links):
        os.chown(link, *owner, follow_symlinks=False)
        os.utime(link, ns=(10**18 + 1, 10**18 + 2), follow_symlinks=False)
        os.link(link, draft / f"other {number}", follow_symlinks=False)
    links[2] = links[2].rename(draft / "kept" / "here")
    corner.daemon.terminate()
    corner.daemon.start()
    for number, link in enumerate(links):
        status = link.lstat()
        assert (status.st_uid, status.st_gid, status.st_mtime_ns, status.st_nlink) == (*owner, 10**18 + 2, 2), link
        assert (draft / f"other {number}").lstat().st_ino == status.st_ino
    assert [os.readlink(link) for link in links] == ["inner", "kept", "y"]
    status = (draft / "kept" / "other").lstat()
    assert (status.st_uid, status.st_mtime_ns) == (untouched.st_uid, untouched.st_mtime_ns)
