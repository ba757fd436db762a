"""docs/semantics.md tells the truth: its tests exist, and its table of errors is the daemon's."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from artfs.errors import all_kinds
from artfsd.errnos import ERRNO_BY_KIND

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "semantics.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)\(", sources))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 20
    assert named <= there, f"not there: {sorted(named - there)}"


def test_the_table_of_errno_values_is_total() -> None:
    assert set(ERRNO_BY_KIND) == set(all_kinds())


def test_the_page_shows_that_table() -> None:
    shown: dict[str, int] = {}
    for number, kinds in re.findall(r"^\| (E[A-Z]+) \| (.*) \|$", PAGE.split("## Errors")[1], re.MULTILINE):
        for kind in re.findall(r"[a-z][a-z-]+", re.sub(r"\(.*?\)|and .*", "", kinds)):
            shown[kind] = getattr(errno, number)
    assert shown == ERRNO_BY_KIND
