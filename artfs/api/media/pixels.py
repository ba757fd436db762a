"""Arrays, tensors, figures and Pillow's images, as one of Pillow's images."""

from __future__ import annotations

import io
from typing import Any

from artfs.api.media.extras import need

_WHAT = "an Image of pixels"


def to_pillow(data: Any, mode: str | None, *, normalize: bool) -> Any:
    """`data`: an image of Pillow's; an array (height, width[, 1, 2, 3 or 4]); a tensor, which may also have its
    channels first; or a figure of matplotlib's. `mode`: Pillow's, None: by the number of channels.

    `normalize`: see Image. Raises TypeError, ValueError for another shape, MissingExtraError.
    """
    pillow = need("PIL.Image", _WHAT)
    if isinstance(data, pillow.Image):
        return data.convert(mode) if mode else data
    figure: Any = data if hasattr(data, "savefig") else getattr(data, "figure", None)
    if figure is not None and hasattr(figure, "savefig"):
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", metadata={"Software": None})
        return pillow.open(drawn)
    numpy = need("numpy", _WHAT)
    if hasattr(data, "detach"):  # a tensor, which may be part of a graph, and on another device
        array = data.detach().cpu().numpy()
        if array.ndim == 3 and _has_channels_first(array.shape):
            array = numpy.moveaxis(array, 0, -1)
    else:
        array = numpy.asarray(data)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)) or not array.size:
        raise ValueError(
            f"an image is an array (height, width) or (height, width, 1 to 4), and none of them 0, not {array.shape}"
        )
    image = pillow.fromarray(_to_bytes(numpy, array, normalize))
    return image.convert(mode) if mode else image


def _has_channels_first(shape: tuple[int, ...]) -> bool:
    """As is the custom for tensors, where both could be meant."""
    return shape[0] in (1, 3) or (shape[0] in (2, 4) and shape[2] not in (1, 2, 3, 4))


def _to_bytes(numpy: Any, array: Any, normalize: bool) -> Any:
    if array.dtype == numpy.uint8:
        return numpy.ascontiguousarray(array)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"pixels must be numbers, not {array.dtype}")
    values = numpy.nan_to_num(array.astype("float64"))
    if normalize:
        low = values.min()
        if low < 0:
            spread = values.max() - low
            values = (values - low) / (spread or 1.0)
        if values.max() <= 1:
            values = values * 255
    return values.clip(0, 255).astype("uint8")
