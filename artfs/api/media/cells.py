"""Cells of tables: as people give them, as a table keeps them, and as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from artfs.api.media.base import Sink, Source, Value
from artfs.api.media.fields import bad
from artfs.api.media.types import (
    ANY,
    INLINE_ITEMS,
    NONE,
    TIMESTAMP,
    DictOf,
    Images,
    ListOf,
    Plain,
    PythonObject,
    Raw,
    TableCells,
    Type,
    Union,
    is_array,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_AS_THEY_ARE = frozenset({type(None), bool, int, float, str})


def clean(value: Any) -> Any:
    """What a table keeps of a cell: numpy's scalars as Python's, missing values of pandas as None, lists for tuples,
    sets and short arrays. Raises TypeError for bytes that are no UTF-8, and for objects that are none of these."""
    kind = type(value)
    if kind in _AS_THEY_ARE or isinstance(value, Value | datetime | date):
        return None if kind.__name__ == "NaTType" else value
    if kind.__name__ == "NAType":
        return None
    if isinstance(value, Mapping):
        return {str(key): clean(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [clean(part) for part in value]
    if isinstance(value, set | frozenset):
        return [clean(part) for part in sorted(value, key=lambda part: (type(part).__name__, part))]
    if isinstance(value, bytes):
        try:
            value.decode()
        except UnicodeDecodeError:
            raise TypeError("a table holds bytes only if they are text (UTF-8); add others as a file") from None
        return value
    if hasattr(value, "detach"):  # a tensor
        return clean(value.detach().cpu().numpy())
    if is_array(value):
        return _clean_array(value)
    if kind.__module__ == "numpy" and hasattr(value, "item"):
        return _clean_array(value)
    return value


def _clean_array(value: Any) -> Any:
    if value.dtype.kind == "M":
        value = value.astype("datetime64[us]")  # nanoseconds would become plain numbers
    if value.ndim == 0:
        return clean(value.item())
    short = value.ndim == 1 and value.size <= INLINE_ITEMS
    return clean(value.tolist()) if short or value.dtype.kind == "O" else value


def milliseconds(moment: date) -> int:
    """Since 1970, UTC. A time without a zone is UTC; a day is its first moment."""
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MILLISECOND


def encode(value: Any, sink: Sink) -> Any:
    """A cell's JSON. NaN is null, as JSON has none."""
    if type(value) in _AS_THEY_ARE:
        return None if isinstance(value, float) and math.isnan(value) else value
    if isinstance(value, Value):
        return value.to_json(sink)
    if isinstance(value, date):
        return milliseconds(value)
    if isinstance(value, list):
        return [encode(part, sink) for part in value]
    if isinstance(value, dict):
        return {key: encode(part, sink) for key, part in value.items()}
    if isinstance(value, bytes):
        return value.decode()
    if is_array(value):
        return encode(value.tolist(), sink)
    return value


Decode = Callable[[Any], Any]


def decoder(type_: Type, source: Source) -> Decode | None:
    """What makes a cell of its JSON; None: nothing need be done."""
    if isinstance(type_, Union):
        rest = [member for member in type_.members if member != NONE]
        found = decoder(rest[0], source) if len(rest) == 1 else _value_decoder(source)
        return None if found is None else _unless_none(found)
    if type_ == TIMESTAMP:
        return _moment
    if isinstance(type_, ListOf):
        part = decoder(type_.element, source)
        return None if part is None else _list_decoder(part)
    if isinstance(type_, DictOf):
        parts = {name: decoder(part, source) for name, part in type_.fields}
        return _dict_decoder({name: part for name, part in parts.items() if part is not None})
    if type_ == PythonObject("bytes"):
        return lambda cell: cell.encode() if isinstance(cell, str) else cell
    if isinstance(type_, Images | TableCells | Raw) or type_ == ANY or (isinstance(type_, Plain) and "-" in type_.name):
        return _value_decoder(source)
    return None


def _unless_none(decode: Decode) -> Decode:
    return lambda cell: None if cell is None else decode(cell)


def _moment(cell: Any) -> Any:
    if not isinstance(cell, int | float):
        raise bad("a timestamp must be a number of milliseconds")
    try:
        return _EPOCH + cell * _MILLISECOND
    except (OverflowError, ValueError):
        raise bad(f"{cell} ms is no time") from None


def _list_decoder(part: Decode) -> Decode:
    return lambda cell: [part(item) for item in cell] if isinstance(cell, list) else cell


def _dict_decoder(parts: dict[str, Decode]) -> Decode | None:
    if not parts:
        return None

    def decode(cell: Any) -> Any:
        if not isinstance(cell, dict):
            return cell
        return {key: parts[key](value) if key in parts else value for key, value in cell.items()}

    return decode


def _value_decoder(source: Source) -> Decode:
    def decode(cell: Any) -> Any:
        if isinstance(cell, dict):
            found = source.inline(cell)
            return cell if found is None else found
        return [decode(item) for item in cell] if isinstance(cell, list) else cell

    return decode


def comparable(value: Any) -> Any:
    """What makes two cells equal: the same once they have been stored."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, date):
        return milliseconds(value)
    if isinstance(value, list):
        return [comparable(part) for part in value]
    if isinstance(value, dict):
        return {key: comparable(part) for key, part in value.items()}
    return comparable(value.tolist()) if is_array(value) else value
