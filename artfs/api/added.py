"""Which files of this machine were added to a draft, and under which paths. Pure but for the current
directory, which completes relative paths."""

from __future__ import annotations

import os
from collections.abc import Iterable


class AddedPaths:
    """What `get_added_local_path_name` asks. Removing something from the draft does not change it."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._directories: list[tuple[str, str, frozenset[str]]] = []

    def file(self, local: str | os.PathLike[str], path: str) -> None:
        """The file `local` was added as `path`."""
        self._files[os.path.abspath(local)] = path

    def directory(self, local: str | os.PathLike[str], prefix: str, paths: Iterable[str]) -> None:
        """The files `paths`, relative to the directory `local`, were added, each as `prefix` and its path.

        One note for all of them: a directory may have a million.
        """
        self._directories.append((os.path.abspath(local), prefix, frozenset(paths)))

    def name_of(self, local: str | os.PathLike[str]) -> str | None:
        """Where in the artifact that file is; None when it was not added. Of several places, one to which it
        was added by itself, else the last one."""
        path = os.path.abspath(local)
        if path in self._files:
            return self._files[path]
        for root, prefix, paths in reversed(self._directories):
            relative = path[len(root) :].lstrip("/")
            if path.startswith(root) and relative in paths and os.path.join(root, relative) == path:
                return prefix + relative
        return None
