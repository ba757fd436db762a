"""Object3D: points in space, and boxes and arrows among them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Self

from artfs.api.media.base import Sink, Source
from artfs.api.media.content import InMemory, LocalFile
from artfs.api.media.extras import need
from artfs.api.media.fields import as_text, bad, optional
from artfs.api.media.filevalue import FileValue
from artfs.errors import InvalidArgumentError

_ENDING = ".pts.json"
FILES = ("obj", "gltf", "glb", "babylon", "stl", "pts.json")
SCENES = ("lidar/beta",)


class Object3D(FileValue):
    """A cloud of points, or a scene.

    Attributes:
        caption: as given.
    """

    kind = "object3D-file"
    folder = "media/object3D"

    def __init__(self, data_or_path: Any, caption: str | None = None, **options: str | None) -> None:
        """Arguments:
            data_or_path: an array (n, 3), (n, 4) or (n, 6): x, y, z, and a category or r, g, b; a scene, {"type":
                "lidar/beta", "points": array, "boxes": [{"corners", "label", "color"}, …], "vectors": [{"start",
                "end"}, …]}; a file, or a stream of text with `file_type`. An artifact takes no file but one of
                points (`.pts.json`).
        Raises InvalidArgumentError, ValueError, TypeError, MissingExtraError.
        """
        self.caption = as_text(caption)
        if isinstance(data_or_path, str | os.PathLike):
            content = LocalFile(data_or_path)
            if not content.name.endswith(tuple(f".{ending}" for ending in FILES)):
                raise InvalidArgumentError(f"a 3-D file is one of {', '.join(FILES)}, not {content.name!r}")
            super().__init__(content, _ENDING if content.name.endswith(_ENDING) else "")
        elif hasattr(data_or_path, "read"):
            if options.get("file_type") not in FILES:
                raise InvalidArgumentError(f"a stream needs a file_type, one of {', '.join(FILES)}")
            super().__init__(InMemory(data_or_path.read().encode()), f".{options['file_type']}")
        else:
            made = _scene(data_or_path) if isinstance(data_or_path, Mapping) else _points(data_or_path)
            text = json.dumps(made, separators=(",", ":"), allow_nan=False)
            super().__init__(InMemory(text.encode()), _ENDING)

    @classmethod
    def from_numpy(cls, data: Any, caption: str | None = None) -> Self:
        """A cloud of points."""
        return cls(data, caption)

    @classmethod
    def from_file(cls, data_or_path: Any, file_type: str | None = None, caption: str | None = None) -> Self:
        return cls(data_or_path, caption, file_type=file_type)

    @classmethod
    def from_point_cloud(
        cls, points: Any, boxes: Any = (), vectors: Any = (), point_cloud_type: str = "lidar/beta"
    ) -> Self:
        """A scene."""
        return cls({"type": point_cloud_type, "points": points, "boxes": boxes, "vectors": vectors})

    @property
    def points(self) -> Any:
        """What was stored: lists of a cloud, or the scene. Raises BadObjectError when it is neither."""
        try:
            return json.loads(self.read())
        except (ValueError, RecursionError):
            raise bad(f"{self._content.name} holds no points") from None

    def to_json(self, sink: Sink) -> dict[str, Any]:
        if self._ending != _ENDING:
            raise ValueError("an artifact takes points and scenes only as Object3D; add a 3-D file with add_file")
        return super().to_json(sink)

    def _more(self) -> dict[str, Any]:
        return {"caption": self.caption}

    def _read_more(self, fields: dict[str, Any], source: Source) -> None:
        self.caption = optional(fields, "caption", str)


def _points(data: Any) -> Any:
    array = need("numpy", "an Object3D of points").asarray(data)
    if array.ndim != 2 or array.shape[1] not in (3, 4, 6):
        raise ValueError(f"points are an array (n, 3), (n, 4) or (n, 6), not {array.shape}")
    return array.tolist()


def _plain(data: Any) -> Any:
    """Arrays as lists, at any depth."""
    if hasattr(data, "tolist"):
        return _plain(data.tolist())
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    return [_plain(value) for value in data] if isinstance(data, list | tuple) else data


def _scene(given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("type") not in SCENES:
        raise ValueError(f"a scene's type is one of {', '.join(SCENES)}, not {given.get('type')!r}")
    points = given.get("points", ())
    return {
        "type": given["type"],
        "vectors": _plain(given.get("vectors", ())),
        "points": _points(points) if len(points) else [],
        "boxes": _plain(given.get("boxes", ())),
    }
