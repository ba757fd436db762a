"""A column of arrays: one .npz file for all of its rows."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any

from artfs.api.media.base import NAME_DIGITS, Placed, Sink, Source
from artfs.api.media.content import InMemory
from artfs.api.media.extras import need
from artfs.api.media.fields import bad
from artfs.api.media.types import NdArray


def place_arrays(rows: Sequence[Any], key: str, sink: Sink) -> Placed:
    """Stores arrays of one shape as one array with another dimension before, under the name `key`."""
    numpy = need("numpy", "a table with arrays")
    packed = io.BytesIO()
    # numpy.savez would do, but a column called "file" is an argument to it.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(f"{key}.npy")
        member.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(member, "w", force_zip64=True) as stream:
            numpy.lib.format.write_array(stream, numpy.stack(rows), allow_pickle=False)
    return sink.place(
        InMemory(packed.getvalue()), lambda digest: f"media/serialized_data/{digest[:NAME_DIGITS]}.npz"
    )


def read_arrays(type_: NdArray, count: int, source: Source) -> list[Any]:
    """The arrays of `count` rows. Raises BadObjectError, MissingExtraError."""
    numpy = need("numpy", "a table with arrays")
    with source.open(type_.path) as stream:
        try:
            with numpy.load(stream, allow_pickle=False) as archive:
                rows = archive[type_.key]
        except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise bad(f"the arrays at {type_.path!r} cannot be read: {error}") from None
    if rows.shape != (count, *type_.shape):
        raise bad(f"the arrays at {type_.path!r} have the shape {rows.shape}, not {(count, *type_.shape)}")
    return list(rows)
