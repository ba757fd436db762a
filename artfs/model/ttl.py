"""How long versions live. Pure values; seconds are whole, as catalogs keep them."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import Enum
from typing import TypeAlias

from artfs.errors import InvalidArgumentError

MAX_TTL = timedelta(days=36_500)
"""The longest, a hundred years: the moment of expiry must be one that a date can hold."""


class ArtifactTTL(Enum):
    """`INHERIT`: no policy of one's own, that of the project (or else of the entity) counts. The reference's name."""

    INHERIT = 0


Ttl: TypeAlias = timedelta | ArtifactTTL | None
"""A policy: a duration (counted from the commit), None (never expires, whatever the defaults say), or INHERIT."""

INHERIT = ArtifactTTL.INHERIT


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def check_ttl(ttl: Ttl) -> Ttl:
    """Returns `ttl` if a version may have it, in whole seconds (the rest is cut off).

    Raises InvalidArgumentError (a ValueError) for less than a second and for more than MAX_TTL, TypeError for what is no
    policy.
    """
    if ttl is None or isinstance(ttl, ArtifactTTL):
        return ttl
    if not isinstance(ttl, timedelta):
        raise TypeError(f"a ttl is a timedelta, None or ArtifactTTL.INHERIT, not {type(ttl).__name__}")
    whole = timedelta(days=ttl.days, seconds=ttl.seconds)
    if whole <= timedelta(0):
        raise InvalidArgumentError(f"a ttl must be at least a second, not {ttl}; None means that nothing expires")
    if whole > MAX_TTL:
        raise InvalidArgumentError(f"a ttl of {ttl.days} days is too long; None means that nothing expires")
    return whole


def parse_ttl(text: str) -> Ttl:
    """Reads a policy. Raises InvalidArgumentError."""
    if text == "never":
        return None
    if text == "inherit":
        return INHERIT
    found = re.fullmatch(r"([0-9]{1,8})([smhdw])", text)
    if found is None:
        raise InvalidArgumentError(f"bad ttl {text!r}: write a time such as 30d (s, m, h, d, w), never, or inherit")
    return check_ttl(timedelta(seconds=int(found[1]) * _UNITS[found[2]]))


def ttl_text(policy: Ttl) -> str:
    """A policy as `parse_ttl` reads it."""
    if isinstance(policy, ArtifactTTL):
        return "inherit"
    if policy is None:
        return "never"
    seconds = policy // timedelta(seconds=1)
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"
