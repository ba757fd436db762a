"""References that artfs cannot follow: their URI is all that is known."""

from __future__ import annotations

import logging
from typing import NoReturn

from artfs.errors import ReferenceUnsupportedError
from artfs.model.entry import RefEntry
from artfs.references.base import Examined, Found, OnBytes
from artfs.references.uris import scheme_of, shown

log = logging.getLogger(__name__)


class OtherSource:
    def examine(self, uri: str, *, checksum: bool, max_objects: int) -> Examined:
        if checksum:
            log.warning("%s is recorded without a checksum: artfs cannot read what %s:// names", shown(uri), scheme_of(uri))
        return Examined(True, [Found("", uri)])

    def fetch(self, ref: RefEntry, target: int, on_bytes: OnBytes) -> None:
        self._cannot(ref)

    def check(self, ref: RefEntry) -> None:
        self._cannot(ref)

    def _cannot(self, ref: RefEntry) -> NoReturn:
        raise ReferenceUnsupportedError(f"{shown(ref.uri)} cannot be read: artfs does not know {scheme_of(ref.uri)}://")
