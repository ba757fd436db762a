"""What runs log: values that become JSON, whatever they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from artfs.model.metadata import MAX_NESTING, SURELY_SHOWN

MAX_ITEMS = 1000
"""Arrays with more items are logged by their type and shape only."""


def plain(value: object, depth: int = 0) -> Any:
    """`value` as JSON knows it. Whatever is passed to `Run.log` is logged somehow: a training run must not end because of a
    value that has no JSON form, nor lose what waits to be sent with it.

    NaN and the infinities become the texts "NaN", "Infinity" and "-Infinity"; NumPy's and PyTorch's scalars numbers; arrays
    lists, large ones an object with their type and shape; anything else an object with its type, and its text. What raises
    when it is asked for these says so instead.
    """
    try:
        return _plain(value, depth)
    except Exception as error:  # of the value's own making
        return {"_type": type(value).__name__, "text": _not_shown(error)}


def name_of(key: object) -> str:
    """The name under which a value is logged."""
    try:
        return _text(str(key))
    except Exception as error:
        return _not_shown(error)


def _plain(value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if value.bit_length() > SURELY_SHOWN:
            str(int(value))  # raises ValueError when it has more digits than Python makes or reads
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if depth < MAX_NESTING:
        if isinstance(value, Mapping):
            return {name_of(key): plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [plain(item, depth + 1) for item in value]
        shape, tolist = getattr(value, "shape", None), getattr(value, "tolist", None)
        if isinstance(shape, tuple) and callable(tolist):
            if math.prod(shape) <= MAX_ITEMS:
                return plain(tolist(), depth + 1)
            return {"_type": type(value).__name__, "shape": [int(length) for length in shape]}
    return {"_type": type(value).__name__, "text": _text(repr(value)[:MAX_ITEMS])}


def _text(value: str) -> str:
    return str.__str__(value).encode("utf-8", "replace").decode()


def _not_shown(error: Exception) -> str:
    return f"(it cannot be shown: {type(error).__name__})"
