"""Writing the tree of one directory while its entries become known, in the order of their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from artfs.model.entry import Entry, names_of
from artfs.model.pages import BuiltTree, IndexItem, build_index, build_tree, encode_leaf, split_items

_ENOUGH = 4096


class TreeWriter:
    """Makes the same pages as `build_tree`, but gives each to `put` as soon as it is complete, and forgets its entries.

    Arguments:
        put: stores a page (StoreBatch.put_page); what it raises is passed on.
    """

    def __init__(self, put: Callable[[bytes], object]) -> None:
        self._put = put
        self._entries: list[Entry] = []
        self._items: list[IndexItem] = []
        self._last = b""

    def add(self, entries: Iterable[Entry]) -> None:
        """Adds entries whose names come after all those before. Raises InvalidNameError for one that no tree can hold."""
        self._entries.extend(entries)
        if len(self._entries) >= _ENOUGH:
            self._write(split_items(names_of(self._entries), 0, closed=False))

    def finish(self) -> BuiltTree:
        """Stores what is left and returns the tree; its `pages` are empty, as they are all stored. Nothing may be added
        afterwards. Raises InvalidNameError."""
        if not self._items:
            tree = build_tree(self._entries)
        else:
            self._write(split_items(names_of(self._entries), 0))
            tree = build_index(self._items)
        for _, data in tree.pages:
            self._put(data)
        return BuiltTree(tree.digest, tree.totals, [])

    def _write(self, ends: list[int]) -> None:
        start = 0
        for end in ends:
            item, _, _, data = encode_leaf(self._entries[start:end])
            assert item is not None and item.name > self._last
            self._last = self._entries[end - 1].name
            self._items.append(item)
            self._put(data)
            start = end
        del self._entries[:start]
