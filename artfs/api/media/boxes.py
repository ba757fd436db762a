"""BoundingBoxes2D: boxes on an image."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from numbers import Real
from typing import Any, Self

from artfs.api.media.base import Sink, Source, Value
from artfs.api.media.classes import check_labels
from artfs.api.media.fields import as_number, bad

_CORNERS = ("minX", "maxX", "minY", "maxY")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


class BoundingBoxes2D(Value):
    """One layer of boxes.

    Attributes:
        key: the layer's name.
        boxes: a list of boxes, each with `position`, `class_id` and, if given, `box_caption`, `scores`, `domain`.
        class_labels: names of classes by number. They are not in its JSON: an image keeps them as its classes.
    """

    kind = "bounding-boxes"

    def __init__(self, val: Mapping[str, Any], key: str) -> None:
        """`val`: {"box_data": [box, …], "class_labels": {0: "cat", …}}, the labels optional.

        A box has a `position` ({"minX", "maxX", "minY", "maxY"} or {"middle": [x, y], "width", "height"}, fractions
        of the image unless `domain` is "pixel"), a `class_id` (whole number), and may have `box_caption` (text) and
        `scores` (numbers by name). Raises KeyError for what is missing, TypeError for what is of another type.
        """
        self.key = key
        self.boxes = [_check_box(box) for box in val["box_data"]]
        self.class_labels = check_labels(val.get("class_labels") or {})

    def to_json(self, sink: Sink) -> list[dict[str, Any]]:
        return copy.deepcopy(self.boxes)

    @classmethod
    def from_json(cls, given: Any, source: Source) -> Self:
        return cls.from_list(given, "")

    @classmethod
    def from_list(cls, given: Any, key: str) -> Self:
        """The layer `key` from its JSON. Raises BadObjectError."""
        if not isinstance(given, list):
            raise bad("bounding boxes must be a list")
        try:
            return cls({"box_data": given}, key)
        except (TypeError, KeyError) as error:
            raise bad(f"bad bounding box: {error}") from None

    def _key(self) -> object:
        return self.boxes

    def __repr__(self) -> str:
        return f"<BoundingBoxes2D {self.key!r} of {len(self.boxes)}>"


def _check_box(box: object) -> dict[str, Any]:
    if not isinstance(box, Mapping):
        raise TypeError("a box must be a dict")
    position = _plain(box["position"])
    if not isinstance(position, Mapping) or not (_has_corners(position) or _has_middle(position)):
        raise TypeError("a box's position must have minX, maxX, minY and maxY, or middle, width and height")
    number = as_number(box["class_id"])
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError("a box's class_id must be a whole number")
    checked: dict[str, Any] = {"position": position, "class_id": number}
    if box.get("box_caption") is not None:
        if not isinstance(box["box_caption"], str):
            raise TypeError("a box's caption must be text")
        checked["box_caption"] = box["box_caption"]
    if box.get("scores") is not None:
        scores = _plain(box["scores"])
        if not isinstance(scores, Mapping) or not all(
            isinstance(name, str) and _is_number(score) for name, score in scores.items()
        ):
            raise TypeError("a box's scores must be numbers by name")
        checked["scores"] = scores
    if box.get("domain") is not None:
        if not isinstance(box["domain"], str):
            raise TypeError("a box's domain must be text")
        checked["domain"] = box["domain"]
    return checked


def _plain(given: object) -> Any:
    """A copy with Python's numbers; what is no dict as it is."""
    if not isinstance(given, Mapping):
        return given
    return {
        key: [as_number(part) for part in value] if isinstance(value, list | tuple) else as_number(value)
        for key, value in given.items()
    }


def _has_corners(position: Mapping[str, Any]) -> bool:
    return all(_is_number(position.get(name)) for name in _CORNERS)


def _has_middle(position: Mapping[str, Any]) -> bool:
    middle = position.get("middle")
    return (
        isinstance(middle, list | tuple)
        and len(middle) == 2
        and all(_is_number(value) for value in (*middle, position.get("width"), position.get("height")))
    )
