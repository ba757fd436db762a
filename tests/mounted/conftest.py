"""One daemon for the tests of a module, and a project of its own in it for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from artfs.testing.account import open_fuse_device
from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace

_serial = itertools.count()


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    """A running daemon that the module's tests share; for tests that leave nothing behind that disturbs others."""
    open_fuse_device()
    workspace = Workspace()
    daemon = Daemon(workspace)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()
    daemon.check_log()
    workspace.remove()


@pytest.fixture
def corner(served: Daemon) -> Corner:
    """A project of this test's own in the shared mount."""
    return Corner(served, f"p{next(_serial)}")
