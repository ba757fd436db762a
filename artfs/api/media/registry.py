"""All classes of values, by kind and by suffix."""

from __future__ import annotations

from artfs.api.media.audio import Audio
from artfs.api.media.base import Value
from artfs.api.media.bokeh import Bokeh
from artfs.api.media.boxes import BoundingBoxes2D
from artfs.api.media.classes import Classes
from artfs.api.media.html import Html
from artfs.api.media.image import Image
from artfs.api.media.joined import JoinedTable
from artfs.api.media.mask import ImageMask
from artfs.api.media.object3d import Object3D
from artfs.api.media.partitioned import PartitionedTable
from artfs.api.media.table import Table
from artfs.api.media.video import Video

CLASSES: tuple[type[Value], ...] = (
    Bokeh,
    JoinedTable,
    PartitionedTable,
    Table,
    Classes,
    ImageMask,
    BoundingBoxes2D,
    Audio,
    Image,
    Video,
    Html,
    Object3D,
)

BY_KIND: dict[str, type[Value]] = {cls.kind: cls for cls in CLASSES}


def class_of(name: str) -> type[Value] | None:
    """The class whose JSON files are called so; None when there is none."""
    return next((cls for cls in CLASSES if name.endswith(cls.suffix())), None)
