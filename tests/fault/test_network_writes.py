"""Sending to a server through a network that goes wrong: what can be mended is, what was sent is not sent again, and Ctrl-C waits
for nobody."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from artfs.errors import LatestMovedError, UnavailableError
from artfs.testing.corner import Corner
from artfs.testing.farside import LIMIT_S, PART, FarServer, FarWorkspace, at_most, check_sound
from artfs.testing.faultproxy import Fault, FaultProxy, answer, garbage, html_page
from artfs.testing.mount import Daemon
from artfs.testing.store_contract import some_bytes
from artfs.testing.trees import make, picture
from artfs.testing.waiting import until

PATIENT = {"ARTFS_DEADLINE_S": "60", "ARTFS_NETWORK_TIMEOUT_S": "60"}
SMALL = {f"d{number % 4}/f{number:03}": some_bytes(3000 + number, seed=number) for number in range(60)}
PLAN = {**SMALL, "big": some_bytes(5_000_000)}
MISSING, STORE, COMMIT = "/missing", "/blobs", "POST /v1/commit"
BEGIN, PUT, FINISH = "/uploads", "PUT /v1/uploads", "/finish"
SIGNED = "X-Amz-Signature"
"""In what a workstation sends to a bucket, and not in what the server does."""


@pytest.fixture
def patient(far: FarWorkspace) -> FarWorkspace:
    far.extra = PATIENT
    return far


ONCE: dict[str, Callable[[str], list[Fault]]] = {
    "cut before the answer": lambda match: [Fault("cut", match=match)],
    "cut in the question": lambda match: [Fault("cut", side="up", after=50, match=match)],
    "reset in the question": lambda match: [Fault("reset", side="up", after=50, match=match)],
    "an answer that is lost": lambda match: [Fault("reset", after=0, match=match)],
    "500": lambda match: [answer(500, "<html>oops", match=match)],
    "502, 503 and 429": lambda match: [answer(502, "<html>", match=match), answer(429, match=match, Retry_After="1")],
    "garbage": lambda match: [garbage(match=match)],
    "a hotel's page": lambda match: [html_page(502, match=match)],
}


@pytest.mark.parametrize("what", ONCE)
def test_what_goes_wrong_once_is_not_noticed(patient: FarWorkspace, project: str, tmp_path: Path, what: str) -> None:
    """In each call that sends something, and the commit: there is one version, and it is right."""
    far = patient.far
    far.proxy.reset_counts()
    for match in (MISSING, STORE, BEGIN, PUT, FINISH, COMMIT):
        far.proxy.add(*ONCE[what](match))
    Corner(Daemon(patient), project).log(make(tmp_path / "v0", PLAN), refresh=False)
    assert far.proxy.counts().faults >= 5, far.proxy.counts()
    check_logged(patient, project, tmp_path)


def check_logged(workspace: FarWorkspace, project: str, folder: Path) -> None:
    """There is one version, of `folder`/v0, and it is right."""
    workspace.far.heal()
    with workspace.session() as session:
        (collection,) = session.catalog.collections("local", project)
        (member,) = session.catalog.members(collection.id)
        assert member.aliases == ("latest",)
    workspace.artfs("get", f"{project}/c", str(folder / "got"))
    assert picture(folder / "got") == picture(folder / "v0")
    check_sound(workspace, project)


def check_nothing_logged(workspace: FarWorkspace, project: str) -> None:
    with workspace.session() as session:
        assert [member for member in session.catalog.versions() if member.project == project] == []


@pytest.mark.parametrize("match", [STORE, PUT])
def test_wrong_bytes_on_the_way_are_sent_again(
    patient: FarWorkspace, project: str, tmp_path: Path, match: str
) -> None:
    far = patient.far
    far.proxy.reset_counts()
    far.proxy.add(Fault("corrupt", side="up", after=5_000, match=match))
    Corner(Daemon(patient), project).log(make(tmp_path / "v0", PLAN), refresh=False)
    assert far.proxy.counts().faults == 1
    check_logged(patient, project, tmp_path)


@pytest.mark.parametrize("match", [STORE, PUT])
def test_bytes_that_always_arrive_wrong_never_count(far: FarWorkspace, project: str, tmp_path: Path, match: str) -> None:
    folder = make(tmp_path / "v0", PLAN)
    far.far.proxy.add(Fault("corrupt", side="up", after=5_000, match=match, times=None))
    with at_most(LIMIT_S):
        done = far.artfs("log", folder, f"{project}/c", check=False)
    assert done.returncode not in (0, 1, 70), done
    assert re.search("do(es)? not arrive as (it was|they were) read", done.stderr), done.stderr
    far.far.heal()
    check_nothing_logged(far, project)
    far.artfs("log", folder, f"{project}/c")
    check_logged(far, project, tmp_path)


def test_a_large_file_that_cannot_be_sent_leaves_no_thread(far: FarWorkspace, project: str, tmp_path: Path) -> None:
    """Neither one that sends nor the one that listens to what the server finds."""
    path = make(tmp_path, {"file": PLAN["big"]}) / "file"
    before = threading.active_count()
    with far.session() as session:
        far.far.proxy.add(answer(500, "<html>oops", match=PUT, times=None))
        with at_most(LIMIT_S), pytest.raises(UnavailableError), session.store.begin(("local", project)) as batch:
            batch.put_file(path)
            batch.sync()
        until(lambda: not [each for each in threading.enumerate() if "artfs-finish" in each.name], "nobody listens any more")
    until(lambda: threading.active_count() <= before, "all threads have ended")
    check_sound(far, project)


def test_a_server_that_is_down_is_an_error_in_time(far: FarWorkspace, project: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "v0", PLAN)
    far.far.go_away()
    with at_most(LIMIT_S + 1):
        done = far.artfs("log", folder, f"{project}/c", check=False)
    assert done.returncode == 11, done
    far.far.heal()
    far.artfs("log", folder, f"{project}/c")
    check_logged(far, project, tmp_path)


def test_a_slow_link_is_slow_and_no_more(far: FarWorkspace, project: str, tmp_path: Path) -> None:
    """All together takes several times the limit of a call, a request of many small files, too."""
    folder = make(tmp_path / "v0", {**PLAN, **{f"more/{n}": some_bytes(200_000, seed=n) for n in range(20)}})
    far.far.proxy.set_direction("up", rate=700_000)
    begun = time.monotonic()
    far.artfs("log", folder, f"{project}/c")
    assert time.monotonic() - begun > 2 * LIMIT_S
    check_logged(far, project, tmp_path)


@contextlib.contextmanager
def running(far: FarWorkspace, *arguments: str | os.PathLike[str]) -> Iterator[subprocess.Popen[str]]:
    """`artfs ARGUMENTS` as a process; killed at the end of the block if it is still there."""
    command = [far.account.python, "-m", "artfs.cli", *arguments]
    process = subprocess.Popen(command, env=far.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    return out, err


def test_an_upload_goes_on_at_the_part_where_it_stopped(patient: FarWorkspace, project: str, tmp_path: Path) -> None:
    """When connections are cut, when the server dies and comes back, and when the sender dies and is called again: parts that the
    server had whole are not sent again."""
    size, far = 24 * PART + 5, patient.far
    folder = make(tmp_path / "v0", {"file": some_bytes(size)})
    under_way = 4 * PART + 1_000_000  # what may have to be sent twice: as many parts are sent at once
    far.proxy.set_direction("up", rate=8_000_000)
    far.proxy.reset_counts()
    with running(patient, "log", folder, f"{project}/c") as sender:
        until(lambda: far.proxy.counts().up > 0.2 * size, "it is on its way")
        far.proxy.reset_now()
        until(lambda: far.proxy.counts().up > 0.4 * size, "it goes on")
        far.kill()
        far.start()
        until(lambda: far.proxy.counts().up > 0.7 * size, "it goes on")
        sender.kill()
        sender.wait()
    far.proxy.set_direction("up")
    patient.artfs("log", folder, f"{project}/c")
    assert far.proxy.counts().up < size + 3 * under_way
    check_sound(patient, project)


# a bucket ----------------------------------------------------------------------------------------------------------------
@pytest.fixture
def by_bucket(bucket_server: FarServer, workspaces: contextlib.ExitStack) -> FarWorkspace:
    """A workstation whose large files go to the bucket by themselves."""
    made = FarWorkspace(far=bucket_server, extra=PATIENT)
    workspaces.callback(made.remove)
    return made


@pytest.fixture
def bucket(bucket_server: FarServer) -> FaultProxy:
    assert bucket_server.bucket is not None
    return bucket_server.bucket


REFUSED = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
AT_BUCKET = {
    "cut before the answer": [Fault("cut", match=SIGNED)],
    "reset in the question": [Fault("reset", side="up", after=500_000, match=SIGNED, times=2)],
    "an answer that is lost": [Fault("reset", after=0, match=SIGNED)],
    "500 and 503": [answer(500, "<Error/>", match=SIGNED), answer(503, "<Error><Code>SlowDown</Code></Error>", match=SIGNED)],
    "garbage": [garbage(match=SIGNED)],
    "expired": [answer(403, REFUSED, match=SIGNED, times=3)],
    "wrong bytes": [Fault("corrupt", side="up", after=700_000, match=SIGNED)],
}


@pytest.mark.parametrize("what", AT_BUCKET)
def test_what_goes_wrong_once_at_the_bucket_is_not_noticed(
    by_bucket: FarWorkspace, bucket: FaultProxy, project: str, tmp_path: Path, what: str
) -> None:
    bucket.reset_counts()
    bucket.add(*AT_BUCKET[what])
    Corner(Daemon(by_bucket), project).log(make(tmp_path / "v0", PLAN), refresh=False)
    assert bucket.counts().faults == sum(fault.times or 0 for fault in AT_BUCKET[what])
    check_logged(by_bucket, project, tmp_path)


def test_a_bucket_that_takes_nothing_is_an_error_that_tells_no_secret(
    by_bucket: FarWorkspace, bucket: FaultProxy, project: str, tmp_path: Path
) -> None:
    by_bucket.extra = {}
    folder = make(tmp_path / "v0", PLAN)
    bucket.add(answer(403, REFUSED, match=SIGNED, times=None))
    with at_most(LIMIT_S + 1):
        done = by_bucket.artfs("log", folder, f"{project}/c", check=False)
    assert done.returncode == 11, done
    assert "Request has expired" in done.stderr and SIGNED not in done.stderr
    check_nothing_logged(by_bucket, project)
    by_bucket.far.heal()
    by_bucket.artfs("log", folder, f"{project}/c")
    check_logged(by_bucket, project, tmp_path)


# Ctrl-C ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("begun", ["nothing", "small files", "parts"])
def test_ctrl_c_does_not_wait_for_a_silent_server(patient: FarWorkspace, project: str, tmp_path: Path, begun: str) -> None:
    """Wherever it was: before the first answer, in the middle of small files, and of parts."""
    plan = {"nothing": PLAN, "small files": {f"f{n}": some_bytes(300_000, seed=n) for n in range(40)}}
    folder = make(tmp_path / "v0", plan.get(begun, {f"f{n}": some_bytes(7_000_000, seed=n) for n in range(3)}))
    proxy = patient.far.proxy
    proxy.reset_counts()
    if begun == "nothing":
        proxy.silence()
    else:
        proxy.set_direction("up", rate=3_000_000)
    with running(patient, "log", folder, f"{project}/c") as sender:
        until(lambda: proxy.counts().connections if begun == "nothing" else proxy.counts().up > 1_000_000, "it is at it")
        proxy.silence()
        time.sleep(0.2)  # for what is on its way to arrive
        with at_most(0):
            sender.send_signal(signal.SIGINT)
            _, err = ended(sender, 130)
    assert err.strip().endswith("interrupted") and "Traceback" not in err
    patient.far.heal()
    check_nothing_logged(patient, project)
    patient.artfs("log", folder, f"{project}/c")
    check_logged(patient, project, tmp_path)


# drafts ------------------------------------------------------------------------------------------------------------------
def test_what_is_closed_in_a_draft_is_sent_at_once(far: FarWorkspace, far_daemon: Daemon, project: str, tmp_path: Path) -> None:
    """Large files as well as small ones: what a commit sends is the trees."""
    corner = Corner(far_daemon, project)
    corner.log(make(tmp_path / "v0", {"x": "x"}))
    draft = corner.begin()
    far.far.proxy.reset_counts()
    make(draft, {"medium": some_bytes(700_000, seed=1), "large": some_bytes(5_000_000, seed=2), **SMALL})
    nbytes = 5_700_000 + sum(map(len, SMALL.values()))
    until(lambda: far.far.proxy.counts().up > nbytes, "it is sent")
    time.sleep(1)  # until the answers are here
    far.far.proxy.reset_counts()
    expected = picture(draft)
    corner.commit(force=True)
    assert far.far.proxy.counts().up < 50_000
    assert picture(corner.path / "c" / "latest") == expected
    check_sound(far, project, far_daemon)


def test_what_could_not_be_sent_ahead_the_commit_sends(
    far: FarWorkspace, make_daemon: Callable[..., Daemon], project: str, tmp_path: Path
) -> None:
    """Whatever went wrong with it, and in the middle of it."""
    daemon = make_daemon(far, environ=PATIENT).start()
    corner = Corner(daemon, project)
    corner.log(make(tmp_path / "v0", {"x": "x"}))
    draft = corner.begin()
    daemon.expect_log("cannot be reached|can be reached again")
    proxy = far.far.proxy
    full = answer(507, '{"kind": "quota", "message": "no room"}', match=STORE, Content_Type="application/json")
    proxy.reset_counts()
    proxy.add(Fault("corrupt", side="up", after=5_000, match=PUT), full)
    make(draft, {"large": some_bytes(5_000_000, seed=2), **SMALL})
    until(lambda: proxy.counts().faults == 2, "it has gone wrong")
    expected = picture(draft)
    corner.commit(force=True)
    assert picture(corner.path / "c" / "latest") == expected
    check_sound(far, project, daemon)


def test_a_commit_while_its_files_are_being_sent(
    far: FarWorkspace, make_daemon: Callable[..., Daemon], project: str, tmp_path: Path
) -> None:
    daemon = make_daemon(far, environ=PATIENT).start()
    corner = Corner(daemon, project)
    corner.log(make(tmp_path / "v0", {"x": "x"}))
    draft = corner.begin()
    size, proxy = 20 * PART, far.far.proxy
    proxy.set_direction("up", rate=8_000_000)
    proxy.reset_counts()
    make(draft, {"large": some_bytes(size, seed=2), **SMALL})
    until(lambda: proxy.counts().up > size / 2, "it is on its way")
    expected = picture(draft)
    corner.commit(force=True)
    print(proxy.counts().up / size)
    assert proxy.counts().up < 1.5 * size
    far.far.heal()
    assert picture(corner.path / "c" / "latest") == expected
    check_sound(far, project, daemon)


def commit_unheard(corner: Corner, name: str, **options: Any) -> None:
    """The commit of a draft is carried out, but no answer comes; then the network is as it was."""
    far = corner.daemon.workspace
    assert isinstance(far, FarWorkspace)
    corner.daemon.expect_log("")  # of the network
    far.far.proxy.add(Fault("reset", after=0, times=None, match=COMMIT))
    with pytest.raises(UnavailableError):
        corner.commit(name, **options)
    far.far.heal()
    until(partial(sees_the_server, corner), "it is online")


def sees_the_server(corner: Corner) -> bool:
    """Having been made to look: by itself a daemon does so every 15 s."""
    corner.refresh()
    return bool(corner.daemon.status()["server"]["online"])


@pytest.mark.parametrize("name", ["c", "c:latest"])
def test_a_commit_that_nobody_heard_of_is_not_made_again(
    far: FarWorkspace, far_daemon: Daemon, project: str, tmp_path: Path, name: str
) -> None:
    """Also if somebody else has committed since, whose version stays the latest."""
    corner = Corner(far_daemon, project)
    corner.log(make(tmp_path / "v0", {"x": "x"}))
    draft = corner.begin(name)
    make(draft, SMALL)
    mine = picture(draft)
    commit_unheard(corner, name, aliases=("mine",))
    assert draft.exists()
    corner.log(make(tmp_path / "v2", {"x": "theirs"}))
    reply = corner.commit(name, aliases=("mine",))
    assert (reply.version, reply.created, reply.aliases) == ("v1", True, ("mine",))
    assert len(reply.warnings) == 1 and "committed before" in reply.warnings[0]
    assert not draft.exists()
    assert picture(corner.path / "c" / "v1") == mine
    assert picture(corner.path / "c" / "latest") == picture(tmp_path / "v2")
    with far.session() as session:
        (collection,) = session.catalog.collections("local", project)
        assert [member.index for member in session.catalog.members(collection.id)] == [0, 1, 2]
    check_sound(far, project, far_daemon)


@pytest.mark.parametrize("overtaken", [False, True])
def test_what_changed_since_a_commit_that_nobody_heard_of_comes_on_top_of_it(
    far_daemon: Daemon, project: str, tmp_path: Path, overtaken: bool
) -> None:
    """Unless somebody else has committed since."""
    corner = Corner(far_daemon, project)
    corner.log(make(tmp_path / "v0", {"x": "x"}))
    draft = corner.begin("c:latest")
    (draft / "new").write_text("one")
    commit_unheard(corner, "c:latest")
    (draft / "new").write_text("two")
    if overtaken:
        corner.log(make(tmp_path / "v2", {"x": "theirs"}))
        with pytest.raises(LatestMovedError, match="moved to v2"):
            corner.commit("c:latest")
        assert draft.exists()
    else:
        assert corner.commit("c:latest").version == "v2"
        assert (corner.path / "c" / "v1" / "new").read_text() == "one"
        assert (corner.path / "c" / "latest" / "new").read_text() == "two"


def test_the_end_does_not_wait_until_drafts_are_sent(
    far: FarWorkspace, make_daemon: Callable[..., Daemon], project: str, tmp_path: Path
) -> None:
    daemon = make_daemon(far, environ=PATIENT).start()
    corner = Corner(daemon, project)
    corner.log(make(tmp_path / "v0", {"x": "x"}))
    draft = corner.begin()
    far.far.proxy.set_direction("up", rate=1_000_000)
    far.far.proxy.reset_counts()
    make(draft, {"large": some_bytes(9_000_000, seed=2)})
    until(lambda: far.far.proxy.counts().up > 500_000, "it is on its way")
    far.far.proxy.silence()
    with at_most(0):
        assert daemon.terminate() == 0
    far.far.heal()
    corner.artfs("commit", f"{project}/c", "--force")
    check_sound(far, project)
