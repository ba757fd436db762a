"""Filters of lists."""

from __future__ import annotations

from typing import Any

import pytest

from artfs.api.filters import Filter
from artfs.errors import InvalidArgumentError

ITEM = {"name": "cars", "n": 3, "tags": ["a", "b"], "none": None}


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        (None, True),
        ({}, True),
        ({"name": "cars"}, True),
        ({"name": "boats"}, False),
        ({"name": "cars", "n": 4}, False),
        ({"n": {"$gt": 2, "$lt": 4}}, True),
        ({"n": {"$gte": 3, "$lte": 3}}, True),
        ({"n": {"$gt": 3}}, False),
        ({"n": {"$gt": "x"}}, False),
        ({"none": {"$lt": 3}}, False),
        ({"n": {"$ne": 4}}, True),
        ({"n": {"$in": [1, 3]}}, True),
        ({"n": {"$nin": [1, 3]}}, False),
        ({"tags": "a"}, True),
        ({"tags": {"$in": ["x", "b"]}}, True),
        ({"tags": {"$nin": ["x"]}}, True),
        ({"tags": {"$regex": "^b$"}}, True),
        ({"name": {"$regex": "^ca"}}, True),
        ({"name": {"$regex": "^ar"}}, False),
        ({"n": {"$regex": "3"}}, False),
        ({"name": {"$contains": "ar"}}, True),
        ({"none": {"$exists": False}}, True),
        ({"n": {"$exists": True}}, True),
        ({"n": {"$not": {"$gt": 3}}}, True),
        ({"$not": {"n": 3}}, False),
        ({"$and": [{"n": 3}, {"name": "cars"}]}, True),
        ({"$or": [{"n": 4}, {"name": "cars"}]}, True),
        ({"$or": [{"n": 4}, {"name": "boats"}]}, False),
        ({"$nor": [{"n": 4}]}, True),
    ],
)
def test_what_passes(filters: Any, passes: bool) -> None:
    assert Filter(filters).accepts(lambda name: ITEM[name]) is passes
    assert bool(Filter(filters)) is bool(filters)


@pytest.mark.parametrize(
    ("filters", "error"),
    [
        ({"n": {"$near": 3}}, InvalidArgumentError),
        ({"$xor": []}, InvalidArgumentError),
        ({"n": {"$regex": "("}}, InvalidArgumentError),
        ({"$or": [{"n": {"$not": {"$x": 1}}}]}, InvalidArgumentError),
        ({"$and": {"n": 3}}, TypeError),
        ({"n": {"$in": 3}}, TypeError),
        (["n"], TypeError),
    ],
)
def test_what_is_no_filter(filters: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Filter(filters).accepts(lambda name: ITEM[name])


def test_pages_that_hold_nothing_that_passes_are_skipped() -> None:
    def ask(cursor: str | None, size: int) -> tuple[list[int], str | None]:
        first = int(cursor or 0)
        return list(range(first, first + size)), str(first + size) if first + size < 10 else None

    def field(item: int, name: str) -> int:
        return item

    assert Filter({"n": {"$gte": 5}}).page(ask, field, None, 2) == ([5], "6")
    assert Filter({"n": {"$gte": 50}}).page(ask, field, None, 2) == ([], None)
    assert Filter(None).page(ask, field, "4", 2) == ([4, 5], "6")
