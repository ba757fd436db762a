"""A test fails on a warning that it did not announce, and on an announced one that did not come.

So a warning is part of what is tested, and a new one never slips by (the idea is s3ql's).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass
class Announcement:
    """`pattern` is searched for in the message; `count` None: any number from 1; `seen`: how many came."""

    pattern: re.Pattern[str]
    level: int
    count: int | None
    seen: int = 0

    @property
    def is_met(self) -> bool:
        return self.seen > 0 if self.count is None else self.seen == self.count


@dataclass
class LogCheck(logging.Handler):
    """Collects every record of WARNING or worse between `__enter__` and `__exit__`, of all loggers that propagate.

    As a context manager it raises AssertionError on leaving, unless another error is already under way.
    """

    announced: list[Announcement] = field(default_factory=list)
    unexpected: list[logging.LogRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.WARNING)

    __hash__ = logging.Handler.__hash__

    def expect(self, pattern: str, *, level: int = logging.WARNING, count: int | None = None) -> None:
        """Announces records whose message contains the regular expression `pattern`, at exactly `level`.

        `count`: how many must come; None: one or more; 0: any that come are let pass, and none must.
        """
        self.announced.append(Announcement(re.compile(pattern), level, count))

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        for announcement in self.announced:
            if record.levelno == announcement.level and announcement.pattern.search(message):
                announcement.seen += 1
                return
        self.unexpected.append(record)

    def check(self) -> None:
        """Raises AssertionError that lists every surprise and every announcement that was not kept."""
        complaints = [
            f"logged without announcement: {record.levelname} {record.name}: {record.getMessage()}"
            for record in self.unexpected
        ]
        complaints += [
            f"announced, but logged {found.seen} times: {logging.getLevelName(found.level)} /{found.pattern.pattern}/"
            for found in self.announced
            if not found.is_met and found.count != 0
        ]
        if complaints:
            raise AssertionError("\n".join(complaints))

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger().removeHandler(self)
        if error is None:
            self.check()
