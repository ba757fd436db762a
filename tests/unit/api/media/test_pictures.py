"""Images, and what is drawn on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import artfs
from artfs.api.artifact import Artifact
from artfs.api.session import Session
from artfs.errors import InvalidArgumentError

BYTES = np.arange(48, dtype="uint8").reshape(4, 4, 3)
BOX = {"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 1}


class Tensor:
    """What is asked of one of PyTorch's."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return self.array


class Figure:
    """What is asked of one of matplotlib's."""

    def savefig(self, target: Any, format: str, metadata: Any) -> None:
        PIL.Image.fromarray(BYTES).save(target, format=format)


@pytest.mark.parametrize(
    ("given", "pixels"),
    [
        (BYTES, BYTES),
        (BYTES[:, :, 0], BYTES[:, :, 0]),
        (BYTES[:, :, :1], BYTES[:, :, 0]),
        (np.dstack([BYTES, BYTES[:, :, 0]]), np.dstack([BYTES, BYTES[:, :, 0]])),
        ([[0, 128], [255, 1]], [[0, 128], [255, 1]]),
        ([[0.0, 0.5], [1.0, float("nan")]], [[0, 127], [255, 0]]),
        ([[False, True]], [[0, 255]]),
        ([[0, 1]], [[0, 255]]),
        (np.array([[0, 1]], "uint8"), [[0, 1]]),
        ([[-1.0, 0.0, 1.0]], [[0, 127, 255]]),
        ([[-5, -5]], [[0, 0]]),
        ([[0, 300]], [[0, 255]]),
        (Tensor(BYTES), BYTES),
        (Tensor(BYTES.transpose(2, 0, 1)), BYTES),
        (PIL.Image.fromarray(BYTES), BYTES),
        (Figure(), BYTES),
    ],
)
def test_pixels(given: Any, pixels: Any) -> None:
    image = artfs.Image(given)
    assert image.to_array().tolist() == np.asarray(pixels).tolist()
    assert (image.height, image.width) == np.asarray(pixels).shape[:2]
    assert image.format == "png"


def test_without_normalizing() -> None:
    assert artfs.Image([[0.0, 1.0, -3.0, 300.0]], normalize=False).to_array().tolist() == [[0, 1, 0, 255]]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (np.zeros((2, 2, 5)), ValueError),
        (np.zeros(3), ValueError),
        (np.zeros((0, 3)), ValueError),
        (np.array([["a"]]), TypeError),
        ([[1j]], TypeError),
        ("nowhere.png", InvalidArgumentError),
    ],
)
def test_what_is_no_picture(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        artfs.Image(given)


def test_modes_and_formats() -> None:
    assert artfs.Image(BYTES, mode="L").image.mode == "L"
    assert artfs.Image(PIL.Image.fromarray(BYTES), mode="RGBA").image.mode == "RGBA"
    for file_type, kept_as in (("jpg", "JPEG"), ("gif", "GIF"), ("bmp", "BMP"), (None, "PNG")):
        image = artfs.Image(np.dstack([BYTES, BYTES[:, :, 0]]), file_type=file_type)
        assert image.image.format == kept_as
    with pytest.raises(ValueError, match="file_type is one of"):
        artfs.Image(BYTES, file_type="exe")


def test_a_file_is_kept_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "photo.JPG"
    PIL.Image.fromarray(BYTES).save(path, format="JPEG", quality=50)
    image = artfs.Image(path, caption="c")
    assert image.read() == path.read_bytes()
    assert (image.format, image.name, image.width, image.height) == ("jpg", "photo.JPG", 4, 4)
    assert artfs.Image(str(path)) == artfs.Image(path) != image
    copy = artfs.Image(image, caption="c", classes=[{"id": 1, "name": "x"}])
    assert copy.sha256 == image.sha256
    assert copy != image


def test_classes_come_from_labels(session: Session) -> None:
    image = artfs.Image(
        BYTES,
        boxes={"b": {"box_data": [BOX], "class_labels": {1: "dog"}}},
        masks={"m": {"mask_data": np.eye(4, dtype="uint8")}},
    )
    assert image.classes is not None
    assert image.classes.labels == {0: "class_0", 1: "class_1"}
    named = artfs.Image(BYTES, classes=artfs.Classes([{"id": 1, "name": "x"}]), boxes=image.boxes)
    artifact = Artifact("pictures", "dataset")
    artifact.add(named, "it")
    artifact.save()
    back = artifact.get("it")
    assert isinstance(back, artfs.Image)
    assert back == named
    assert back.boxes["b"].class_labels == {1: "x"}
    assert back.boxes["b"].key == "b"


def test_boxes_without_classes_cannot_be_stored(session: Session) -> None:
    image = artfs.Image(BYTES, boxes={"b": {"box_data": [BOX]}})
    with pytest.raises(ValueError, match="needs classes"):
        Artifact("pictures", "dataset").add(image, "it")


def test_masks(tmp_path: Path, session: Session) -> None:
    mask = artfs.ImageMask({"mask_data": np.eye(3, dtype=bool)}, "m")
    assert mask.to_array().tolist() == np.eye(3).tolist()
    assert mask.class_labels == {0: "class_0", 1: "class_1"}
    mask.save(tmp_path / "mask.png")
    same = artfs.ImageMask({"path": tmp_path / "mask.png", "class_labels": {1: "x"}}, "m")
    assert same == mask
    assert same.class_labels == {1: "x"}
    artifact = Artifact("pictures", "dataset")
    artifact.add(artfs.Image(BYTES, masks={"m": same, "n": mask}), "it")
    assert len(artifact.manifest.get_entries_in_directory("media/images/mask")) == 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({}, TypeError),
        ({"path": 3}, TypeError),
        ({"path": "nowhere.png"}, InvalidArgumentError),
        ({"mask_data": np.zeros((2, 2))}, TypeError),
        ({"mask_data": np.zeros(2, int)}, ValueError),
        ({"mask_data": [[256]]}, ValueError),
        ({"mask_data": [[-1]]}, ValueError),
        ({"mask_data": [[1]], "class_labels": {"a": "b"}}, TypeError),
    ],
)
def test_bad_masks(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        artfs.ImageMask(value, "m")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({}, KeyError),
        ({"box_data": 3}, TypeError),
        ({"box_data": [3]}, TypeError),
        ({"box_data": [{"class_id": 1}]}, KeyError),
        ({"box_data": [{"position": BOX["position"]}]}, KeyError),
        ({"box_data": [BOX | {"position": {"minX": 0}}]}, TypeError),
        ({"box_data": [BOX | {"position": {"middle": [0], "width": 1, "height": 1}}]}, TypeError),
        ({"box_data": [BOX | {"class_id": "1"}]}, TypeError),
        ({"box_data": [BOX | {"scores": {"a": "x"}}]}, TypeError),
        ({"box_data": [BOX | {"scores": [1]}]}, TypeError),
        ({"box_data": [BOX | {"box_caption": 1}]}, TypeError),
        ({"box_data": [BOX | {"domain": 1}]}, TypeError),
        ({"box_data": [BOX], "class_labels": {"a": "b"}}, TypeError),
    ],
)
def test_bad_boxes(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        artfs.BoundingBoxes2D(value, "b")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([{"id": "0", "name": "x"}], TypeError),
        ([{"id": 0}], TypeError),
        (["cat"], TypeError),
        ([{"id": 0, "name": "x"}, {"id": 0, "name": "y"}], ValueError),
    ],
)
def test_bad_classes(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        artfs.Classes(given)


def test_numbers_of_numpy_are_numbers(session: Session) -> None:
    box = {
        "position": {"middle": tuple(np.array([0.5, 0.25], "float32")), "width": np.float32(0.5), "height": np.int64(1)},
        "class_id": np.int64(1),
        "scores": {"sure": np.float32(0.5)},
    }
    image = artfs.Image(
        BYTES,
        caption=3,  # type: ignore[arg-type]
        grouping=np.int64(2),  # type: ignore[arg-type]
        classes=[{"id": np.int64(1), "name": "x"}],
        boxes={"b": {"box_data": [box], "class_labels": {np.int64(1): "x"}}},
    )
    artifact = Artifact("pictures", "dataset")
    artifact.add(image, "it")
    artifact.save()
    back = artifact.get("it")
    assert isinstance(back, artfs.Image)
    assert back == image
    assert (back.caption, back.grouping) == ("3", 2)
    assert back.boxes["b"].boxes == [
        {
            "position": {"middle": [0.5, 0.25], "width": 0.5, "height": 1},
            "class_id": 1,
            "scores": {"sure": 0.5},
        }
    ]


def test_classes() -> None:
    classes = artfs.Classes([{"id": 2, "name": "b"}, {"id": 1, "name": "a"}])
    assert list(classes) == [{"id": 2, "name": "b"}, {"id": 1, "name": "a"}]
    assert (len(classes), classes.labels) == (2, {1: "a", 2: "b"})
    assert artfs.Classes.of_labels({1: "a", 2: "b"}) != classes


def test_a_notebook_shows_no_giants() -> None:
    rng = np.random.default_rng(0)
    image = artfs.Image(rng.integers(0, 255, (1800, 1800, 3), "uint8"), file_type="bmp")
    shown = image._repr_html_()
    assert "too large to be shown" in shown
    assert len(shown) < 1000
