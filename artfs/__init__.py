"""artfs versions datasets and models and shows them as folders. This module has what users of the Python API
import:

    with artfs.init(project="flowers") as run:
        artifact = artfs.Artifact("photos", "dataset")
        artifact.add_dir("photos/")
        run.log_artifact(artifact)

    artfs.Api().artifact("flowers/photos:latest").download()

Importing it loads nothing; a name loads what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from artfs import errors as errors
    from artfs.api.artifact import Artifact as Artifact
    from artfs.api.current import finish as finish
    from artfs.api.current import link_artifact as link_artifact
    from artfs.api.current import log as log
    from artfs.api.current import log_artifact as log_artifact
    from artfs.api.current import login as login
    from artfs.api.current import use_artifact as use_artifact
    from artfs.api.manifest import ArtifactManifest as ArtifactManifest
    from artfs.api.manifest import ManifestEntry as ManifestEntry
    from artfs.api.public import Api as Api
    from artfs.api.run import Run as Run
    from artfs.api.run import init as init
    from artfs.api.session import Session as Session
    from artfs.api.session import open_session as open_session
    from artfs.api.telling import progress as progress
    from artfs.api.values import Values
    from artfs.errors import ArtfsError as ArtfsError
    from artfs.model.ttl import ArtifactTTL as ArtifactTTL
    from artfs.settings import Settings as Settings
    from artfs.settings import load_settings as load_settings

    run: Run | None
    config: Values

_HOMES = {
    "Api": "artfs.api.public",
    "ArtfsError": "artfs.errors",
    "Artifact": "artfs.api.artifact",
    "ArtifactManifest": "artfs.api.manifest",
    "ArtifactTTL": "artfs.model.ttl",
    "ManifestEntry": "artfs.api.manifest",
    "Run": "artfs.api.run",
    "Session": "artfs.api.session",
    "Settings": "artfs.settings",
    "finish": "artfs.api.current",
    "init": "artfs.api.run",
    "link_artifact": "artfs.api.current",
    "load_settings": "artfs.settings",
    "log": "artfs.api.current",
    "log_artifact": "artfs.api.current",
    "login": "artfs.api.current",
    "open_session": "artfs.api.session",
    "progress": "artfs.api.telling",
    "use_artifact": "artfs.api.current",
}

_OF_THE_CURRENT_RUN = ("run", "config")
"""Not kept: each time they are what they are then. `run`: the current run or None; the others are its attributes."""

__all__ = ["errors", *_HOMES]  # noqa: PLE0604 - its items are str


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("artfs.errors")
    if name in _OF_THE_CURRENT_RUN:
        current = import_module("artfs.api.current")
        return current.try_run() if name == "run" else getattr(current.need_run(), name)
    if name not in _HOMES:
        raise AttributeError(f"module 'artfs' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
