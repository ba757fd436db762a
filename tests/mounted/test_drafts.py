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
from artfs.testing.trees import alike, make, picture


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
