"""`UPath("artfs://PROJECT/COLLECTION:ALIAS/PATH")` of universal_pathlib, which finds it by its entry point."""

from __future__ import annotations

from typing import Any, NoReturn

from fsspec import register_implementation
from upath import UPath

from artfs.api.fsspec import ArtfsFileSystem, refuse

# UPath takes paths apart by the rules of the file system's class, once for all, and by others while that is not loaded: the
# names in `artfs://p/c:latest/a` would then be "p", ":latest" and "". fsspec itself loads it only when it is first read.
register_implementation("artfs", ArtfsFileSystem, clobber=True)


class ArtfsPath(UPath):
    """A path of `artfs.api.fsspec`. What would change something raises OSError (EROFS), as there."""

    __slots__ = ()

    def rename(self, target: Any, **options: Any) -> NoReturn:
        refuse(self.path)

    def replace(self, target: Any) -> NoReturn:
        refuse(self.path)
