"""From a method and a raw path to an endpoint, from a query, a body and a header to values. Pure.

Parts of a path are decoded one by one, after it was taken apart at its slashes: `%2F` in a name is no slash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from artfs.errors import InvalidArgumentError, NotFoundError, UsageError
from artfs.model.unreadable import UNREADABLE
from artfs.server.calls import Endpoint
from artfs.typed import convert
from artfs.wire import bodies
from artfs.wire.routes import argument_type

_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_MAX_PAIRS = 1000
_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{0,19})")
_SUFFIX = re.compile(r"bytes=-(\d{1,19})")


@dataclass(slots=True)
class _Node:
    fixed: dict[str, _Node] = field(default_factory=dict)
    free: _Node | None = None
    endpoints: dict[str, Endpoint] = field(default_factory=dict)


class Matcher:
    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._root = _Node()
        for endpoint in endpoints:
            node = self._root
            for part in endpoint.route.path.strip("/").split("/"):
                if part.startswith("{"):
                    node.free = node.free or _Node()
                    node = node.free
                else:
                    node = node.fixed.setdefault(part, _Node())
            assert endpoint.route.method not in node.endpoints, endpoint.route
            node.endpoints[endpoint.route.method] = endpoint

    def find(self, method: str, raw_path: bytes) -> tuple[Endpoint, dict[str, Any]] | tuple[None, list[str]]:
        """The endpoint and its arguments; or None and the methods that the path does have. Raises NotFoundError for a path that
        is none of ours."""
        parts = [_decoded(part) for part in raw_path.removeprefix(b"/").split(b"/")]
        found = self._walk(self._root, parts, 0, [])
        if found is None:
            raise NotFoundError("there is no such call; /v1/openapi.json describes those that there are")
        node, values = found
        endpoint = node.endpoints.get(method)
        if endpoint is None:
            return None, sorted(node.endpoints)
        arguments: dict[str, Any] = {}
        for name, value in zip(endpoint.route.arguments, values, strict=True):
            if argument_type(name) is int:
                if _NUMBER.fullmatch(value) is None:
                    raise NotFoundError(f"{name} is a number, not {value[:40]!r}")
                arguments[name] = int(value)
            else:
                arguments[name] = value
        return endpoint, arguments

    def _walk(self, node: _Node, parts: list[str], at: int, values: list[str]) -> tuple[_Node, list[str]] | None:
        if at == len(parts):
            return (node, values) if node.endpoints else None
        fixed = node.fixed.get(parts[at])
        if fixed is not None and (found := self._walk(fixed, parts, at + 1, values)) is not None:
            return found
        if node.free is not None and parts[at]:
            return self._walk(node.free, parts, at + 1, [*values, parts[at]])
        return None


def _decoded(part: bytes) -> str:
    try:
        return unquote_to_bytes(part).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise NotFoundError("there is no such call: its path is no UTF-8") from None


def read_query(query_string: bytes, kind: type[bodies.Query]) -> bodies.Query:
    """Raises InvalidArgumentError."""
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query_string), encoding="utf-8",
            errors="surrogatepass", max_num_fields=_MAX_PAIRS,
        )
    except ValueError:
        raise InvalidArgumentError("the query cannot be read") from None
    values: dict[str, Any] = {}
    types = {info.name: info.type for info in msgspec.structs.fields(kind)}
    for name, text in pairs:
        wanted = types.get(name)
        if wanted == list[str]:
            values.setdefault(name, []).append(text)
        elif name in values:
            raise InvalidArgumentError(f"{name[:40]!r} stands in the query twice")
        else:
            values[name] = _read_value(name, text, wanted)
    try:
        return convert(values, kind)
    except msgspec.ValidationError as error:
        raise InvalidArgumentError(f"bad query: {error}") from None


def _read_value(name: str, text: str, wanted: Any) -> Any:
    if wanted is None or wanted is str or str in get_args(wanted) or get_origin(wanted) is Literal:
        return text
    # What is left out is null; the word is none.
    if text.lower() == "null":
        raise InvalidArgumentError(f"bad query: {name} cannot be 'null'; leave it out")
    try:
        # Not strict: a number may be written as a text. But no time is a number.
        return convert(text, wanted, strict=bodies.Time in (wanted, *get_args(wanted)))
    except msgspec.ValidationError as error:
        raise InvalidArgumentError(f"bad query: {name}: {error}") from None


def read_body(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """A body of JSON. Raises UsageError."""
    try:
        return decode(body)
    except RecursionError:
        raise UsageError("bad body: it is nested too deeply") from None
    except UNREADABLE as error:
        raise UsageError(f"bad body: {error}") from None


def read_range(asked: str | None, size: int) -> tuple[int, int] | None:
    """(offset, nbytes) of a Range header; None when nothing of it is there. Several ranges, and what is no range, are all of it,
    as RFC 9110 14.2 allows."""
    if asked is None:
        return 0, size
    if found := _RANGE.fullmatch(asked.strip()):
        first, last = int(found[1]), int(found[2] or size - 1)
        if first >= size or last < first:
            return None
        return first, min(last + 1, size) - first
    if found := _SUFFIX.fullmatch(asked.strip()):
        nbytes = min(int(found[1]), size)
        return (size - nbytes, nbytes) if nbytes else None
    raise UsageError(f"this server understands one range of bytes, not {asked[:100]!r}")
