"""What a save leaves in the store and the catalog, also when it fails or is interrupted."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.session import Session, open_session
from artfs.errors import (
    SourceChangedError,
    StorageError,
)
from artfs.testing.drafted import draft, versions
from artfs.transfer.gc import collect_garbage

# what the store keeps -----------------------------------------------------------------------------


def sweep_in_thread(session: Session) -> tuple[threading.Thread, threading.Event, list[int]]:
    waiting = threading.Event()
    removed: list[int] = []

    def sweep() -> None:
        with open_session(session.settings) as own:
            found = collect_garbage(own.catalog, own.store, on_wait=lambda message: waiting.set())  # type: ignore[arg-type] # the embedded one
            removed.append(found.removed)

    thread = threading.Thread(target=sweep)
    thread.start()
    return thread, waiting, removed


@pytest.mark.embedded("sweeps")
def test_a_sweep_waits_for_a_draft_that_put_bytes(session: Session) -> None:
    artifact = draft()
    thread, waiting, removed = sweep_in_thread(session)
    assert waiting.wait(10)
    artifact.save()
    thread.join()
    assert removed == [0]
    artifact.verify()


@pytest.mark.embedded("sweeps")
def test_blobs_of_a_draft_that_is_dropped_are_swept(session: Session) -> None:
    artifact = draft()
    del artifact
    gc.collect()
    thread, _, removed = sweep_in_thread(session)
    thread.join()
    assert removed == [1]


@pytest.mark.embedded("sweeps")
def test_a_child_that_ends_does_not_close_its_parents_draft(session: Session) -> None:
    artifact = draft()
    child = multiprocessing.get_context("fork").Process(target=gc.collect)
    child.start()
    child.join()
    assert child.exitcode == 0
    thread, waiting, _ = sweep_in_thread(session)
    assert waiting.wait(10)
    artifact.save()
    thread.join()
    artifact.verify()


def test_a_forked_child_uses_a_session_of_its_own(session: Session) -> None:
    draft().save()

    def work() -> None:
        with init() as run:
            run.use_artifact("ds")
            run.log_artifact(draft("from the child"))
        os._exit(7)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 7
    assert versions(session) == ["ds:v0", "ds:v1"]


@pytest.mark.embedded("sweeps")
def test_nothing_is_left_in_the_store_but_what_versions_need(session: Session, make_files: Any) -> None:
    root = make_files("in", {"a": "1", "big": b"z" * 2_000_000})
    artifact = draft()
    artifact.add_dir(root)
    artifact.add_dir(root, "again", policy="immutable")
    artifact.save()
    assert not [path for path in (session.store.root / "tmp").rglob("*") if path.is_file()]
    thread, _, removed = sweep_in_thread(session)
    thread.join()
    assert removed == [0]
    artifact.verify()


# failures and interrupts --------------------------------------------------------------------------


class Interrupting:
    """A store or catalog whose n-th call of a method is interrupted, as Ctrl-C would."""

    def __init__(self, inner: Any, method: str, error: BaseException, after: bool = False) -> None:
        self._inner = inner
        self._method = method
        self._error = error
        self._after = after

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name != self._method:
            return value

        def interrupted(*arguments: Any, **named: Any) -> Any:
            if self._after:
                value(*arguments, **named)
            raise self._error

        return interrupted


@pytest.mark.embedded("doomed batches are of a folder store")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), StorageError("no space left")])
@pytest.mark.parametrize("method", ["put_page", "put_file", "sync"])
@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_interrupted_while_storing(
    session: Session, make_files: Any, method: str, error: BaseException, policy: Any
) -> None:
    root = make_files("in", {"a": "1", "d/b": "2"})
    artifact = Artifact("ds", "dataset")
    artifact.add_dir(root, policy=policy)
    deposit = artifact._draft("test").open_deposit()
    whole = deposit.batch
    deposit.batch = Interrupting(whole, method, error)
    if policy == "mutable" and method == "put_file":
        with pytest.raises(type(error)):
            artifact.add_file(root / "a", "x")
        assert sorted(artifact.manifest.entries) == ["a", "d/b"]
    else:
        with pytest.raises(type(error)):
            artifact.save()
        assert artifact.is_draft()
        runs = session.catalog.runs(session.settings.entity, session.settings.project)
        assert [run.state for run in runs] == ["failed"]
    assert versions(session) == []
    deposit.batch = whole
    artifact.save()
    assert versions(session) == ["ds:v0"]
    artifact.verify()


@pytest.mark.parametrize("after", [False, True])
def test_interrupted_at_the_catalog(session: Session, after: bool) -> None:
    artifact = draft()
    whole = session.catalog
    session.catalog = Interrupting(whole, "commit", KeyboardInterrupt(), after)
    with pytest.raises(KeyboardInterrupt):
        artifact.save()
    session.catalog = whole
    assert versions(session) == (["ds:v0"] if after else [])
    artifact.save()
    assert versions(session) == ["ds:v0"]
    artifact.verify()


def test_one_changed_file_of_many_stops_the_save(session: Session, make_files: Any) -> None:
    root = make_files("in", {f"{n}": f"{n}" for n in range(200)})
    artifact = Artifact("ds", "dataset")
    artifact.add_dir(root, policy="immutable")
    (root / "150").write_text("changed")
    with pytest.raises(SourceChangedError, match="/150 changed after it was added"):
        artifact.save()
    assert versions(session) == []
    artifact.add_dir(root, policy="immutable", merge=True)
    artifact.save()
    artifact.verify()
