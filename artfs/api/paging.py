"""Lists that are fetched page by page: `artifact.files()`, `Api().artifacts(…)` and their like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

from artfs.errors import InvalidArgumentError

T = TypeVar("T")

Page = tuple[Sequence[T], str | None]
"""Items, and the cursor after the last of them (None: it is the last item there is)."""


class Paginator(Generic[T]):
    """An iterator that can also be indexed, sliced and measured. Pages are fetched when they are needed, and
    kept. `for` begins at its first item each time. Not thread-safe."""

    def __init__(
        self,
        fetch: Callable[[str | None, int], Page[T]],
        *,
        per_page: int,
        start: str | None = None,
        count: Callable[[], int] | None = None,
    ) -> None:
        """Fetches nothing yet.

        Arguments:
            fetch: the page of at most so many items after a cursor (None: from the beginning).
            per_page: items in a page, > 0.
            start: a cursor (see `cursor`) of another list of the same things: this one begins there.
            count: how many items there are, from the beginning; None: found out by fetching all.
        Raises InvalidArgumentError.
        """
        if per_page < 1:
            raise InvalidArgumentError(f"per_page must be at least 1, not {per_page}")
        self.per_page = per_page
        self._fetch = fetch
        self._count = count if start is None else None
        self._items: list[T] = []
        self._cursor = start
        self._more = True
        self._next = 0

    @property
    def cursor(self) -> str | None:
        """Where the last page that was fetched ends: text that another call takes as `start`. None before the
        first page."""
        return self._cursor

    @property
    def more(self) -> bool:
        """Whether there may be items that were not fetched yet."""
        return self._more

    def __iter__(self) -> Iterator[T]:
        self._next = 0
        return self

    def __next__(self) -> T:
        self._load(self._next + 1)
        if self._next >= len(self._items):
            raise StopIteration
        self._next += 1
        return self._items[self._next - 1]

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, int):
            self._load(index + 1 if index >= 0 else None)
        else:
            ends = (index.start or 0, -1 if index.stop is None else index.stop, index.step or 1)
            self._load(max(ends[:2]) if min(ends) >= 0 else None)
        return self._items[index]

    def __len__(self) -> int:
        if self._count is not None:
            return self._count()
        self._load(None)
        return len(self._items)

    def __bool__(self) -> bool:
        self._load(1)
        return bool(self._items)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._items)} fetched{', more to come' if self._more else ''}>"

    def _load(self, wanted: int | None) -> None:
        """Fetches until there are so many items (None: all), or no more."""
        while self._more and (wanted is None or len(self._items) < wanted):
            items, cursor = self._fetch(self._cursor, self.per_page)
            self._items += items
            self._more = cursor is not None and bool(items)
            if cursor is not None:
                self._cursor = cursor
