"""An answer, whichever library got it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """To one request, whatever it says. `headers`: by any case of their names. `pieces`: its body, as it comes."""

    status: int
    headers: Mapping[str, str]
    host: str
    pieces: Iterator[bytes]
