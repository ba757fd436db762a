"""References of one state folder: finds the source of a URI by its scheme.

What a scheme needs is imported when its first reference comes: most processes follow none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NoReturn

from artfs.errors import InvalidArgumentError, ReferenceUnsupportedError
from artfs.model.entry import RefEntry
from artfs.model.tree import PageSource
from artfs.references.artifact import ArtifactSource, Versions
from artfs.references.base import MAX_OBJECTS, Examined, OnBytes, Source, ignore_bytes
from artfs.references.file import FileSource
from artfs.references.other import OtherSource
from artfs.references.trust import KnownSources, Trust
from artfs.references.uris import ARTIFACT_SCHEMES, file_uri, scheme_of
from artfs.settings import Settings
from artfs.store.base import BlobStore

KNOWN_FILE = "known-references"
"""In the state folder: what its user added himself."""


class References:
    """Thread-safe. `versions`: finds the artifacts that references name."""

    def __init__(self, settings: Settings, store: BlobStore, pages: PageSource, versions: Versions) -> None:
        self.trust = Trust(settings, KnownSources(settings.home / KNOWN_FILE))
        self.files = FileSource(self.trust, settings.worker_count)
        self.artifacts = ArtifactSource(store, pages, versions)
        self._settings = settings
        self._lock = threading.Lock()
        self._sources: dict[str, Source] = {"file": self.files}
        self._sources.update(dict.fromkeys(ARTIFACT_SCHEMES, self.artifacts))
        self._other = OtherSource()
        self._makers: dict[str, Callable[[], Source]] = {
            "http": self._http, "https": self._http, "s3": self._s3, "gs": self._gs, "azure": self._azure,
        }

    def load(self) -> None:
        """Imports what any scheme may need, now: a process that lives long may find another version of it later, or nothing.
        What is missing already is an error when such a reference comes."""
        for scheme, maker in self._makers.items():
            try:
                maker()
            except ReferenceUnsupportedError as error:
                self._makers[scheme] = partial(_missing, error)

    def close(self) -> None:
        """Closes kept connections; again is fine, and so is fetching more."""
        with self._lock:
            sources = list(self._sources.values())
            for scheme in self._makers:
                self._sources.pop(scheme, None)
        for source in sources:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def source(self, uri: str) -> Source:
        """Raises InvalidArgumentError for what is no URI, ReferenceUnsupportedError when a package is missing."""
        scheme = scheme_of(uri)
        with self._lock:
            found = self._sources.get(scheme)
            if found is None:
                maker = self._makers.get(scheme)
                if maker is None:
                    return self._other
                found = self._sources[scheme] = maker()
            return found

    def examine(self, uri: str, *, checksum: bool = True, max_objects: int | None = None) -> Examined:
        """What somebody adds who types `uri`: from now on its origin is known here. `max_objects` None or 0: MAX_OBJECTS.

        Raises what Source.examine raises.
        """
        if max_objects is not None and max_objects < 0:
            raise InvalidArgumentError(f"max_objects must be a number of objects, not {max_objects!r}")
        source = self.source(uri)
        scheme = scheme_of(uri)
        if scheme not in ("file", *ARTIFACT_SCHEMES) and source is not self._other:
            self.trust.known.add(uri)
        examined = source.examine(uri, checksum=checksum, max_objects=max_objects or MAX_OBJECTS)
        if scheme == "file":
            self.trust.known.add(file_uri(self.files.given_path(uri)))
        return examined

    def fetch(self, ref: RefEntry, target: int, on_bytes: OnBytes = ignore_bytes) -> None:
        """See Source.fetch."""
        self.source(ref.uri).fetch(ref, target, on_bytes)

    def check(self, ref: RefEntry) -> None:
        """See Source.check."""
        self.source(ref.uri).check(ref)

    def _http(self) -> Source:
        source: Source = import_module("artfs.references.http").HttpSource(self.trust)
        self._sources["http"] = self._sources["https"] = source
        return source

    def _s3(self) -> Source:
        return self._objects("S3Source")

    def _gs(self) -> Source:
        return self._objects("GsSource")

    def _azure(self) -> Source:
        return self._objects("AzureSource")

    def _objects(self, name: str) -> Source:
        source: Source = getattr(import_module("artfs.references.objects"), name)(self.trust, self._settings)
        return source


def _missing(error: ReferenceUnsupportedError) -> NoReturn:
    raise error.again()
