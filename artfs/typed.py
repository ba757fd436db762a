"""Typed decoding by msgspec, prepared by one thread at a time.

msgspec (0.22) notes with a class how its fields are decoded when somebody first asks for that, and before it has worked it out. A
second thread that asks meanwhile gets what is half done, and reads through null pointers: the process dies. So whatever may be
the first to decode a type in some thread goes through here; decoders that modules make when they are imported need not.

Nor does a process fork while anything is half done, as its child would have that for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_lock = threading.RLock()
_decoders: dict[Any, Callable[[bytes | str], Any]] = {}

os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def json_decoder(kind: Any) -> Callable[[bytes | str], Any]:
    """What makes a `kind` (a type, or what stands for one in an annotation) of JSON. It raises model.unreadable.UNREADABLE."""
    found = _decoders.get(kind)
    if found is None:
        with _lock:
            found = _decoders[kind] = msgspec.json.Decoder(kind).decode
    return found


def read_json(data: bytes | str, kind: type[T]) -> T:
    """Raises model.unreadable.UNREADABLE."""
    made: T = json_decoder(kind)(data)
    return made


def convert(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """A `kind` of what JSON may hold; as msgspec.convert. Raises msgspec.ValidationError."""
    with _lock:
        return msgspec.convert(value, kind, strict=strict)
