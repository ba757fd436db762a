"""What of small blobs goes to a server together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from artfs.client.http import Http
from artfs.client.upload import GROUP_COUNT, Flights, RemoteBatch
from artfs.model.digests import digest_bytes
from artfs.testing.waiting import until
from artfs.wire.blobroutes import MISSING_BLOBS, STORE_BLOBS
from artfs.wire.frames import split_frames
from artfs.wire.messages import BlobList

PLACE = ("e", "p")


class Server:
    """Stands for client.http.Http; lacks every blob. `came`: the digests of each request that brought some."""

    timeout_s = 5.0

    def __init__(self) -> None:
        self.came: list[set[str]] = []

    def call(self, route: Any, arguments: Any = None, query: Any = None, body: Any = None) -> BlobList:
        assert route is MISSING_BLOBS
        return BlobList(body.digests)

    def exchange(self, route: Any, arguments: Any = None, *, content: bytes, headers: Any) -> None:
        assert route is STORE_BLOBS
        self.came.append({frame.digest for frame in split_frames(content)})

    @contextmanager
    def ending_with(self, end: threading.Event) -> Iterator[None]:
        yield


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def batch(server: Server) -> Iterator[RemoteBatch]:
    with RemoteBatch(cast("Http", server), PLACE, Flights()) as batch:
        yield batch


def test_pages_of_trees_go_apart_from_files(server: Server, batch: RemoteBatch) -> None:
    files, pages = set(), set()
    for number in range(10):
        files.add(batch.put_bytes(b"file %d" % number))
        pages.add(batch.put_page(b"page %d" % number))
    batch.sync()
    assert sorted(server.came, key=sorted) == sorted([files, pages], key=sorted)


def test_a_page_that_is_a_file_as_well_goes_once(server: Server, batch: RemoteBatch) -> None:
    assert batch.put_bytes(b"both") == batch.put_page(b"both") == digest_bytes(b"both")
    batch.sync()
    assert server.came == [{digest_bytes(b"both")}]


def test_many_pages_do_not_wait_for_the_end(server: Server, batch: RemoteBatch) -> None:
    batch.put_bytes(b"file")
    first = {batch.put_page(b"page %d" % number) for number in range(GROUP_COUNT)}
    until(lambda: server.came, "they are sent")
    assert server.came == [first]
    last = batch.put_page(b"one more")
    batch.sync()
    assert {last} in server.came
