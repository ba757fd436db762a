"""A value of each kind that an artifact takes, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.plotting import figure

import artfs
from artfs.api.artifact import Artifact
from artfs.api.media.base import Value

PIXELS = np.arange(4 * 6 * 3, dtype="uint8").reshape(4, 6, 3)
LABELS = {0: "cat", 1: "dog"}
CLASS_SET = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
BOXES = [
    {
        "position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4},
        "class_id": 1,
        "box_caption": "it",
        "scores": {"sure": 0.5},
    },
    {"position": {"middle": [1, 2], "width": 3, "height": 4}, "class_id": 0, "domain": "pixel"},
]


def plot() -> Any:
    made = figure()
    made.line([1, 2], [3, 4])
    return made


def rich_image() -> artfs.Image:
    return artfs.Image(
        PIXELS,
        caption="hi",
        grouping=3,
        boxes={"pred": {"box_data": BOXES, "class_labels": LABELS}},
        masks={"truth": {"mask_data": np.eye(4, 6, dtype="uint8"), "class_labels": LABELS}},
    )


def table() -> artfs.Table:
    return artfs.Table(["id", "score"], [["a", 1], ["b", 2.5]])


MAKERS: dict[str, Callable[[], Value]] = {
    "bokeh-file": lambda: artfs.Bokeh(plot()),
    "joined-table": lambda: artfs.JoinedTable(table(), artfs.Table(["id", "w"], [["a", 2]]), "id"),
    "partitioned-table": lambda: artfs.PartitionedTable("parts"),
    "table": table,
    "classes": lambda: artfs.Classes(CLASS_SET),
    "mask": lambda: artfs.ImageMask({"mask_data": np.eye(3, dtype="uint8")}, "layer"),
    "bounding-boxes": lambda: artfs.BoundingBoxes2D({"box_data": BOXES, "class_labels": LABELS}, "layer"),
    "audio-file": lambda: artfs.Audio(np.sin(np.arange(800) / 9), sample_rate=8000, caption="la"),
    "image-file": rich_image,
    "video-file": lambda: artfs.Video(np.zeros((3, 3, 8, 8), "uint8"), caption="dark"),
    "html-file": lambda: artfs.Html("<p>a page</p>"),
    "object3D-file": lambda: artfs.Object3D(np.eye(3), caption="points"),
}


def round_trip(value: Value, name: str = "it") -> Any:
    artifact = Artifact("values", "dataset")
    artifact.add(value, name)
    artifact.save()
    return artfs.Api().artifact("values:latest").get(name)


def stored_json(artifact: Artifact, path: str) -> Any:
    root = Path(artifact.download())
    return json.loads((root / path).read_text())
