"""What changed between two versions, or a version and a draft, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from artfs.cli.output import escape, human_size, say
from artfs.cli.shapes import entry_shape
from artfs.model.entry import Entry, LinkEntry
from artfs.model.manifest import Change

LETTERS = {"added": "A", "changed": "M", "removed": "D"}


def _size(entry: Entry | None) -> int:
    return 0 if entry is None or isinstance(entry, LinkEntry) else entry.size or 0


def describe(change: Change) -> str:
    """One line: a letter (A added, M changed, D removed), the path, the size or sizes."""
    if change.old is None:
        sizes = human_size(_size(change.new))
    elif change.new is None:
        sizes = human_size(_size(change.old))
    else:
        sizes = f"{human_size(_size(change.old))} -> {human_size(_size(change.new))}"
    return f"{LETTERS[change.kind]}  {escape(change.path)}  ({sizes})"


def show_changes(changes: Iterable[Change], *, stat: bool) -> int:
    """Prints the changes as they come (with `stat` only their sum) and then the summary; returns how many
    there were."""
    counts: Counter[str] = Counter()
    grown = 0
    for change in changes:
        counts[change.kind] += 1
        grown += _size(change.new) - _size(change.old)
        if not stat:
            say(describe(change))
    total = counts.total()
    if total == 0:
        say("no changes")
    else:
        sign = "-" if grown < 0 else "+"
        say(
            f"{counts['added']:,} added, {counts['changed']:,} changed, {counts['removed']:,} removed; "
            f"{sign}{human_size(abs(grown))}"
        )
    return total


def changes_shape(changes: Iterable[Change], *, stat: bool) -> dict[str, Any]:
    """{"summary": {added, changed, removed, size_change}, "changes": [{path, change, old, new}]}; with `stat`
    no "changes"."""
    listed = list(changes)
    counts = Counter(change.kind for change in listed)
    shape: dict[str, Any] = {
        "summary": {
            "added": counts["added"],
            "changed": counts["changed"],
            "removed": counts["removed"],
            "size_change": sum(_size(change.new) - _size(change.old) for change in listed),
        }
    }
    if not stat:
        shape["changes"] = [
            {
                "path": change.path,
                "change": change.kind,
                "old": entry_shape(change.path, change.old) if change.old is not None else None,
                "new": entry_shape(change.path, change.new) if change.new is not None else None,
            }
            for change in listed
        ]
    return shape
