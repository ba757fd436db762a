"""Ranges of large blobs whose places are not good for as long as the transfer takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from artfs.client.answer import Answer
from artfs.client.store import RemoteStore
from artfs.errors import UnavailableError
from artfs.testing.blobworld import some_data
from artfs.wire.messages import Located, LocatedBlob, StoredObject

PART = 1000
DATA = some_data(5 * PART)
DIGEST = "d" * 64


class Bucket:
    """Stands for client.http.Http: tells places of which each set is good for `good_for` requests."""

    base_url = "https://server.example"

    def __init__(self, good_for: int) -> None:
        self._good_for = good_for
        self._left = 0
        self.told = 0

    def call(self, route: Any, *given: Any, **more: Any) -> Located:
        self.told += 1
        self._left = self._good_for
        objects = [StoredObject(f"https://bucket.example/{self.told}/{number}", PART, 3600.0) for number in range(5)]
        return Located(objects, [LocatedBlob(DIGEST, len(DATA), list(range(5)), part_size=PART)], [], [])

    @contextmanager
    def fetch(self, url: str, *, headers: Any, silence_s: float) -> Iterator[Answer]:
        generation, number = map(int, url.rsplit("/", 2)[1:])
        first, _, last = headers["Range"].removeprefix("bytes=").partition("-")
        if generation != self.told or not self._left:
            yield Answer(403, {}, "bucket.example", iter([b"expired"]))
            return
        self._left -= 1
        start = number * PART
        data = DATA[start + int(first) : start + int(last) + 1]
        yield Answer(206, {"content-range": f"bytes {first}-{last}/{PART}"}, "bucket.example", iter([data]))


def read(bucket: Bucket) -> bytes:
    store = RemoteStore(bucket)  # type: ignore[arg-type]
    deadline = time.monotonic() + 20
    return b"".join(map(bytes, store.read_range(DIGEST, len(DATA), 0, len(DATA), deadline=deadline)))


@pytest.mark.parametrize("good_for", [1, 2, 5])
def test_places_are_asked_for_as_often_as_they_end(good_for: int) -> None:
    """A blob of a hundred gigabytes takes longer than two times the hour that a place is good for."""
    bucket = Bucket(good_for)
    assert read(bucket) == DATA
    assert bucket.told == -(-5 // good_for)


def test_places_that_are_never_good_are_asked_for_once_more() -> None:
    bucket = Bucket(0)
    with pytest.raises(UnavailableError, match="cannot be got: bucket.example answers 403"):
        read(bucket)
    assert bucket.told == 2
