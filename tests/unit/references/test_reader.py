"""References read in pieces, and the folder of fetched copies."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artfs.errors import ReferenceChangedError, StorageError, UnavailableError, WaitTimeoutError
from artfs.model.entry import FileEntry, RefEntry
from artfs.model.tree import PageCache
from artfs.references.base import OnBytes
from artfs.references.reader import OpenReference, ReferenceReader
from artfs.references.router import References
from artfs.settings import Settings
from artfs.store.folder import FolderStore
from artfs.testing.web import Page, WebServer


class NoVersions:
    def root_of(self, version_id: int) -> str:
        raise AssertionError("nobody asks")


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


class Rig:
    """A reader, and what somebody does with it who adds references and reads them whole."""

    def __init__(self, settings: Settings) -> None:
        store = FolderStore(settings.store_path)
        self.references = References(settings, store, PageCache(store.read), NoVersions())
        self.reader = ReferenceReader(self.references, settings)
        self.folder = settings.home / "references"

    def ref(self, uri: str, checksum: bool = True) -> RefEntry:
        (found,) = self.references.examine(uri, checksum=checksum).objects
        return found.entry(b"x")

    def open(self, ref: RefEntry, wait_s: float = 30.0) -> OpenReference:
        opened = self.reader.open(ref, wait_s)
        assert not isinstance(opened, FileEntry)
        return opened

    def read(self, ref: RefEntry) -> bytes:
        opened = self.open(ref)
        try:
            return opened.read(0, opened.size + 1)
        finally:
            opened.close()

    def close(self) -> None:
        self.reader.close()
        self.references.close()


@pytest.fixture
def rig(settings: Settings) -> Iterator[Rig]:
    made = Rig(settings)
    yield made
    made.close()


def test_a_server_is_asked_for_the_bytes_once(rig: Rig, web: WebServer) -> None:
    ref = rig.ref(web.put("/f", b"0123456789", etag="1"))
    opened = rig.open(ref)
    assert (opened.size, opened.read(2, 3), opened.read(9, 5), opened.read(10, 5)) == (10, b"234", b"9", b"")
    opened.close()
    web.seen.clear()
    assert rig.read(ref) == b"0123456789"
    assert [headers.get("If-None-Match") for _, headers in web.seen] == ['"1"']
    assert len(os.listdir(rig.folder)) == 1
    assert os.stat(rig.folder).st_mode & 0o777 == 0o700


def test_many_readers_wait_for_one_fetch(rig: Rig, web: WebServer) -> None:
    ref = rig.ref(web.put("/f", b"x" * 1000, etag="1"))
    go, fetches = threading.Event(), []
    source = rig.references.source(ref.uri)

    class Waiting:
        def examine(self, uri: str, *, checksum: bool, max_objects: int) -> object:
            return source.examine(uri, checksum=checksum, max_objects=max_objects)

        def fetch(self, ref: RefEntry, target: int, on_bytes: OnBytes) -> None:
            fetches.append(ref)
            go.wait(30)
            source.fetch(ref, target, on_bytes)

        def check(self, ref: RefEntry) -> None:
            source.check(ref)

    rig.references._sources["http"] = Waiting()  # type: ignore[assignment]
    coming = [rig.reader.begin(ref) for _ in range(5)]
    with pytest.raises(WaitTimeoutError, match="still being fetched"):
        rig.open(ref, wait_s=0.01)
    go.set()
    for future in coming:
        opened = future.result(30)()
        assert isinstance(opened, OpenReference)
        assert opened.read(0, 2000) == b"x" * 1000
        opened.close()
    assert len(fetches) == 1


def test_a_damaged_copy_is_fetched_again(settings: Settings, web: WebServer) -> None:
    first = Rig(settings)
    ref = first.ref(web.put("/f", b"right", etag="1"))
    assert first.read(ref) == b"right"
    first.close()
    (name,) = os.listdir(first.folder)
    (first.folder / name).write_bytes(b"wrong")
    again = Rig(settings)
    assert again.read(ref) == b"right"
    again.close()


def test_what_was_not_used_for_longest_is_forgotten(settings: Settings, web: WebServer) -> None:
    rig = Rig(replace(settings, reference_cache=250))
    refs = [rig.ref(web.put(f"/{n}", bytes([n]) * 100, etag=str(n))) for n in range(4)]
    for ref in (refs[0], refs[1], refs[0], refs[2]):
        assert len(rig.read(ref)) == 100
    web.seen.clear()
    for ref in (refs[0], refs[2], refs[1]):
        rig.read(ref)
    assert [path for path, headers in web.seen if "If-None-Match" not in headers] == ["/1"]
    assert len(os.listdir(rig.folder)) == 2
    rig.close()


def test_nothing_is_kept_when_the_limit_is_0(settings: Settings, web: WebServer) -> None:
    rig = Rig(replace(settings, reference_cache=0))
    ref = rig.ref(web.put("/f", b"x", etag="1"))
    opened = rig.open(ref)
    assert os.listdir(rig.folder) == []
    assert opened.read(0, 10) == b"x"
    opened.close()
    rig.close()


def test_a_fetch_that_fails_leaves_nothing(rig: Rig, web: WebServer) -> None:
    ref = rig.ref(web.put("/f", b"hello", etag="1"))
    web.pages["/f"] = Page(b"hello", {"ETag": '"1"'}, cut=1)
    with pytest.raises(UnavailableError):
        rig.read(ref)
    assert os.listdir(rig.folder) == []


def test_a_source_without_end_does_not_fill_the_disk(settings: Settings, web: WebServer) -> None:
    rig = Rig(replace(settings, free_floor=1 << 60))
    ref = rig.ref(web.put("/f", b"hello", etag="1"))
    with pytest.raises(StorageError, match="No space left"):
        rig.read(ref)
    assert os.listdir(rig.folder) == []
    rig.close()


def test_a_file_that_changes_while_it_is_open(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("hello")
    opened = rig.open(rig.ref(f"file://{path}"))
    assert opened.read(0, 2) == b"he"
    with path.open("r+") as stream:
        stream.write("HELLO and more")
    with pytest.raises(ReferenceChangedError, match="changed while it was open"):
        opened.read(2, 3)
    opened.close()
    assert not rig.folder.exists()
