"""What a draft holds, by path: a flat map in which no path is both a file and a directory. Pure.

Knowing at every add what is a directory (a count of what is below each) keeps the check at the cost of the
path's own depth, so that 20,000 files are 20,000 small steps and no pass over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from artfs.errors import ConflictError, PathNotFoundError

T = TypeVar("T")


def parents(path: str) -> Iterator[str]:
    """The directories that `path` lies in, deepest first: "a/b/c" gives "a/b", "a"."""
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


class PathMap(Generic[T]):
    """Items by path (normalised, relative, "/" between components), and the directories that hold nothing."""

    def __init__(self) -> None:
        self._items: dict[str, T] = {}
        self._below: dict[str, int] = {}
        self._empty: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, path: object) -> bool:
        return path in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def get(self, path: str) -> T | None:
        return self._items.get(path)

    def items(self) -> Iterable[tuple[str, T]]:
        return self._items.items()

    def empty_dirs(self) -> list[str]:
        """Directories that were added and (still) have nothing below them."""
        return [path for path in self._empty if path not in self._below]

    def is_dir(self, path: str) -> bool:
        return path in self._below or path in self._empty

    def check(self, path: str) -> None:
        """Raises ConflictError when an item cannot be at `path` because a directory is, or a file is on the
        way."""
        if self.is_dir(path):
            raise ConflictError(
                f"{path!r} is a directory of this artifact already; a file cannot have the same path"
            )
        self.check_dir(path, itself=False)

    def check_dir(self, path: str, *, itself: bool = True) -> None:
        """The same for a directory at `path`."""
        for parent in parents(path + "/" if itself else path):
            if parent in self._items:
                raise ConflictError(
                    f"{parent!r} is a file of this artifact already; {path!r} cannot lie below it"
                )

    def put(self, path: str, value: T) -> None:
        """Adds or replaces. Raises ConflictError as `check` does; then nothing changed."""
        if path not in self._items:
            self.check(path)
            self._count(path, 1)
        self._items[path] = value

    def put_empty_dir(self, path: str) -> None:
        """Notes a directory to keep although it may hold nothing. Raises ConflictError when a file is
        there."""
        self.check_dir(path)
        if not self.is_dir(path):
            self._count(path, 1)
            self._empty[path] = None

    def remove(self, path: str) -> list[str]:
        """Removes the item at `path`, else everything below the directory `path`. Returns the items' paths.

        Raises PathNotFoundError when there is neither.
        """
        if path in self._items:
            gone = [path]
        elif self.is_dir(path):
            below = path + "/"
            gone = [item for item in self._items if item.startswith(below)]
            for directory in [d for d in self._empty if d == path or d.startswith(below)]:
                del self._empty[directory]
                self._count(directory, -1)
        else:
            raise PathNotFoundError(f"there is no file or directory {path!r} in this artifact")
        for item in gone:
            del self._items[item]
            self._count(item, -1)
        return gone

    def _count(self, path: str, change: int) -> None:
        """Of what is below the directories that `path` lies in."""
        for parent in parents(path):
            count = self._below.get(parent, 0) + change
            if count:
                self._below[parent] = count
            else:
                del self._below[parent]
