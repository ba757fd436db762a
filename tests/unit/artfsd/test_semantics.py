"""docs/semantics.md against the tests that it names and the daemon's table of errors."""

from __future__ import annotations

import ast
import errno
import re
from pathlib import Path

import pytest

from artfs.errors import StorageError, all_kinds
from artfsd.errnos import ERRNO_BY_KIND, errno_of

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")


def tables(heading: str) -> list[list[str]]:
    """The cells of the rows of the tables below a heading, without their headers."""
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return [row for row in rows[1:] if not set(row[0]) <= {"-"}]


def all_tests() -> set[str]:
    found = set()
    contracts = (ROOT / "artfs" / "testing").rglob("*.py")
    for path in [*(ROOT / "tests").rglob("test_*.py"), *contracts]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
    return found


@pytest.mark.parametrize("page", ["semantics.md", "postgresql.md", "server.md", "server-blobs.md"])
def test_every_test_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text(encoding="utf-8")))
    assert named
    assert named - all_tests() == set()


@pytest.mark.parametrize(
    "heading",
    [
        "Versions",
        "Names",
        "Visibility and staleness",
        "Caching",
        "A server over a network",
        "Drafts",
        "References",
        "Commits",
        "Durability",
        "Coming and going",
        "Being operated",
        "Downloads",
    ],
)
def test_every_promise_has_a_test(heading: str) -> None:
    rows = tables(heading)
    assert rows
    for row in rows:
        assert re.fullmatch(r"(`test_\w+`(, )?)+", row[-1]), row


def test_every_promise_of_a_server_has_a_test() -> None:
    rows = [row for row in tables("With a server") if len(row) == 2 and "`test_" in row[1]]
    assert len(rows) > 20
    for row in rows:
        assert re.fullmatch(r"(`test_\w+`(, )?)+", row[-1]), row


def test_the_metrics_of_a_mount_are_listed() -> None:
    code = (ROOT / "daemon" / "artfsd" / "metrics.py").read_text(encoding="utf-8")
    head, counters = code.split("def _counters", 1)
    names = {f"artfs_{name}" for name in re.findall(r'yield "(\w+)", "', head)}
    names |= {f"artfs_{name}_total" for name in re.findall(r'yield "(\w+)", "', counters)}
    names |= {f"{name}_total" for name in re.findall(r'CounterMetricFamily\("(\w+)"', head)}
    assert len(names) > 15
    assert names == set(re.findall(r"`(artfs_\w+)(?:\{\w+\})?`", TEXT))


def test_the_table_of_errors_is_that_of_the_daemon() -> None:
    shown: dict[str, int] = {}
    for name, kinds in tables("Errors"):
        for kind in re.findall(r"`([a-z-]+)`", kinds):
            assert kind not in shown
            shown[kind] = getattr(errno, name)
    assert shown == ERRNO_BY_KIND


def test_the_table_of_errors_is_total() -> None:
    assert set(ERRNO_BY_KIND) == set(all_kinds())


def test_errors_of_the_operating_system_keep_their_number() -> None:
    assert errno_of(StorageError("full", errno.ENOSPC)) == errno.ENOSPC
    assert errno_of(OSError(errno.EDQUOT, "quota")) == errno.EDQUOT
    assert errno_of(ValueError("a defect")) is None
    for kind, cls in all_kinds().items():
        assert errno_of(cls("x")) == ERRNO_BY_KIND[kind]
