"""Long lists in pages. A cursor is text that names a place in an order, not a page number: what is added or removed in
between shifts nothing."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from artfs.errors import InvalidArgumentError

T = TypeVar("T")

MAX_LIMIT = 10_000
"""The largest page."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page of a list.

    `order`: a column, with `-` before it for descending; the list's own documentation says which there are, and ties are
    broken by age. `limit`: at most this many items, >= 1. `after`: the cursor of the page before, None for the first.
    """

    order: str
    limit: int = 50
    after: str | None = None

    @property
    def column(self) -> str:
        return self.order.lstrip("+-")

    @property
    def descending(self) -> bool:
        return self.order.startswith("-")

    def check(self, columns: tuple[str, ...]) -> None:
        """Raises InvalidArgumentError for another order than by one of `columns`, and for a bad limit."""
        if self.column not in columns or self.order not in (self.column, f"+{self.column}", f"-{self.column}"):
            raise InvalidArgumentError(
                f"bad order {self.order!r}: the orders are {', '.join(columns)}, each with '-' before it for descending"
            )
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidArgumentError(f"a page cannot have {self.limit} items; it has 1 to {MAX_LIMIT}")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`items` of the list, and the `cursor` to ask for those after them (None: there are no more). `total`: how many there
    are in all; None on every page but the first."""

    items: tuple[T, ...]
    cursor: str | None
    total: int | None


def make_cursor(request: PageRequest, value: int | str, id: int | str) -> str:
    """The cursor of the page that ends with the item of that `value` (of the order's column) and `id` (unique)."""
    place = json.dumps([request.column, request.descending, value, id], separators=(",", ":"))
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def read_cursor(request: PageRequest) -> tuple[int | str, int | str] | None:
    """(value, id) of the last item of the page before; None when there was none. Raises InvalidArgumentError for a cursor
    of another list or order."""
    if request.after is None:
        return None
    try:
        text = request.after + "=" * (-len(request.after) % 4)
        column, descending, value, id_ = json.loads(base64.b64decode(text, altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError):
        raise InvalidArgumentError(f"not a cursor: {request.after!r}") from None
    if (column, descending) != (request.column, request.descending) or not (_is_place(value) and _is_place(id_)):
        raise InvalidArgumentError(f"the cursor {request.after!r} is of another list, or of another order of this one")
    return value, id_


def _is_place(value: object) -> bool:
    """Whether it is what a column may hold: no database compares with a number of more than 64 bits."""
    return isinstance(value, str) or (type(value) is int and -(2**63) <= value < 2**63)
