"""Video: a film."""

from __future__ import annotations

import os
from typing import Any, Literal, get_args

from artfs.api.media.base import Source
from artfs.api.media.content import InMemory, LocalFile
from artfs.api.media.encode import encode
from artfs.api.media.extras import need
from artfs.api.media.fields import as_text, optional
from artfs.api.media.filevalue import FileValue
from artfs.errors import InvalidArgumentError

VideoFormat = Literal["gif", "mp4", "webm", "ogg"]
FORMATS: tuple[str, ...] = get_args(VideoFormat)
DEFAULT_FPS = 4


class Video(FileValue):
    """A film.

    Attributes:
        caption: as given.
        width, height: pixels, of one that was made of frames; else None.
    """

    kind = "video-file"
    folder = "media/videos"

    def __init__(
        self,
        data_or_path: Any,
        caption: str | None = None,
        fps: int | None = None,
        format: VideoFormat | None = None,
    ) -> None:
        """Arguments:
            data_or_path: a file of one of the formats; a stream of bytes; or frames, an array
                (time, channel, height, width) of numbers from 0 to 255, 1 or 3 channels; with another dimension
                before, all films are shown side by side.
            fps: frames a second; None: 4. For frames only.
            format: None: that of the file, "gif" for anything else.
        Raises InvalidArgumentError for a missing file or another format; ValueError for another shape;
        MissingExtraError.
        """
        self.caption = as_text(caption)
        self.width: int | None = None
        self.height: int | None = None
        if isinstance(data_or_path, str | os.PathLike):
            ending = os.path.splitext(os.fspath(data_or_path))[1][1:].lower()
            _check_format(ending)
            super().__init__(LocalFile(data_or_path), f".{ending}")
            return
        ending = _check_format(format or "gif")
        if hasattr(data_or_path, "read"):
            data = data_or_path.read()
            if not isinstance(data, bytes):
                raise TypeError("a video is read from a stream of bytes, not of text")
            super().__init__(InMemory(data), f".{ending}")
            return
        frames = tile(need("numpy", "a Video of frames").asarray(data_or_path))
        self.height, self.width = frames.shape[1:3]
        super().__init__(InMemory(encode(frames, fps or DEFAULT_FPS, ending)), f".{ending}")

    def _more(self) -> dict[str, Any]:
        return {"caption": self.caption, "width": self.width, "height": self.height}

    def _read_more(self, fields: dict[str, Any], source: Source) -> None:
        self.caption = optional(fields, "caption", str)
        self.width = optional(fields, "width", int)
        self.height = optional(fields, "height", int)


def _check_format(format: str) -> str:
    if format not in FORMATS:
        raise InvalidArgumentError(f"a video is one of {', '.join(FORMATS)}, not {format!r}")
    return format


def tile(films: Any) -> Any:
    """Frames (time, height, width, channel) of uint8, from (time, channel, height, width), or of several films
    (film, time, channel, height, width) in about as many rows as columns; the rest is black."""
    if films.ndim == 4:
        films = films[None]
    if films.ndim != 5 or films.shape[2] not in (1, 3) or not films.size:
        raise ValueError(
            "frames are an array (time, channel, height, width) with 1 or 3 channels, or such arrays, not "
            f"{films.shape}"
        )
    if films.dtype.kind not in "biuf":
        raise TypeError(f"pixels must be numbers, not {films.dtype}")
    numpy = need("numpy", "a Video of frames")
    films = films.clip(0, 255).astype("uint8")
    if films.shape[2] == 1:
        films = films.repeat(3, axis=2)
    count, time, channels, height, width = films.shape
    rows = 1 << (count.bit_length() // 2)
    columns = -(-count // rows)
    black = numpy.zeros((rows * columns - count, time, channels, height, width), "uint8")
    grid = numpy.concatenate([films, black]).reshape(rows, columns, time, channels, height, width)
    return grid.transpose(2, 0, 4, 1, 5, 3).reshape(time, rows * height, columns * width, channels)
