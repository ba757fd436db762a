"""Tables, images and other values, by the module's name that scripts written for wandb know."""

from __future__ import annotations

from artfs.api.media.audio import Audio
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

__all__ = [
    "Audio",
    "Bokeh",
    "BoundingBoxes2D",
    "Classes",
    "Html",
    "Image",
    "ImageMask",
    "JoinedTable",
    "Object3D",
    "PartitionedTable",
    "Table",
    "Video",
]
