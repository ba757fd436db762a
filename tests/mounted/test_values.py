"""Tables and images of an artifact, read through the mount with what everybody reads such files with."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.media.image import Image
from artfs.api.media.table import Table
from artfs.settings import load_settings
from artfs.testing.corner import Corner


def test_media_values_are_plain_files_in_the_mount(corner: Corner) -> None:
    pixels = np.arange(48, dtype="uint8").reshape(4, 4, 3)
    labels = {0: "cat", 1: "dog"}
    mask = np.eye(4, dtype="uint8")
    image = Image(pixels, masks={"truth": {"mask_data": mask, "class_labels": labels}})
    table = Table(["name", "picture", "vector"], [["a", image, np.zeros((2, 2))], ["b", image, np.ones((2, 2))]])
    settings = load_settings(corner.daemon.workspace.environ)
    with init(project=corner.name, settings=settings) as run:
        artifact = Artifact("c", "dataset")
        artifact.add(table, "table")
        artifact.add(image, "image")
        run.log_artifact(artifact)
    corner.refresh()

    top = corner.path / "c" / "latest"
    found = json.loads((top / "image.image-file.json").read_text())
    with PIL.Image.open(top / found["path"]) as opened:
        assert np.array_equal(np.asarray(opened), pixels)
    with PIL.Image.open(top / found["masks"]["truth"]["path"]) as opened:
        assert np.array_equal(np.asarray(opened), mask)
    classes = json.loads((top / found["classes"]["path"]).read_text())
    assert {one["id"]: one["name"] for one in classes["class_set"]} == labels

    rows = json.loads((top / "table.table.json").read_text())
    assert [row[0] for row in rows["data"]] == ["a", "b"]
    assert rows["data"][0][1] == found
    (member,) = rows["column_types"]["params"]["type_map"]["vector"]["params"]["allowed_types"][:1]
    place = member["params"]["serialization_path"]
    with np.load(top / place["path"]) as arrays:
        assert arrays[place["key"]].tolist() == [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    assert artifact.get("table") == table
