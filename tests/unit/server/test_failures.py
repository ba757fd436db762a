from __future__ import annotations

from artfs.server.failures import FailureRates, Failures

RATES = FailureRates(burst=3, per_s=0.5, overall_burst=6, overall_per_s=1, addresses=4)


def test_an_address_has_so_many_failures_and_then_waits() -> None:
    failures = Failures(RATES)
    for _ in range(3):
        assert failures.wait_s("192.0.2.1", 100) == 0
        failures.note("192.0.2.1", 100)
    assert failures.wait_s("192.0.2.1", 100) == 2
    assert failures.wait_s("192.0.2.1", 101) == 1
    assert failures.wait_s("192.0.2.1", 102) == 0
    assert failures.wait_s("192.0.2.2", 100) == 0


def test_all_addresses_together_have_a_limit() -> None:
    failures = Failures(RATES)
    for number in range(6):
        failures.note(f"192.0.2.{number}", 100)
    assert failures.wait_s("198.51.100.1", 100) == 1
    assert failures.wait_s("198.51.100.1", 101) == 0


def test_its_memory_is_bounded() -> None:
    failures = Failures(RATES)
    for number in range(1000):
        failures.note(f"10.0.{number // 256}.{number % 256}", number * 10)
    assert len(failures) == 4


def test_ipv6_counts_by_network_and_mapped_ipv4_as_ipv4() -> None:
    failures = Failures(RATES)
    for number in range(3):
        failures.note(f"2001:db8::{number}", 100)
    assert failures.wait_s("2001:db8::ffff", 100) > 0
    assert failures.wait_s("2001:db8:0:1::1", 100) == 0
    failures = Failures(RATES)
    for _ in range(3):
        failures.note("::ffff:192.0.2.1", 100)
    assert failures.wait_s("192.0.2.1", 100) > 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    failures = Failures(RATES)
    for _ in range(3):
        failures.note("x", 100)
    assert failures.wait_s("x", 50) == 2
