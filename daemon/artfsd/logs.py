"""The daemon's log: a line a message on standard error, with the request that it is about, and with levels for the journal.

Under systemd, standard error may be the journal (JOURNAL_STREAM says of which stream that is so, systemd.exec(5)). Then each line
begins with its level as sd-daemon(3) wants it, "<4>", and without a time, which the journal has itself.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from types import CodeType, FrameType

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(request)s%(message)s"
JOURNAL_FORMAT = "%(levelname)s %(name)s: %(request)s%(message)s"

REQUEST: ContextVar[tuple[int, str] | None] = ContextVar("artfs-request", default=None)
"""Number and operation of the request that this task, or a thread that works for it, is about."""

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether what is written to `descriptor` goes to the journal."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def priority(level: int) -> str:
    """What a line of this level begins with in the journal."""
    return next((f"<{number}>" for at, number in _PRIORITIES if level >= at), "<7>")


class _JournalFormatter(logging.Formatter):
    """Each line of a message is an entry of the journal, so each has the level."""

    def format(self, record: logging.LogRecord) -> str:
        mark = priority(record.levelno)
        return "\n".join(mark + line for line in super().format(record).split("\n"))


class RequestFilter(logging.Filter):
    """Gives each record the request that it is about: `request` is "[request 17 read] ", or "" for none.

    A request that waited has said so in REQUEST. One that is answered at once has not, as that would cost each of them; it is
    found on the stack of whoever logs. `code` is that of the wrapper around every handler.
    """

    def __init__(self, code: CodeType | None = None) -> None:
        super().__init__()
        self._code = code

    def filter(self, record: logging.LogRecord) -> bool:
        found = REQUEST.get()
        if found is None and self._code is not None:
            found = request_on(sys._getframe(), self._code)
        record.request = ""
        if found is not None and not record.getMessage().startswith("request "):
            record.request = f"[request {found[0]} {found[1]}] "
        return True


def request_on(frame: FrameType | None, code: CodeType) -> tuple[int, str] | None:
    """The request whose handler is on the stack that ends with `frame`."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    if frame is None:
        return None
    return frame.f_locals["self"].requests, frame.f_locals["name"]


def set_up(level: str, environ: Mapping[str, str], code: CodeType | None) -> str:
    """Sets the root logger up, and returns what other writers to standard error put before their lines (of level INFO)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RequestFilter(code))
    journal = is_journal(sys.stderr.fileno(), environ)
    handler.setFormatter(_JournalFormatter(JOURNAL_FORMAT) if journal else logging.Formatter(FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # They tell of each step, at a level at which we tell of each hour.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("pyfuse3").setLevel(logging.INFO)
    return priority(logging.INFO) if journal else ""
