"""Lines of the daemon's log: the request that they are about, and levels for the journal."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import pytest

from artfsd import logs
from artfsd.logs import REQUEST, RequestFilter, is_journal, priority


def test_the_journal_is_known_by_its_stream(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        status = os.fstat(file.fileno())
        name = f"{status.st_dev}:{status.st_ino}"
        assert is_journal(file.fileno(), {"JOURNAL_STREAM": name})
        # Of a service whose standard error was sent elsewhere, as StandardError=file: does.
        assert not is_journal(file.fileno(), {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not is_journal(file.fileno(), {"JOURNAL_STREAM": "nonsense"})
        assert not is_journal(file.fileno(), {})
    assert not is_journal(9999, {"JOURNAL_STREAM": name})


def test_levels_are_those_of_syslog() -> None:
    found = [priority(level) for level in (10, 20, 25, 30, 40, 50, 60, 5)]
    assert found == ["<7>", "<6>", "<6>", "<4>", "<3>", "<2>", "<2>", "<7>"]


class Handler:
    """What a pyfuse3 handler looks like from below: `handle` has `self` and `name`."""

    requests = 17

    def handle(self, name: str, method: object) -> None:
        method()  # type: ignore[operator]


def lines(record: logging.LogRecord, form: str = logs.FORMAT) -> str:
    return logging.Formatter(form).format(record)


@pytest.fixture
def logged() -> list[logging.LogRecord]:
    return []


def logger(into: list[logging.LogRecord]) -> logging.Logger:
    made = logging.Logger("artfsd.test")
    handler = logging.StreamHandler(io.StringIO())
    handler.addFilter(RequestFilter(Handler.handle.__code__))
    handler.emit = into.append  # type: ignore[method-assign]
    made.addHandler(handler)
    return made


def test_what_is_logged_in_a_request_carries_its_number(logged: list[logging.LogRecord]) -> None:
    log = logger(logged)
    log.warning("outside")
    Handler().handle("read", lambda: log.warning("inside"))
    token = REQUEST.set((4, "lookup"))
    log.warning("in a thread of it")
    REQUEST.reset(token)
    Handler().handle("read", lambda: log.error("request %d (read) failed", 17))
    shown = [lines(record).split("artfsd.test: ")[1] for record in logged]
    assert shown == [
        "outside",
        "[request 17 read] inside",
        "[request 4 lookup] in a thread of it",
        "request 17 (read) failed",
    ]


def test_each_line_of_a_message_has_its_level_in_the_journal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.LogRecord("artfsd", logging.ERROR, "", 0, "one\ntwo %s", ("three",), None)
    RequestFilter().filter(record)
    assert logs._JournalFormatter(logs.JOURNAL_FORMAT).format(record) == "<3>ERROR artfsd: one\n<3>two three"
