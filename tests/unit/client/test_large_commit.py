"""A version that is so large that looking through it takes the server longer than anybody waits for an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artfs.api.ambient import session_for
from artfs.api.artifact import Artifact
from artfs.catalog import open_catalog
from artfs.client import catalog as client
from artfs.errors import UnavailableError
from artfs.server import longcall
from artfs.server.closure import Closure
from artfs.testing.inprocess import serving

TIMEOUT_S = 4.0
LOOKING_S = 9.0


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that takes LOOKING_S for the first look at a tree; which trees it looked at."""
    home = tmp_path / "server"
    home.mkdir()
    open_catalog(home / "catalog.db").close()
    seen: list[str] = []
    check = Closure.check

    def slow(self: Closure, project_id: int, root: str, **more: Any) -> Any:
        if root not in seen:
            time.sleep(LOOKING_S)
        found = check(self, project_id, root, **more)
        seen.append(root)
        return found

    monkeypatch.setattr(Closure, "check", slow)
    monkeypatch.setattr(longcall, "LINE_S", TIMEOUT_S / 10)
    monkeypatch.setenv("ARTFS_NETWORK_TIMEOUT_S", str(TIMEOUT_S))
    with serving(home) as url:
        monkeypatch.setenv("ARTFS_SERVER", url)
        yield seen
        session_for().close()


def five_files() -> Artifact:
    artifact = Artifact("c", "dataset")
    for number in range(5):
        with artifact.new_file(f"f{number}") as stream:
            stream.write(str(number))
    return artifact


def test_a_large_one_is_looked_through_first(looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CHECKED_FIRST", 4)
    artifact = five_files()
    artifact.save("p")
    assert artifact.version == "v0"
    assert len(looks) == 2  # then, and in the commit, which found it looked through
    assert len(set(looks)) == 1


def test_without_that_nobody_would_wait(looks: list[str], expect_log: Callable[..., None]) -> None:
    expect_log("the run .* cannot be marked as failed: .* cannot be reached")
    with pytest.raises(UnavailableError):
        five_files().save("p")
