"""What decoders raise."""

from __future__ import annotations

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError)
"""All that a decoder of msgspec raises for bytes that nobody of ours has written: another shape, texts that are no UTF-8, times
that no calendar has, and lists nested too deeply. For `except`; whoever names the first alone has a traceback for the others."""


def read_number(text: str, most: int = 2**63 - 1) -> int | None:
    """A number >= 0 in decimal digits that somebody else wrote (a header, a line). None for anything else, and above `most`:
    `isdigit` holds for `²`, which `int` refuses, as it does more than 4,300 digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    number = int(text)
    return number if number <= most else None
