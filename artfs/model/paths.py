"""Paths inside an artifact: the one normaliser and validator that every entry's path goes through.

A path is text as `os.fsdecode` makes it (names that are not UTF-8 hold surrogate escapes and survive), "/"
between its components, never absolute, never with `..`.
"""

from __future__ import annotations

import os
import re

from artfs.errors import InvalidNameError
from artfs.model.entry import wrong_name

_SEPARATORS = re.compile(r"[/\\]")
_DRIVE = re.compile(r"[A-Za-z]:")


def check_component(name: bytes) -> bytes:
    """Returns `name` if it may name an entry of a directory: not empty, `.` or `..`; no '/', no NUL; at most
    255 bytes.

    Raises InvalidNameError.
    """
    wrong = wrong_name(name)
    if wrong is not None:
        raise InvalidNameError(f"a directory cannot hold {wrong}")
    return name


def check_path(path: str | os.PathLike[str] | os.PathLike[bytes] | bytes) -> str:
    """The path in its one spelling: `./x//y/` becomes `x/y`. Nothing else is changed: no Unicode
    normalisation, no case folding, backslashes and colons stay.

    Raises InvalidNameError for: an empty path or `.`; an absolute one, also by the rules of Windows (`C:x`,
    `\\x`); any `..` (also between backslashes); a NUL; a component of more than 255 bytes. TypeError for what
    is no path.
    """
    text = os.fsdecode(path)
    parts = [part for part in text.split("/") if part not in ("", ".")]

    def bad(why: str) -> InvalidNameError:
        return InvalidNameError(
            f"invalid artifact path {text if len(text) < 200 else text[:200] + '…'!r}: {why}"
        )

    if not parts:
        if text.startswith("/"):
            raise bad("it must be relative")
        raise bad("it names no file")
    if text[0] in "/\\" or parts[0][0] == "\\":
        raise bad("it must be relative")
    if _DRIVE.match(text) or _DRIVE.match(parts[0]):
        raise bad("it begins with a drive letter; a path inside an artifact must be relative")
    if ".." in text and ".." in _SEPARATORS.split(text):
        raise bad("'..' is not allowed")
    for part in parts:
        try:
            wrong = wrong_name(os.fsencode(part))
        except UnicodeEncodeError:
            raise bad("it holds text that cannot be a file name") from None
        if wrong is not None:
            raise bad(f"{wrong} is not allowed")
    return "/".join(parts)
