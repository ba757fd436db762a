"""What runs log: values that become JSON, whatever they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from artfs.model.metadata import MAX_NESTING

MAX_ITEMS = 1000
"""Arrays with more items are logged by their type and shape only."""


def plain(value: object, depth: int = 0) -> Any:
    """`value` as JSON knows it. Whatever is passed to `Run.log` is logged somehow: a training run must not end because of a
    value that has no JSON form.

    NaN and the infinities become the texts "NaN", "Infinity" and "-Infinity"; NumPy's and PyTorch's scalars numbers; arrays
    lists, large ones an object with their type and shape; anything else an object with its type, and its text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value).encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if depth < MAX_NESTING:
        if isinstance(value, Mapping):
            return {str(key): plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [plain(item, depth + 1) for item in value]
        shape, tolist = getattr(value, "shape", None), getattr(value, "tolist", None)
        if isinstance(shape, tuple) and callable(tolist):
            if math.prod(shape) <= MAX_ITEMS:
                return plain(tolist(), depth + 1)
            return {"_type": type(value).__name__, "shape": [int(length) for length in shape]}
    return {"_type": type(value).__name__, "text": repr(value)[:MAX_ITEMS]}
