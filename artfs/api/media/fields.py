"""Reading a value's JSON. Somebody else may have written it, so nothing in it is believed before it is checked."""

from __future__ import annotations

from typing import Any, TypeVar

from artfs.errors import BadObjectError

T = TypeVar("T")

_WORDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


def as_text(given: object) -> str | None:
    """A caption as somebody gives it."""
    return None if given is None else str(given)


def as_number(given: Any) -> Any:
    """One of numpy's as Python's; anything else as it is."""
    return given.item() if type(given).__module__ == "numpy" and hasattr(given, "item") else given


def bad(what: str) -> BadObjectError:
    """To be raised. The digest of the file is added by whoever knows it."""
    return BadObjectError(what)


def as_object(given: object, kind: str) -> dict[str, Any]:
    """`given` if it is a JSON object that says it is of that kind."""
    if not isinstance(given, dict) or given.get("_type") != kind:
        raise bad(f"this is no JSON of a {kind}")
    return given


def required(given: dict[str, Any], key: str, wanted: type[T]) -> T:
    value = optional(given, key, wanted)
    if value is None:
        raise bad(f"{key!r} is missing")
    return value


def optional(given: dict[str, Any], key: str, wanted: type[T]) -> T | None:
    """None when it is missing or null."""
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise bad(f"{key!r} must be {_WORDS[wanted]}")
    return value
