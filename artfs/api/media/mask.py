"""ImageMask: a class for each pixel of an image."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

from artfs.api.media.base import NAME_DIGITS, Source
from artfs.api.media.classes import check_labels
from artfs.api.media.content import InMemory, LocalFile
from artfs.api.media.extras import need
from artfs.api.media.filevalue import FileValue


class ImageMask(FileValue):
    """A grey PNG whose pixels are class numbers.

    Attributes:
        key: the layer's name.
        class_labels: names of classes by number. They are not in its JSON: an image keeps them as its classes.
    """

    kind = "mask"
    folder = "media/images/mask"

    def __init__(self, val: Mapping[str, Any], key: str) -> None:
        """`val`: {"mask_data": array (height, width) of whole numbers from 0 to 255} or {"path": a PNG file}, and
        "class_labels": {0: "cat", …}, which with mask_data are "class_0" … when missing.

        Raises TypeError for what is of another type, ValueError for another shape or range, MissingExtraError.
        """
        self.key = key
        labels = val.get("class_labels")
        if "mask_data" in val:
            numpy = need("numpy", "an ImageMask of an array")
            pixels = numpy.asarray(val["mask_data"])
            if pixels.ndim != 2:
                raise ValueError(f"a mask has two dimensions, not {pixels.ndim}")
            if pixels.dtype.kind not in "biu":
                raise TypeError("the pixels of a mask must be whole numbers")
            if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
                raise ValueError("the pixels of a mask must be between 0 and 255")
            pixels = pixels.astype("uint8")
            image = need("PIL.Image", "an ImageMask of an array").fromarray(pixels)
            data = io.BytesIO()
            image.save(data, format="PNG")
            super().__init__(InMemory(data.getvalue()), ".mask.png")
            if labels is None:
                labels = {int(number): f"class_{number}" for number in numpy.unique(pixels)}
        elif isinstance(val.get("path"), str | os.PathLike):
            super().__init__(LocalFile(val["path"]), ".mask.png")
        else:
            raise TypeError('a mask needs "mask_data" (an array) or "path" (a PNG file)')
        self.class_labels = check_labels(labels or {})

    def _name(self, digest: str) -> str:
        return f"{self.folder}/{digest[:NAME_DIGITS]}.mask.png"

    def _read_more(self, fields: dict[str, Any], source: Source) -> None:
        self.key = ""
        self.class_labels = {}

    def to_array(self) -> Any:
        """The class numbers, an array (height, width) of uint8. Raises MissingExtraError."""
        numpy = need("numpy", "reading a mask as an array")
        with self.open() as stream, need("PIL.Image", "reading a mask").open(stream) as image:
            return numpy.asarray(image)
