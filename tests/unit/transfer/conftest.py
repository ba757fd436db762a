import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artfs.model.manifest import Manifest
from artfs.model.tree import PageCache
from artfs.store.cache import Cache
from artfs.store.folder import FolderStore
from artfs.testing.fetching import WAIT_S
from artfs.testing.ranges import FakeSource
from artfs.transfer.fetch import LIMIT_S, WORKERS, Fetcher
from artfs.transfer.fetchchild import FetchChild
from artfs.transfer.fetchprocess import FetchProcess
from artfs.transfer.push import Pushed, push_directory


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "state" / "store")


@pytest.fixture
def push(store: FolderStore) -> Callable[..., Pushed]:
    """push_directory in a batch of its own."""

    def push(root: Path, **options: object) -> Pushed:
        with store.begin() as batch:
            pushed = push_directory(batch, root, **options)  # type: ignore[arg-type]
            batch.sync()
        return pushed

    return push


@pytest.fixture
def manifest(store: FolderStore) -> Callable[[str], Manifest]:
    return lambda root: Manifest(PageCache(store.read), root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one of everything that a version can hold."""
    root = tmp_path / "folder"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a.txt").write_bytes(b"hello\n")
    (root / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "zero").write_bytes(b"")
    (root / "sub" / "same.txt").write_bytes(b"hello\n")
    (root / "sub" / "deep" / "large.bin").write_bytes(bytes(range(256)) * 9000)
    (root / "sub" / "link").symlink_to("../a.txt")
    (root / "sub" / "b\udcff\n").write_bytes(b"odd name")
    return root


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """With room for all that a test has."""
    with Cache(tmp_path / "cache", size=1 << 40, floor=0) as made:
        yield made


@pytest.fixture(params=["threads", "process"])
def new_fetcher(request: pytest.FixtureRequest) -> Iterator[Callable[..., Fetcher]]:
    """Makes fetchers whose transfers are carried out by their own threads, or by what runs in the process that fetches (here
    in a thread, so that both have one source)."""
    children: list[threading.Thread] = []

    def make(source: FakeSource, cache: Cache, **options: Any) -> Fetcher:
        if request.param == "threads":
            return Fetcher(source, cache, **options)
        ours, theirs = socket.socketpair()
        its_cache = Cache(cache.root, size=cache.limit, floor=cache.floor)
        limits = {"limit_s": options.get("limit_s", LIMIT_S), "workers": options.get("workers", WORKERS)}
        child = FetchChild(theirs, lambda _: (source, its_cache), **limits)

        def serve() -> None:
            with theirs:
                child.serve()

        children.append(threading.Thread(target=serve))
        children[-1].start()
        return Fetcher(source, cache, process=FetchProcess(ours, ended_pid()), **options)

    yield make
    for child in children:
        child.join(WAIT_S)
        assert not child.is_alive()


def ended_pid() -> int:
    """Of a process that was there, and waited for."""
    with subprocess.Popen(["true"]) as process:
        return process.pid


@pytest.fixture
def fetcher(new_fetcher: Callable[..., Fetcher], source: FakeSource, cache: Cache) -> Iterator[Fetcher]:
    made = new_fetcher(source, cache, limit_s=WAIT_S, workers=4)
    yield made
    made.close()
