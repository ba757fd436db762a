from __future__ import annotations

from artfs.errors import all_kinds
from artfs.server.statuses import STATUS_BY_KIND
from artfs.wire.backoff import AGAIN, NOT_BEGUN


def test_every_kind_has_a_status() -> None:
    assert set(STATUS_BY_KIND) == set(all_kinds())


def test_no_error_is_a_success() -> None:
    assert all(400 <= status < 600 for status in STATUS_BY_KIND.values())


def test_what_is_the_callers_own_mistake_is_not_tried_again() -> None:
    again = {kind for kind, status in STATUS_BY_KIND.items() if status in AGAIN}
    assert again == {
        "error", "missing-extra", "catalog", "catalog-version", "unavailable", "offline", "rate-limited", "wait-timeout",
    }
    assert {kind for kind in again if STATUS_BY_KIND[kind] in NOT_BEGUN} == {
        "catalog", "catalog-version", "unavailable", "offline", "rate-limited",
    }
