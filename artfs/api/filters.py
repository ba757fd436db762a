"""Filters of lists, in the reference's notation, which is MongoDB's: {"state": "finished", "config.lr": {"$gt": 0.1}}."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from artfs.errors import InvalidArgumentError

T = TypeVar("T")
_Test = Callable[[Any, Any], bool]


def _equal(value: Any, wanted: Any) -> bool:
    # As MongoDB has it: a list also equals what it holds.
    return value == wanted or (isinstance(value, list) and wanted in value)


def _ordered(compare: _Test) -> _Test:
    def test(value: Any, wanted: Any) -> bool:
        try:
            return value is not None and compare(value, wanted)
        except TypeError:
            return False

    return test


def _matches(value: Any, pattern: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(item, str) and re.search(pattern, item) is not None for item in values)


_TESTS: dict[str, _Test] = {
    "$eq": _equal,
    "$ne": lambda value, wanted: not _equal(value, wanted),
    "$gt": _ordered(lambda value, wanted: value > wanted),
    "$gte": _ordered(lambda value, wanted: value >= wanted),
    "$lt": _ordered(lambda value, wanted: value < wanted),
    "$lte": _ordered(lambda value, wanted: value <= wanted),
    "$in": lambda value, wanted: any(_equal(value, item) for item in wanted),
    "$nin": lambda value, wanted: not any(_equal(value, item) for item in wanted),
    "$regex": _matches,
    "$contains": lambda value, wanted: isinstance(value, str) and wanted in value,
    "$exists": lambda value, wanted: (value is not None) == bool(wanted),
}


class Filter:
    """A checked filter. An empty one (None, {}) lets everything through, and is false."""

    def __init__(self, filters: Mapping[str, Any] | None) -> None:
        """Raises InvalidArgumentError for an unknown operator and a bad regular expression, TypeError."""
        _check(filters if filters is not None else {})
        self._filters = dict(filters or {})

    def __bool__(self) -> bool:
        return bool(self._filters)

    def accepts(self, field: Callable[[str], Any]) -> bool:
        """Whether an item passes; `field` gives its values by name (None: it has none)."""
        return _accepts(self._filters, field)

    def page(
        self,
        ask: Callable[[str | None, int], tuple[Sequence[T], str | None]],
        field: Callable[[T, str], Any],
        cursor: str | None,
        size: int,
    ) -> tuple[list[T], str | None]:
        """The next page of what passes: asks for pages until one holds something, or there are no more."""
        while True:
            items, after = ask(cursor, size)
            passed = [item for item in items if self.accepts(lambda name, item=item: field(item, name))]  # type: ignore[misc]
            if passed or after is None:
                return passed, after
            cursor = after


def _accepts(filters: Mapping[str, Any], field: Callable[[str], Any]) -> bool:
    return all(_accepts_one(key, wanted, field) for key, wanted in filters.items())


def _accepts_one(key: str, wanted: Any, field: Callable[[str], Any]) -> bool:
    match key:
        case "$and":
            return all(_accepts(part, field) for part in wanted)
        case "$or":
            return any(_accepts(part, field) for part in wanted)
        case "$nor":
            return not any(_accepts(part, field) for part in wanted)
        case "$not":
            return not _accepts(wanted, field)
    return _passes(field(key), wanted)


def _passes(value: Any, wanted: Any) -> bool:
    if not _is_condition(wanted):
        return _equal(value, wanted)
    return all(
        not _passes(value, argument) if operator == "$not" else _TESTS[operator](value, argument)
        for operator, argument in wanted.items()
    )


def _is_condition(wanted: Any) -> bool:
    return isinstance(wanted, Mapping) and any(str(key).startswith("$") for key in wanted)


def _check(filters: Any) -> None:
    if not isinstance(filters, Mapping):
        raise TypeError(f"a filter is a dict, not {type(filters).__name__}")
    for key, wanted in filters.items():
        if key in ("$and", "$or", "$nor"):
            if not isinstance(wanted, list | tuple):
                raise TypeError(f"{key} takes a list of filters, not {type(wanted).__name__}")
            for part in wanted:
                _check(part)
        elif key == "$not":
            _check(wanted)
        elif str(key).startswith("$"):
            raise InvalidArgumentError(f"unknown operator {key!r} in a filter")
        else:
            _check_condition(wanted)


def _check_condition(wanted: Any) -> None:
    if not _is_condition(wanted):
        return
    for operator, argument in wanted.items():
        if operator == "$not":
            _check_condition(argument)
        elif operator not in _TESTS:
            known = ", ".join([*_TESTS, "$not", "$and", "$or", "$nor"])
            raise InvalidArgumentError(f"unknown operator {operator!r} in a filter; known are {known}")
        elif operator in ("$in", "$nin") and not isinstance(argument, list | tuple | set):
            raise TypeError(f"{operator} takes a list, not {type(argument).__name__}")
        elif operator == "$regex":
            try:
                re.compile(argument)
            except re.error as error:
                raise InvalidArgumentError(f"bad regular expression {argument!r} in a filter: {error}") from None
