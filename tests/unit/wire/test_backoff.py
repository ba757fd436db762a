from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.wire.backoff import Backoff, read_retry_after

NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
CHANCES = st.floats(0, 1, exclude_max=True)


@given(limit_s=st.floats(0.1, 1000), chances=st.lists(CHANCES, min_size=60, max_size=60), took_s=st.floats(0, 10))
def test_all_tries_end_within_the_limit(limit_s: float, chances: list[float], took_s: float) -> None:
    backoff = Backoff(limit_s)
    elapsed, tried = 0.0, 0
    for chance in chances:
        tried += 1
        wait = backoff.wait_s(tried, elapsed, chance)
        if wait is None:
            break
        assert 0 < wait <= backoff.longest_s
        elapsed += wait
        assert elapsed < limit_s
        elapsed += took_s
    assert tried <= backoff.tries


def test_waits_grow_and_are_spread() -> None:
    backoff = Backoff(1000, first_s=0.1, longest_s=5)
    assert [backoff.wait_s(tried, 0, 0.0) for tried in (1, 2, 3, 9)] == [0.05, 0.1, 0.2, 2.5]
    assert backoff.wait_s(1, 0, 0.999) == pytest.approx(0.1, rel=0.01)


@given(chance=CHANCES, asked=st.floats(0, 100))
def test_what_the_server_asks_for_is_waited_for_or_nothing_is(chance: float, asked: float) -> None:
    wait = Backoff(30).wait_s(1, 5, chance, asked)
    assert wait is None if asked >= 25 else wait is None or wait >= asked
    if asked < 24:
        assert wait is not None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("", None), ("3", 3.0), (" 120 ", 120.0), ("-1", None), ("soon", None), ("1e9", None), ("٣", None),
        ("Sun, 01 Nov 2026 12:00:30 GMT", 30.0), ("Sun, 01 Nov 2026 11:00:00 GMT", 0.0), ("9" * 30, 999_999_999.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, seconds: float | None) -> None:
    assert read_retry_after(value, NOW) == seconds
