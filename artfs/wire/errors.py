"""Errors as they travel: `{"kind": …, "message": …}` and the error's own fields (docs/wire.md, "Errors")."""

from __future__ import annotations

import inspect
from typing import Any

from artfs.errors import ArtfsError, all_kinds

_FIELDS = (str, int, float, tuple, list)


def error_fields(error: ArtfsError) -> dict[str, Any]:
    """What the other side needs to raise the same error again. `message` is text that UTF-8 can encode, whatever name of
    a user it quotes."""
    own = {
        name: value
        for name, value in vars(error).items()
        if name in _parameters(type(error)) and isinstance(value, _FIELDS)
    }
    return {**own, "kind": error.kind, "message": str(error).encode("utf-8", "backslashreplace").decode()}


def error_from(fields: dict[str, Any]) -> ArtfsError:
    """The error that `fields` stand for. A kind that this program does not know becomes an ArtfsError, a field of the wrong
    type is left out: it is the other side that wrote them."""
    cls = all_kinds().get(str(fields.get("kind")), ArtfsError)
    message = str(fields.get("message") or "the other side reported an error without a message")
    own: dict[str, Any] = {}
    for name, default in _parameters(cls).items():
        value = fields.get(name)
        if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(item, str) for item in value):
            own[name] = tuple(value)
        elif isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool):
            own[name] = float(value)
        elif isinstance(value, type(default)) and not isinstance(value, bool):
            own[name] = value
    return cls(message, **own)


def _parameters(cls: type[ArtfsError]) -> dict[str, Any]:
    """The fields of a class beside its message, with their defaults."""
    found = inspect.signature(cls.__init__).parameters
    return {name: parameter.default for name, parameter in found.items() if parameter.default is not parameter.empty}
