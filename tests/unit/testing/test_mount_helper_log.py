"""The part of the test daemon that judges its log."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from artfs.testing.mount import is_mounted, unannounced

LOG = textwrap.dedent("""\
    2026-11-01 12:00:00 INFO artfsd: mounted
    2026-11-01 12:00:01 ERROR artfsd.operations: request 12 (read) failed
    Traceback (most recent call last):
      File "operations.py", line 1, in read
    ValueError: bad ERRATA

    During handling of the above exception, another exception occurred:

    Traceback (most recent call last):
      File "operations.py", line 2, in read
    KeyError: 1
    2026-11-01 12:00:02 INFO artfsd: going on
    """)


def test_a_clean_log() -> None:
    assert unannounced("2026 INFO artfsd: mounted\n2026 DEBUG artfsd: read 3 errors\n", []) == []


def test_an_error_and_its_traceback_are_found() -> None:
    assert unannounced(LOG, []) == [
        "2026-11-01 12:00:01 ERROR artfsd.operations: request 12 (read) failed",
        "Traceback (most recent call last):",
        "Traceback (most recent call last):",
    ]


def test_announcing_a_line_announces_its_traceback() -> None:
    assert unannounced(LOG, [re.compile("request .* failed")]) == []


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        "  + Exception Group Traceback (most recent call last):",
        "Fatal Python error: Segmentation fault",
        "/x/y.py:3: ResourceWarning: unclosed file",
        "2026 WARNING artfsd: slow",
    ],
)
def test_what_is_never_let_pass(line: str) -> None:
    assert unannounced(f"2026 INFO artfsd: mounted\n{line}\n", []) == [line]


def test_an_announcement_does_not_reach_beyond_the_next_line_with_a_level() -> None:
    log = "E ERROR known\nE INFO fine\nTraceback (most recent call last):\n"
    assert unannounced(log, [re.compile("known")]) == ["Traceback (most recent call last):"]


def test_is_mounted_reads_the_kernels_table(tmp_path: Path) -> None:
    assert is_mounted(Path("/proc"))
    assert not is_mounted(tmp_path)
