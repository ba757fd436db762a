"""Audio: a recording."""

from __future__ import annotations

import hashlib
import io
import os
import re
from typing import Any, BinaryIO

from artfs.api.media.base import Sink, Source
from artfs.api.media.content import InMemory, LocalFile
from artfs.api.media.extras import need
from artfs.api.media.fields import as_text, optional
from artfs.api.media.filevalue import FileValue
from artfs.errors import InvalidArgumentError

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Audio(FileValue):
    """A recording.

    Attributes:
        caption: as given.
        uri: of one that was given by its URI, and is a reference in an artifact; None otherwise.
    """

    kind = "audio-file"
    folder = "media/audio"

    def __init__(
        self,
        data_or_path: Any,
        sample_rate: int | None = None,
        caption: str | None = None,
    ) -> None:
        """Arguments:
            data_or_path: a file; a URI; or samples, an array or list (n,) or (n, channels): floats from -1 to 1, or
                whole numbers of 16 or 32 bits. They become a WAV file of 16 bits.
            sample_rate: samples a second, in Hz; needed for samples, and only for them.
        Raises InvalidArgumentError for a missing file; ValueError; MissingExtraError.
        """
        self.caption = as_text(caption)
        self.uri: str | None = None
        if isinstance(data_or_path, str) and _URI.match(data_or_path):
            self.uri = data_or_path
            super().__init__(_Elsewhere(data_or_path), "")
            return
        if isinstance(data_or_path, str | os.PathLike):
            super().__init__(LocalFile(data_or_path), ".wav")
            return
        if not sample_rate or sample_rate < 0:
            raise ValueError("samples need a sample_rate, in Hz")
        samples = need("numpy", "an Audio of samples").asarray(data_or_path)
        if samples.dtype.kind == "i" and samples.dtype.itemsize == 8:
            samples = samples.astype("int32")
        if samples.ndim not in (1, 2) or samples.dtype.kind not in "if":
            raise ValueError(f"samples are an array (n,) or (n, channels) of numbers, not {samples.shape}")
        encoded = io.BytesIO()
        need("soundfile", "an Audio of samples").write(
            encoded, samples, int(sample_rate), format="WAV", subtype="PCM_16"
        )
        super().__init__(InMemory(encoded.getvalue()), ".wav")

    @property
    def sample_rate(self) -> int:
        """In Hz. Raises MissingExtraError."""
        with self.open() as stream:
            return int(need("soundfile", "reading audio").info(stream).samplerate)

    @property
    def duration(self) -> float:
        """In seconds. Raises MissingExtraError."""
        with self.open() as stream:
            return float(need("soundfile", "reading audio").info(stream).duration)

    def to_array(self) -> Any:
        """The samples, an array (n,) or (n, channels) of floats from -1 to 1. Raises MissingExtraError."""
        with self.open() as stream:
            return need("soundfile", "reading audio").read(stream)[0]

    def to_json(self, sink: Sink) -> dict[str, Any]:
        if self.uri is None:
            return super().to_json(sink)
        made = {"_type": self.kind, "path": sink.refer(self.uri, self.folder), "sha256": _Elsewhere(self.uri).sha256}
        return made if self.caption is None else made | {"caption": self.caption}

    def _more(self) -> dict[str, Any]:
        return {"caption": self.caption}

    def _read_more(self, fields: dict[str, Any], source: Source) -> None:
        self.caption = optional(fields, "caption", str)
        self.uri = source.uri(fields["path"])

    def _key(self) -> object:
        return super()._key() if self.uri is None else (self.uri, self._more())


class _Elsewhere:
    """What a URI names, which is fetched once it is in an artifact."""

    local_path = None

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.name = uri.rpartition("/")[2]
        self.sha256 = hashlib.sha256(uri.encode()).hexdigest()

    def open(self) -> BinaryIO:
        raise InvalidArgumentError(f"{self._uri} can be read once it is in an artifact that is logged")
