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
    from artfs import data_types as data_types
    from artfs import errors as errors
    from artfs.api.artifact import Artifact as Artifact
    from artfs.api.begin import init as init
    from artfs.api.current import define_metric as define_metric
    from artfs.api.current import finish as finish
    from artfs.api.current import link_artifact as link_artifact
    from artfs.api.current import link_model as link_model
    from artfs.api.current import log as log
    from artfs.api.current import log_artifact as log_artifact
    from artfs.api.current import log_model as log_model
    from artfs.api.current import login as login
    from artfs.api.current import unwatch as unwatch
    from artfs.api.current import use_artifact as use_artifact
    from artfs.api.current import use_model as use_model
    from artfs.api.current import watch as watch
    from artfs.api.manifest import ArtifactManifest as ArtifactManifest
    from artfs.api.manifest import ManifestEntry as ManifestEntry
    from artfs.api.media.audio import Audio as Audio
    from artfs.api.media.bokeh import Bokeh as Bokeh
    from artfs.api.media.boxes import BoundingBoxes2D as BoundingBoxes2D
    from artfs.api.media.classes import Classes as Classes
    from artfs.api.media.html import Html as Html
    from artfs.api.media.image import Image as Image
    from artfs.api.media.joined import JoinedTable as JoinedTable
    from artfs.api.media.mask import ImageMask as ImageMask
    from artfs.api.media.object3d import Object3D as Object3D
    from artfs.api.media.partitioned import PartitionedTable as PartitionedTable
    from artfs.api.media.table import Table as Table
    from artfs.api.media.video import Video as Video
    from artfs.api.public import Api as Api
    from artfs.api.run import Run as Run
    from artfs.api.session import Session as Session
    from artfs.api.session import open_session as open_session
    from artfs.api.telling import progress as progress
    from artfs.api.values import Values
    from artfs.errors import ArtfsError as ArtfsError
    from artfs.errors import CommError as CommError
    from artfs.errors import Error as Error
    from artfs.model.ttl import ArtifactTTL as ArtifactTTL
    from artfs.settings import Settings as Settings
    from artfs.settings import load_settings as load_settings

    run: Run | None
    config: Values
    summary: Values

_HOMES = {
    "Api": "artfs.api.public",
    "ArtfsError": "artfs.errors",
    "Artifact": "artfs.api.artifact",
    "ArtifactManifest": "artfs.api.manifest",
    "ArtifactTTL": "artfs.model.ttl",
    "Audio": "artfs.api.media.audio",
    "Bokeh": "artfs.api.media.bokeh",
    "BoundingBoxes2D": "artfs.api.media.boxes",
    "Classes": "artfs.api.media.classes",
    "CommError": "artfs.errors",
    "Error": "artfs.errors",
    "Html": "artfs.api.media.html",
    "Image": "artfs.api.media.image",
    "ImageMask": "artfs.api.media.mask",
    "JoinedTable": "artfs.api.media.joined",
    "ManifestEntry": "artfs.api.manifest",
    "Object3D": "artfs.api.media.object3d",
    "PartitionedTable": "artfs.api.media.partitioned",
    "Run": "artfs.api.run",
    "Session": "artfs.api.session",
    "Settings": "artfs.settings",
    "Table": "artfs.api.media.table",
    "Video": "artfs.api.media.video",
    "define_metric": "artfs.api.current",
    "finish": "artfs.api.current",
    "init": "artfs.api.begin",
    "link_artifact": "artfs.api.current",
    "link_model": "artfs.api.current",
    "load_settings": "artfs.settings",
    "log": "artfs.api.current",
    "log_artifact": "artfs.api.current",
    "log_model": "artfs.api.current",
    "login": "artfs.api.current",
    "open_session": "artfs.api.session",
    "progress": "artfs.api.telling",
    "unwatch": "artfs.api.current",
    "use_artifact": "artfs.api.current",
    "use_model": "artfs.api.current",
    "watch": "artfs.api.current",
}

_OF_THE_CURRENT_RUN = ("run", "config", "summary")
"""Not kept: each time they are what they are then. `run`: the current run or None; the others are its attributes."""

__all__ = ["errors", *_HOMES]  # noqa: PLE0604 - its items are str


def __getattr__(name: str) -> object:
    if name in ("data_types", "errors"):
        return import_module(f"artfs.{name}")
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
