"""Frames into a film: GIF by Pillow, anything else by PyAV (FFmpeg)."""

from __future__ import annotations

import io
from typing import Any

from artfs.api.media.extras import need
from artfs.errors import InvalidArgumentError

_CODECS = {"mp4": "libx264", "webm": "libvpx-vp9", "ogg": "libtheora"}


def encode(frames: Any, fps: int, format: str) -> bytes:
    """A film of `frames`, an array (time, height, width, 3) of uint8, as bytes of that format.

    Sides of odd length get another row or column of pixels, except in a GIF. Raises InvalidArgumentError when this
    PyAV cannot make the format; MissingExtraError.
    """
    return _gif(frames, fps) if format == "gif" else _film(frames, fps, format)


def _gif(frames: Any, fps: int) -> bytes:
    pillow = need("PIL.Image", "a Video of frames")
    images = [pillow.fromarray(frame) for frame in frames]
    made = io.BytesIO()
    images[0].save(
        made, format="GIF", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0
    )
    return made.getvalue()


def _film(frames: Any, fps: int, format: str) -> bytes:
    av = need("av", f"a Video of frames as {format}")
    numpy = need("numpy", "a Video of frames")
    _, height, width, _ = frames.shape
    frames = numpy.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    made = io.BytesIO()
    with av.open(made, "w", format=format) as container:
        try:
            stream = container.add_stream(_CODECS[format], rate=fps)
        except ValueError as error:
            raise InvalidArgumentError(f"this PyAV cannot make {format} ({error}); use mp4 or gif") from error
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return made.getvalue()
