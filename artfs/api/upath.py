"""`UPath("artfs://PROJECT/COLLECTION:ALIAS/PATH")` of universal_pathlib, which finds it by its entry point."""

from __future__ import annotations

from upath import UPath


class ArtfsPath(UPath):
    """A path of `artfs.api.fsspec`; nothing about it is special."""

    __slots__ = ()
