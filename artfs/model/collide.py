"""Names that are different here but one name elsewhere: on file systems that fold case or normalise Unicode
(macOS, Windows, some network shares) only one of them could be checked out."""

from __future__ import annotations

from collections.abc import Iterable
from unicodedata import normalize


def folded(name: str) -> str:
    """What `name` is where neither case nor the form of accented letters matters. Equal results collide."""
    return name.lower() if name.isascii() else normalize("NFC", normalize("NFD", name).casefold())


def case_collisions(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The groups of two or more of `names` (of one directory) that collide; each sorted, and all of them."""
    groups: dict[str, str | set[str]] = {}
    for name in names:
        key = folded(name)
        there = groups.setdefault(key, name)
        if isinstance(there, set):
            there.add(name)
        elif there != name:
            groups[key] = {there, name}
    return sorted(tuple(sorted(group)) for group in groups.values() if isinstance(group, set))
