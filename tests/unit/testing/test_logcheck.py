from __future__ import annotations

import logging

import pytest

from artfs.testing.logcheck import LogCheck

log = logging.getLogger("artfs.test")


def test_a_quiet_block_passes() -> None:
    with LogCheck():
        log.info("nothing to see")


def test_an_unannounced_warning_fails(log_check: LogCheck) -> None:
    log_check.expect("disk is slow")
    with pytest.raises(AssertionError, match="without announcement: WARNING artfs.test: the disk is slow"):
        with LogCheck():
            log.warning("the %s is slow", "disk")


def test_an_announced_warning_passes(log_check: LogCheck) -> None:
    log_check.expect("disk")
    with LogCheck() as check:
        check.expect("disk is .low", count=1)
        log.warning("the disk is slow")


def test_the_level_must_be_right(log_check: LogCheck) -> None:
    log_check.expect("disk", level=logging.ERROR)
    with pytest.raises(AssertionError) as raised, LogCheck() as check:
        check.expect("disk")
        log.error("the disk is gone")
    assert "without announcement: ERROR" in str(raised.value)
    assert "announced, but logged 0 times: WARNING /disk/" in str(raised.value)


@pytest.mark.parametrize(("count", "logged", "passes"), [(0, 0, True), (0, 3, True), (2, 2, True), (2, 1, False)])
def test_counts(log_check: LogCheck, count: int, logged: int, passes: bool) -> None:
    log_check.expect("again", count=0)
    check = LogCheck()
    check.expect("again", count=count)
    logging.getLogger().addHandler(check)
    for _ in range(logged):
        log.warning("again")
    logging.getLogger().removeHandler(check)
    if passes:
        check.check()
    else:
        with pytest.raises(AssertionError):
            check.check()


def test_an_error_under_way_is_not_hidden(log_check: LogCheck) -> None:
    log_check.expect("odd")
    with pytest.raises(KeyError), LogCheck():
        log.warning("odd")
        raise KeyError("the real one")
