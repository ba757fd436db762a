"""The metadata of an artifact: a JSON object within limits, detached from the caller's values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from artfs.errors import InvalidMetadataError, MetadataTypeError

MAX_KEYS = 100
"""Most keys at the top level; nested objects may have more."""

MAX_NESTING = 100
"""Most objects and lists inside each other."""

SURELY_SHOWN = 2000
"""Bits of a whole number that has fewer digits than the least limit that Python can be given (640)."""


def check_metadata(value: object) -> dict[str, Any]:
    """A deep copy of `value` as JSON knows it: a dict, a JSON text that spells an object, or None or "" for
    {}.

    NaN becomes None, keys become str, tuples and sets lists, bytes str, times ISO 8601 text, slices, NumPy values and
    logged Artifacts their plain forms. Raises InvalidMetadataError (a ValueError) for text that is not JSON, more than 100
    keys at the top, an infinity, or nesting over 100 levels; MetadataTypeError (a TypeError, too) for JSON text of
    anything but an object; TypeError for a `value` of another type or something inside that has no JSON form.
    """
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidMetadataError(f"the metadata is not valid JSON: {error}") from None
        if not isinstance(value, dict):
            raise MetadataTypeError('the metadata must be a JSON object, such as {"epochs": 3}')
    if not isinstance(value, Mapping):
        raise TypeError(f"metadata must be a dict (or its JSON text), not {type(value).__name__}")
    if len(value) > MAX_KEYS:
        raise InvalidMetadataError(
            f"the metadata has {len(value)} keys at the top level; at most {MAX_KEYS} are allowed"
        )
    return check_json(value, "metadata")


def check_json(value: Mapping[Any, Any], what: str) -> dict[str, Any]:
    """As check_metadata, but for any number of keys. `what` stands for the value in messages."""
    plain: dict[str, Any] = _plain(value, _Where(what), 0)
    return plain


def same_json(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two results of `check_json` are the same JSON. Python takes 1, 1.0 and True for equal, which JSON does not."""
    return one == other and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


class _Where:
    """A place in a value. It is put into words only when somebody has to be told: for each of a million items below a long key
    that would take hours."""

    __slots__ = ("_above", "_key")

    def __init__(self, key: object, above: _Where | None = None) -> None:
        self._key = key
        self._above = above

    def __str__(self) -> str:
        parts: list[str] = []
        at = self
        while at._above is not None:
            parts.append(f"[{str(at._key)[:60]!r}]" if isinstance(at._key, str) else f"[{at._key!r}]"[:60])
            at = at._above
        return str(at._key) + "".join(reversed(parts))


def _text(value: str, where: _Where, what: str = "") -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMetadataError(f"{what}{where} is text that UTF-8 cannot encode") from None
    return value


def _number(value: int, where: _Where) -> int:
    if value.bit_length() > SURELY_SHOWN:
        try:
            str(value)
        except ValueError:
            raise InvalidMetadataError(f"{where} is a number of more digits than Python writes or reads") from None
    return value


def _key(key: object, where: _Where) -> str:
    if isinstance(key, str):
        return _text(str.__str__(key), where, "a key of ")
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(key)
    raise TypeError(f"a key of {where} is a {type(key).__name__}; keys must be text or numbers")


def _plain(value: object, where: _Where, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value), where)  # not str(): an Enum that is a str has another one
    if isinstance(value, int):
        return _number(int(value), where)
    if isinstance(value, float):
        if math.isinf(value):
            raise InvalidMetadataError(f"{where} is infinite, which JSON cannot hold")
        return None if math.isnan(value) else float(value)
    if depth > MAX_NESTING:
        raise InvalidMetadataError(
            f"{str(where)[:60]}… is nested more than {MAX_NESTING} levels deep (or holds itself)"
        )
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(item, _Where(key, where), depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, _Where(at, where), depth + 1) for at, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        # A set has no order; sorting makes equal metadata equal text.
        return sorted(
            (_plain(item, where, depth + 1) for item in value),
            key=lambda item: (type(item).__name__, str(item)),
        )
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, slice):
        return {
            "slice_start": _plain(value.start, where, depth + 1),
            "slice_stop": _plain(value.stop, where, depth + 1),
            "slice_step": _plain(value.step, where, depth + 1),
        }
    # NumPy arrays and scalars (and what imitates them) know their plain form, and so do Artifacts; nothing is imported.
    for name in ("tolist", "json_encode"):
        plain_form = getattr(value, name, None)
        if callable(plain_form) and not isinstance(value, type):
            return _plain(plain_form(), where, depth + 1)
    raise TypeError(f"{where} is a {type(value).__name__}, which has no JSON form")
