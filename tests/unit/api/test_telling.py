"""How far a call is: told to a callback, shown on a terminal, or neither."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import artfs
from artfs.api import telling
from artfs.api.artifact import Artifact
from artfs.api.session import Session
from artfs.api.telling import Bar, describe
from artfs.wire.control import Progress

FILES = {"a.txt": "a", "ab/c.txt": "cc"}


def test_calls_tell_a_callback(session: Session, make_files: Any) -> None:
    told: list[Progress] = []
    artifact = Artifact("ds", "dataset")
    with artfs.progress(told.append):
        artifact.add_dir(make_files("in", FILES))
        artifact.add_file(make_files("one", {"f": "fff"}) / "f")
        artifact.add_file(make_files("two", {"g": "gg"}) / "g", policy="immutable")
        artifact.save()
        artifact.download("out")
        artifact.checkout("out")
        artifact.verify("out")
    last = {progress.phase: progress for progress in told}
    assert last["push"] == Progress("push", 1, 1, 3, 3)  # of add_file
    assert last["save"] == Progress("save", 1, 1, 2, 2)
    assert last["pull"] == Progress("pull", 4, 4, 8, 8)
    assert last["verify"] == Progress("verify", 4, 4, 8, 8)
    assert "scan" in last
    before = len(told)
    artifact.download("more")
    assert len(told) == before


def test_what_a_callback_raises_ends_the_call(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", FILES)

    def refuse(progress: Progress) -> None:
        raise RuntimeError("enough")

    with artfs.progress(refuse), pytest.raises(RuntimeError, match="enough"):
        artifact.download("out")
    assert artifact.download("out") == "out"
    artifact.verify("out")


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Inside, stderr is a terminal; gives a function that returns what it was sent."""
    ours, theirs = pty.openpty()

    def sent() -> str:
        stream.write("END")
        stream.flush()
        text = ""
        while not text.endswith("END"):
            text += os.read(ours, 4096).decode()
        return text.removesuffix("END")

    with open(theirs, "w") as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        patched.setattr(telling, "SHOWN_AFTER_S", 0)
        yield sent
    os.close(ours)


def test_a_terminal_shows_a_bar_and_is_clean_afterwards(
    session: Session, log_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = log_files("ds", FILES)
    with terminal(monkeypatch) as sent:
        artifact.download("out")
        text = sent()
    assert "pull  [####################] 100 %  2/2 files" in text
    assert text.endswith("\r\x1b[K")
    assert "\n" not in text


@pytest.mark.parametrize("callback", [None, lambda told: None])
def test_a_callback_replaces_the_bar(
    session: Session, log_files: Any, monkeypatch: pytest.MonkeyPatch, callback: Any
) -> None:
    artifact = log_files("ds", FILES)
    with terminal(monkeypatch) as sent, artfs.progress(callback):
        artifact.download("out")
        assert sent() == ""


@pytest.mark.parametrize("stderr", [None, io.StringIO()])
def test_nothing_is_shown_elsewhere(
    session: Session, log_files: Any, monkeypatch: pytest.MonkeyPatch, stderr: Any
) -> None:
    artifact = log_files("ds", FILES)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert Path(artifact.download("out"), "a.txt").read_text() == "a"
    assert stderr is None or stderr.getvalue() == ""


def test_a_short_call_shows_no_bar() -> None:
    times = iter([0.0, 0.4, 0.6])
    stream = io.StringIO()
    bar = Bar(stream, lambda: next(times))
    bar(Progress("pull", 1, 9, 0, 0))
    assert stream.getvalue() == ""
    bar(Progress("pull", 2, 9, 0, 0))
    assert "2/9 files" in stream.getvalue()


def test_a_terminal_that_is_gone_does_not_matter() -> None:
    stream = io.StringIO()
    times = iter([0.0, 9.0])
    bar = Bar(stream, lambda: next(times))
    stream.close()
    bar(Progress("pull", 1, 9, 0, 0))
    bar.close()


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (Progress("pull", 10, 40, 5_000_000, 20_000_000), "pull  [#####---------------]  25 %  10/40 files  5.0/20.0 MB"),
        (Progress("scan", 12_000, 0, 0, 0), "scan  12,000 files"),
        (Progress("verify", 0, 0, 1_500_000_000, 0), "verify  1,500.0 MB"),
        (Progress("push", 1, 2, 0, 0), "push  [##########----------]  50 %  1/2 files"),
        (Progress("push", 0, 0, 0, 0), "push"),
    ],
)
def test_the_line(told: Progress, line: str) -> None:
    assert describe(told) == line
