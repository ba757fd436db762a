"""Image: a picture, with boxes, masks and classes."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from artfs.api.media.base import Sink, Source
from artfs.api.media.boxes import BoundingBoxes2D
from artfs.api.media.classes import Classes
from artfs.api.media.content import Content, InMemory, LocalFile
from artfs.api.media.extras import need
from artfs.api.media.fields import as_text, bad, optional, required
from artfs.api.media.filevalue import FileValue
from artfs.api.media.mask import ImageMask
from artfs.api.media.pixels import to_pillow

_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "gif": "GIF", "bmp": "BMP"}
_MIME = {"jpg": "jpeg", "svg": "svg+xml"}
_SHOWN_NBYTES = 8 * 1024 * 1024
"""Larger files are not put into a notebook."""


class Image(FileValue):
    """A picture.

    Attributes:
        format: "png", "jpg" …: the ending of its file.
        width, height: pixels.
        caption, grouping: as given.
        classes: a Classes or None.
        boxes, masks: BoundingBoxes2D and ImageMask by layer.
    """

    kind = "image-file"
    folder = "media/images"

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Classes | Sequence[Mapping[str, Any]] | None = None,
        boxes: Mapping[str, BoundingBoxes2D | Mapping[str, Any]] | None = None,
        masks: Mapping[str, ImageMask | Mapping[str, Any]] | None = None,
        file_type: str | None = None,
        normalize: bool = True,
    ) -> None:
        """Arguments:
            data_or_path: a file; an array (height, width[, channels]); a tensor; an image of Pillow's; a figure of
                matplotlib's; another Image.
            mode: Pillow's ("L", "RGB", "RGBA" …); None: by the number of channels.
            classes: what the numbers in boxes and masks mean; None: put together from their own labels.
            boxes, masks: by layer; a dict is what the class's constructor takes.
            file_type: "png" (also None), "jpg", "gif" or "bmp", for what is no file.
            normalize: numbers that are not uint8 already are stretched to 0 … 255 if some are negative, and
                multiplied by 255 if none is above 1.
        Raises InvalidArgumentError for a missing file and another file_type; TypeError, ValueError for other data;
        MissingExtraError.
        """
        self.caption = as_text(caption)
        self.grouping = None if grouping is None else int(grouping)
        self.format: str
        self.width: int | None
        self.height: int | None
        self.classes = classes if classes is None or isinstance(classes, Classes) else Classes(classes)
        self.boxes = {
            key: layer if isinstance(layer, BoundingBoxes2D) else BoundingBoxes2D(layer, key)
            for key, layer in (boxes or {}).items()
        }
        self.masks = {
            key: layer if isinstance(layer, ImageMask) else ImageMask(layer, key)
            for key, layer in (masks or {}).items()
        }
        if self.classes is None:
            self.classes = self._labels()
        if isinstance(data_or_path, Image):
            other = data_or_path
            self.format, self.width, self.height = other.format, other.width, other.height
            super().__init__(other._content, other._ending)
        elif isinstance(data_or_path, str | os.PathLike):
            self._from_file(data_or_path)
        else:
            self._from_pixels(data_or_path, mode, file_type, normalize)

    def _from_file(self, path: str | os.PathLike[str]) -> None:
        content = LocalFile(path)
        with self._opened(content) as image:
            self.width, self.height = image.size
            self.format = os.path.splitext(content.name)[1][1:].lower() or (image.format or "").lower()
        super().__init__(content, f".{self.format}")

    def _from_pixels(self, data: Any, mode: str | None, file_type: str | None, normalize: bool) -> None:
        self.format = (file_type or "png").lower()
        if self.format not in _FORMATS:
            raise ValueError(f"an image's file_type is one of {', '.join(sorted(_FORMATS))}, not {file_type!r}")
        image = to_pillow(data, mode, normalize=normalize)
        self.width, self.height = image.size
        if self.format in ("jpg", "jpeg") and image.mode not in ("L", "RGB", "CMYK"):
            image = image.convert("RGB")
        encoded = io.BytesIO()
        image.save(encoded, format=_FORMATS[self.format])
        super().__init__(InMemory(encoded.getvalue()), f".{self.format}")

    @staticmethod
    @contextmanager
    def _opened(content: Content) -> Iterator[Any]:
        pillow = need("PIL.Image", "reading an image")
        with content.open() as stream:
            try:
                image = pillow.open(stream)
            except (OSError, SyntaxError) as error:  # as Pillow says of its plugins, and of what none of them knows
                raise ValueError(f"{content.name or 'this'} is no image that Pillow can read: {error}") from None
            yield image

    def _labels(self) -> Classes | None:
        """The labels of all layers, as classes."""
        labels: dict[int, str] = {}
        layers: list[BoundingBoxes2D | ImageMask] = [*self.boxes.values(), *self.masks.values()]
        for layer in layers:
            labels.update(layer.class_labels)
        return Classes.of_labels(labels) if labels else None

    @property
    def image(self) -> Any:
        """An image of Pillow's, read now. Raises ValueError for a file that is none, MissingExtraError."""
        with self._opened(self._content) as image:
            image.load()
            return image

    def to_array(self) -> Any:
        """An array (height, width[, channels]) of uint8. Raises as `image`."""
        return need("numpy", "reading an image as an array").asarray(self.image)

    # storing --------------------------------------------------------------------------------------

    def to_json(self, sink: Sink) -> dict[str, Any]:
        if (self.boxes or self.masks) and self.classes is None:
            raise ValueError("an image with boxes or masks needs classes, or class_labels in them, to be added")
        made = super().to_json(sink)
        if self.classes is not None:
            placed = self.classes.place_shared(sink)
            made["classes"] = {"type": "classes-file", "path": placed.path, "digest": placed.digest}
        if self.boxes:
            made["boxes"] = {key: layer.to_json(sink) for key, layer in self.boxes.items()}
        if self.masks:
            made["masks"] = {key: layer.to_json(sink) for key, layer in self.masks.items()}
        return made

    def _more(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "width": self.width,
            "height": self.height,
            "caption": self.caption,
            "grouping": self.grouping,
        }

    def _read_more(self, fields: dict[str, Any], source: Source) -> None:
        self.format = optional(fields, "format", str) or self._ending[1:]
        self.width = optional(fields, "width", int)
        self.height = optional(fields, "height", int)
        self.caption = optional(fields, "caption", str)
        self.grouping = optional(fields, "grouping", int)
        self.classes = None
        classes = optional(fields, "classes", dict)
        if classes is not None:
            found = source.value(required(classes, "path", str))
            if not isinstance(found, Classes):
                raise bad("an image's classes are something else")
            self.classes = found
        labels = self.classes.labels if self.classes is not None else {}
        self.boxes = {}
        for key, given in (optional(fields, "boxes", dict) or {}).items():
            self.boxes[key] = BoundingBoxes2D.from_list(given, key)
            self.boxes[key].class_labels = dict(labels)
        self.masks = {}
        for key, given in (optional(fields, "masks", dict) or {}).items():
            self.masks[key] = ImageMask.from_json(given, source)
            self.masks[key].key = key
            self.masks[key].class_labels = dict(labels)

    def _key(self) -> object:
        return super()._key(), self.classes, self.boxes, self.masks

    # in a notebook --------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        size = f"{self.width}×{self.height}" if self.width and self.height else "an image"
        caption = escape(self.caption or "")
        data = self.read()
        if len(data) > _SHOWN_NBYTES:
            return f"<figure><em>{size}, {len(data)} bytes: too large to be shown</em><br>{caption}</figure>"
        mime = escape(_MIME.get(self.format, self.format))
        encoded = base64.b64encode(data).decode()
        return (
            f'<figure><img src="data:image/{mime};base64,{encoded}" alt="{caption}" title="{size}" '
            f'style="max-width:100%"><figcaption>{caption}</figcaption></figure>'
        )
