"""What a process began is of use in the children that it forks (PyTorch's data loaders fork)."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.public import Api
from artfs.api.session import Session, open_session
from artfs.catalog import open_catalog
from artfs.settings import Settings
from artfs.testing.inprocess import serving

_CHILDREN = 6
_LIMIT_S = 30.0


@pytest.fixture(params=["embedded", "server"])
def both(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Session, Session]]:
    """Two sessions of one catalog, each with a cache of its own."""
    with ExitStack() as stack:
        if request.param == "server":
            home = tmp_path / "server"
            home.mkdir()
            open_catalog(home / "catalog.db").close()
            settings = settings.with_changes(server=stack.enter_context(serving(home)))
        yield (
            stack.enter_context(open_session(settings)),
            stack.enter_context(open_session(settings.with_changes(cache_path=tmp_path / "cache"))),
        )


def in_children(do: Callable[[int], Any]) -> list[Any]:
    """What `do(number)` returns in each of several forked children at the same time; of what it raises the text."""
    context = multiprocessing.get_context("fork")
    queue, barrier = context.Queue(), context.Barrier(_CHILDREN)

    def run(number: int) -> None:
        barrier.wait()
        try:
            queue.put((number, do(number)))
        except BaseException as error:
            queue.put((number, repr(error)))

    children = [context.Process(target=run, args=(number,)) for number in range(_CHILDREN)]
    for child in children:
        child.start()
    try:
        return [found for _, found in sorted(queue.get(timeout=_LIMIT_S) for _ in children)]
    finally:
        for child in children:
            child.terminate()
            child.join()


def log(session: Session, name: str, size: int = 10) -> None:
    artifact = Artifact(name, "dataset")
    for number in range(_CHILDREN):
        with artifact.new_file(f"f{number}") as stream:
            stream.write(f"{number}" * size)
    with init("p", session=session) as run:
        run.log_artifact(artifact)


def test_no_child_gets_what_another_asked_for(both: tuple[Session, Session]) -> None:
    for number in range(_CHILDREN):
        log(both[0], f"ds{number}")
    with init("p", session=both[1]) as run:
        for turn in range(3):
            run.config["turn"] = turn  # there is a connection, which is kept
            found = in_children(lambda number: run.use_artifact(f"ds{number}:v0").source_name)
            assert found == [f"ds{number}:v0" for number in range(_CHILDREN)]
        assert len(Api(session=both[1]).run(run.id).used_artifacts()) == _CHILDREN


def test_children_fetch_by_themselves(both: tuple[Session, Session], tmp_path: Path) -> None:
    log(both[0], "ds", size=300_000)
    artifact = Api({"project": "p"}, session=both[1]).artifact("ds")
    artifact.get_entry("f0").download(tmp_path)  # there are threads that fetch

    def fetch(number: int) -> str:
        path = artifact.get_entry(f"f{number}").download(tmp_path / f"{number}")
        return Path(path).read_text()[:2]

    assert in_children(fetch) == [f"{number}" * 2 for number in range(_CHILDREN)]


def test_children_log(both: tuple[Session, Session]) -> None:
    def write(number: int) -> str:
        artifact = Artifact(f"ds{number}", "dataset")
        with artifact.new_file("f") as stream:
            stream.write(str(number))
        return run.log_artifact(artifact).name

    with init("p", session=both[0]) as run:
        assert in_children(write) == [f"ds{number}:v0" for number in range(_CHILDREN)]
        log(both[0], "ds")
    assert len(Api(session=both[0]).run(run.id).logged_artifacts()) == _CHILDREN


def test_a_child_that_needs_nothing_opens_nothing(both: tuple[Session, Session]) -> None:
    def look(number: int) -> tuple[int, int]:
        before = len(os.listdir("/proc/self/fd"))
        both[0].close()
        return before, len(os.listdir("/proc/self/fd"))

    assert all(before == after for before, after in in_children(look))
    log(both[0], "ds")


def test_a_session_that_was_closed_stays_closed(both: tuple[Session, Session]) -> None:
    both[1].close()
    found = in_children(lambda number: both[1].catalog.projects("local"))
    assert all("closed by this program" in text for text in found)


@pytest.mark.parametrize("busy", [False, True])
def test_what_a_child_logs_is_there_though_its_parent_has_closed_the_catalog(settings: Settings, busy: bool) -> None:
    session = open_session(settings)
    log(session, "parent")
    token = session.catalog.change_token()
    context = multiprocessing.get_context("fork")
    ready, closed = context.Event(), context.Event()

    def write() -> None:
        log(session, "before")
        ready.set()
        closed.wait(_LIMIT_S)
        log(session, "after")

    child = context.Process(target=write)
    stop = threading.Event()
    others = [threading.Thread(target=_read, args=(session, stop)) for _ in range(2 * busy)]
    for thread in others:
        thread.start()
    child.start()
    ready.wait(_LIMIT_S)
    stop.set()
    for thread in others:
        thread.join()
    assert session.catalog.change_token() != token
    session.close()
    closed.set()
    child.join(_LIMIT_S)
    assert child.exitcode == 0
    with open_session(settings) as again:
        names = [collection.name for collection in again.catalog.collections("local", "p")]
        assert names == ["after", "before", "parent"]


def _read(session: Session, stop: threading.Event) -> None:
    while not stop.is_set():
        session.catalog.collections("local", "p")
