from __future__ import annotations

import io
import sys

import pytest

from artfs.cli import progress
from artfs.cli.progress import ProgressView, describe, duration
from artfs.wire.control import Progress

HALF = Progress("push", 10, 20, 5 << 20, 10 << 20)


@pytest.mark.parametrize(
    ("told", "elapsed_s", "shown"),
    [
        (HALF, 5, "push: 10/20 files, 5.0 MiB/10.0 MiB, 1.0 MiB/s, 5 s left"),
        (HALF, 0, "push: 10/20 files, 5.0 MiB/10.0 MiB"),
        (Progress("mark", 1200, 0, 0, 0), 3, "mark: 1,200 files"),
        (Progress("sync", 0, 0, 0, 0), 3, "sync"),
        (Progress("scan", 0, 0, 1 << 20, 0), 1, "scan: 1.0 MiB, 1.0 MiB/s"),
        (Progress("push", 20, 20, 1 << 20, 1 << 20), 1, "push: 20/20 files, 1.0 MiB/1.0 MiB, 1.0 MiB/s"),
    ],
)
def test_describe(told: Progress, elapsed_s: float, shown: str) -> None:
    assert describe(told, elapsed_s) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0 s"), (59, "59 s"), (185, "3:05"), (3723, "1:02:03")])
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_short_work_says_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressView(quiet=False) as view:
        view(HALF)
    assert capsys.readouterr() == ("", "")


def test_long_work_says_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    with ProgressView(quiet=False) as view:
        view(HALF)
        view(Progress("sweep", 1, 0, 2, 0))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["push", "sweep"]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    with ProgressView(quiet=True) as view:
        view(HALF)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_is_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with ProgressView(quiet=False) as view:
        view(Progress("scan", 3, 0, 100, 0))
        view(HALF)
        view(Progress("sync", 0, 0, 0, 0))
    text = terminal.getvalue()
    assert "push" in text
    assert "10/20 files" in text
    assert "5.0 MiB/10.0 MiB" in text
    assert "\x1b[?25h" in text  # the cursor is shown again
