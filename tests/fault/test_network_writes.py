"""Sending to a server through a network that goes wrong: what can be mended is, what was sent is not sent again, and Ctrl-C waits
for nobody."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.farside import PART, FarWorkspace, check_sound, until
from artfs.testing.faultproxy import Fault, answer, garbage
from artfs.testing.mount import Daemon
from artfs.testing.store_contract import some_bytes
from artfs.testing.trees import make, picture

PATIENT = {"ARTFS_DEADLINE_S": "60", "ARTFS_NETWORK_TIMEOUT_S": "60"}
PLAN = {
    **{f"d{number % 4}/f{number:03}": some_bytes(3000 + number, seed=number) for number in range(60)}, "big": some_bytes(5_000_000)
}
STORE, MISSING, COMMIT = "/blobs HTTP", "/missing", "POST /v1/commit"
BEGIN, PARTS, PUT, FINISH = "/uploads", "/parts", "PUT /v1/uploads", "/finish"


@pytest.fixture
def patient(far: FarWorkspace) -> FarWorkspace:
    far.extra = PATIENT
    return far


ONCE: dict[str, Callable[[str], list[Fault]]] = {
    "cut before the answer": lambda match: [Fault("cut", match=match)],
    "cut in the question": lambda match: [Fault("cut", side="up", after=50, match=match)],
    "reset in the question": lambda match: [Fault("reset", side="up", after=50, match=match)],
    "an answer that is lost": lambda match: [Fault("reset", after=0, match=match)],
    "502, 503 and 429": lambda match: [answer(502, "<html>", match=match), answer(429, match=match, Retry_After="1")],
    "garbage": lambda match: [garbage(match=match)],
}


@pytest.mark.parametrize("what", ONCE)
def test_what_goes_wrong_once_is_not_noticed(patient: FarWorkspace, project: str, tmp_path: Path, what: str) -> None:
    """In each call that sends something, and the commit: there is one version, and it is right."""
    far = patient.far
    far.proxy.reset_counts()
    for match in (MISSING, "/blobs", BEGIN, PUT, FINISH, COMMIT):
        far.proxy.add(*ONCE[what](match))
    Corner(Daemon(patient), project).log(make(tmp_path / "v0", PLAN), refresh=False)
    assert far.proxy.counts().faults >= 5, far.proxy.counts()
    far.heal()
    with patient.session() as session:
        (collection,) = session.catalog.collections("local", project)
        (member,) = session.catalog.members(collection.id)
        assert member.aliases == ("latest",)
    patient.artfs("get", f"{project}/c", str(tmp_path / "got"))
    assert picture(tmp_path / "got") == picture(tmp_path / "v0")
    check_sound(patient, project)


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
