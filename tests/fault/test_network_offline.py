"""Without a network: what was seen goes on, what is made waits, and all of it goes on by itself when the network is back."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artfs.errors import UnavailableError
from artfs.testing.corner import Corner
from artfs.testing.farside import LIMIT_S, FarWorkspace, at_most, check_sound
from artfs.testing.mount import Daemon
from artfs.testing.store_contract import some_bytes
from artfs.testing.trees import make, picture
from artfs.testing.waiting import until

PLAN = {"a/b/small": "small", "a/run*": "#!/bin/sh\n", "big": some_bytes(3_000_000), "c": "c"}
AWAY = "cannot be reached|can be reached again|does not answer|this process ends"


@pytest.fixture
def corner(far_daemon: Daemon, project: str) -> Corner:
    far_daemon.expect_log(AWAY)
    return Corner(far_daemon, project)


def seen(path: Path) -> Any:
    """All names and bytes below it."""
    return picture(path)


def test_what_was_seen_goes_on_without_a_network(
    corner: Corner, far: FarWorkspace, project: str, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    """Names, trees and bytes; for the daemon that saw them, for the next one, and for the command line. What was not seen is an
    errno, soon at once."""
    corner.log(make(tmp_path / "v0", PLAN), aliases=("best",))
    corner.log(make(tmp_path / "v1", {"a": "unseen", "large": some_bytes(3_000_000, seed=2)}), "unseen")
    latest, best = corner.path / "c" / "latest", corner.path / "c" / "best"
    expected = picture(tmp_path / "v0")
    assert picture(latest) == picture(best) == expected
    assert os.listdir(corner.path / "unseen" / "latest") == ["a", "large"]
    far.far.go_away()
    until(lambda: not corner.daemon.status()["server"]["online"], "it is noticed")
    with at_most(-2):
        assert picture(latest) == expected
        assert sorted(os.listdir(corner.path)) == ["c", "unseen"]
        assert sorted(os.listdir(corner.path / "c")) == ["best", "latest", "v0"]
    with at_most(LIMIT_S), pytest.raises(OSError) as caught:
        (corner.path / "unseen" / "latest" / "large").read_bytes()
    assert caught.value.errno == errno.EHOSTUNREACH
    until(lambda: corner.daemon.status()["server"]["away_for_s"] > LIMIT_S, "it is away")
    with at_most(-2), pytest.raises(OSError) as caught:
        (corner.path / "unseen" / "latest" / "a").read_bytes()
    assert caught.value.errno == errno.EHOSTUNREACH
    with at_most(0):
        assert corner.daemon.terminate() == 0
    daemon = make_daemon(far)
    daemon.expect_log(AWAY)
    with at_most(1):
        daemon.start()
    with at_most(LIMIT_S):
        assert picture(daemon.mountpoint / project / "c" / "latest") == expected
    listed = corner.artfs("ls", f"{project}/c", "--json")
    assert [member["name"] for member in json.loads(listed.stdout)] == [f"local/{project}/c:v0"]
    assert "names are as they were last seen" in listed.stderr
    corner.artfs("get", f"{project}/c:best", str(tmp_path / "got"))
    assert picture(tmp_path / "got") == expected
    done = corner.artfs("get", f"{project}/unseen", str(tmp_path / "not"), check=False)
    assert done.returncode == 11, done
    assert list((tmp_path / "not").rglob("*")) == []
    far.far.heal()
    until(lambda: daemon.status()["server"]["online"], "it is back")
    check_sound(far, project, daemon)


def test_drafts_go_on_and_commits_wait(corner: Corner, far: FarWorkspace, project: str, tmp_path: Path) -> None:
    """`artfs commit` says that it waits; the daemon commits when the server is back, and the version is what the draft was."""
    corner.log(make(tmp_path / "v0", PLAN))
    seen_before = picture(corner.path / "c" / "latest")
    draft = corner.begin("c:latest")
    (draft / "before").write_text("sent at once")
    far.far.go_away()
    begun = time.monotonic()
    (draft / "after").write_bytes(some_bytes(2_500_000, seed=9))
    (draft / "c").write_text("changed")
    os.unlink(draft / "a" / "b" / "small")
    other = corner.begin("other")
    (other / "file").write_text("x")
    assert time.monotonic() - begun < LIMIT_S
    expected = picture(draft)
    done = corner.artfs("commit", f"{project}/c:latest", check=False)
    assert done.returncode == 11
    assert "The draft is as it was: commit it again later, or with --when-online" in done.stderr
    assert picture(draft) == expected
    done = corner.artfs("commit", "--when-online", f"{project}/c:latest", "--alias", "best")
    assert done.stdout.startswith(f"{project}/c:latest waits for the server, and is committed when it is back")
    shown = corner.artfs("status").stdout
    assert f"local/{project}/c:latest" in shown and "waits for the server" in shown
    assert json.loads((corner.mount / ".artfs" / "status").read_bytes())["server"]["online"] is False
    far.far.heal()
    until((corner.path / "c" / "v1" / "before").exists, "it is committed")
    assert picture(corner.path / "c" / "best") == expected != seen_before
    assert not draft.exists()
    assert (other / "file").read_text() == "x"
    assert corner.commit("other").version == "v0"
    check_sound(far, project, corner.daemon)


def test_a_commit_that_waits_outlives_the_daemon(
    corner: Corner, far: FarWorkspace, project: str, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    corner.log(make(tmp_path / "v0", PLAN))
    draft = corner.begin()
    (draft / "file").write_bytes(some_bytes(2_000_000, seed=3))
    far.far.go_away()
    corner.artfs("commit", "--when-online", f"{project}/c", "--force")
    corner.daemon.kill()
    daemon = make_daemon(far)
    daemon.expect_log(AWAY)
    daemon.start()
    assert "waits for the server" in corner.artfs("status").stdout
    far.far.heal()
    until(lambda: (daemon.mountpoint / project / "c" / "v1" / "file").exists(), "it is committed", 60)
    assert (daemon.mountpoint / project / "c" / "latest" / "file").read_bytes() == some_bytes(2_000_000, seed=3)
    check_sound(far, project, daemon)


def test_a_commit_that_waited_and_cannot_be_made_is_told(
    corner: Corner, far: FarWorkspace, project: str, tmp_path: Path
) -> None:
    """Somebody else moved latest meanwhile: the draft stays, and says so."""
    corner.log(make(tmp_path / "v0", PLAN))
    draft = corner.begin("c:latest")
    (draft / "mine").write_text("mine")
    far.far.go_away()
    corner.artfs("commit", "--when-online", f"{project}/c:latest")
    corner.daemon.expect_log("the commit of the draft .* which waited for the server, was given up: .*moved")
    assert far.far.process is not None
    elsewhere = FarWorkspace(far=far.far, extra={"ARTFS_SERVER": far.far.process.url})
    Corner(Daemon(elsewhere), project).log(make(tmp_path / "v1", {"theirs": "theirs"}), refresh=False)
    elsewhere.remove()
    far.far.heal()
    until(lambda: "was not committed" in corner.artfs("status").stdout, "it is told")
    assert (draft / "mine").read_text() == "mine"
    corner.artfs("commit", "--force", f"{project}/c:latest")
    assert (corner.path / "c" / "v2" / "mine").read_text() == "mine"
    check_sound(far, project, corner.daemon)


def test_a_session_without_a_network(far: FarWorkspace, project: str) -> None:
    """The API: an error in time, and at once after that."""
    far.far.go_away()
    with far.session() as session:
        with at_most(LIMIT_S), pytest.raises(UnavailableError):
            session.catalog.collections("local", project)
        with at_most(LIMIT_S), pytest.raises(UnavailableError):
            session.catalog.resolve("local", project, "c", "latest")
        until(lambda: session.remote is not None and session.remote.reach.is_away, "it is away")
        with at_most(-3), pytest.raises(UnavailableError):
            session.catalog.resolve("local", project, "c", "latest")
    check_sound(far, project)
