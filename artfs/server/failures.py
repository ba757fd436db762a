"""How often somebody may come with a token that is none. Pure: time is an argument.

Guessing a token of 256 bits is hopeless; the limit is there so that trying costs the database and the log little. Each address
has a bucket of tries that fills up again with time, and there is one for all addresses together. IPv6 counts by /64, which one
customer has as a whole. Addresses are forgotten, the one that failed longest ago first, when there are too many.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FailureRates:
    """`burst` failures at once, then `per_s` in a second; of an address, and of all together."""

    burst: float = 20
    per_s: float = 0.2
    overall_burst: float = 500
    overall_per_s: float = 20
    addresses: int = 10_000


class Failures:
    def __init__(self, rates: FailureRates | None = None) -> None:
        self._rates = rates or FailureRates()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._overall: tuple[float, float] | None = None

    def __len__(self) -> int:
        """Of how many addresses something is kept."""
        return len(self._left)

    def wait_s(self, address: str, now: float) -> float:
        """How long a caller without a known token has to wait, in seconds; 0: it may try. `now`: monotonic seconds."""
        rates = self._rates
        mine = _missing(self._left.get(_network(address)), now, rates.burst, rates.per_s)
        return max(mine, _missing(self._overall, now, rates.overall_burst, rates.overall_per_s))

    def note(self, address: str, now: float) -> None:
        """That a try failed."""
        rates, key = self._rates, _network(address)
        self._left[key] = (_filled(self._left.get(key), now, rates.burst, rates.per_s) - 1, now)
        self._left.move_to_end(key)
        if len(self._left) > rates.addresses:
            self._left.popitem(last=False)
        self._overall = (_filled(self._overall, now, rates.overall_burst, rates.overall_per_s) - 1, now)


def _filled(state: tuple[float, float] | None, now: float, burst: float, per_s: float) -> float:
    if state is None:
        return burst
    left, at = state
    return min(burst, left + max(0.0, now - at) * per_s)


def _missing(state: tuple[float, float] | None, now: float, burst: float, per_s: float) -> float:
    return max(0.0, (1 - _filled(state, now, burst, per_s)) / per_s)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
