"""What one look of `artfs doctor` found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Check:
    """`fix`: what to type, "" when nothing is wrong. "warn" hinders something, "bad" breaks it.

    `mend`: does it, and says what it did; raises ArtfsError or OSError. None: it needs a person.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""
    mend: Callable[[], str] | None = field(default=None, compare=False)
