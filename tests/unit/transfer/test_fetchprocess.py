"""What a fetcher makes of what the process that fetches says, in an order that two real ones come to once in a thousand years."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from artfs.errors import StorageError
from artfs.model.blocklist import decode_block_list, encode_block_list, hash_block
from artfs.model.digests import BLOCK_SIZE, digest_bytes
from artfs.model.records import Content
from artfs.store.cache import Cache
from artfs.testing.fetching import WAIT_S
from artfs.testing.ranges import FakeSource
from artfs.testing.store_contract import some_bytes
from artfs.transfer import fetchwire as wire
from artfs.transfer.fetch import Fetcher
from artfs.transfer.fetchprocess import FetchProcess

Answers = Sequence[tuple[wire.Event, bytes]]


class Scripted:
    """Stands in for the process: `script` gives what it answers each request with; None: it ends."""

    def __init__(self, script: Callable[[wire.Request], Answers | None]) -> None:
        self.asked: list[wire.Request] = []
        self._script = script
        ours, self._theirs = socket.socketpair()
        with subprocess.Popen(["true"]) as ended:
            self.process = FetchProcess(ours, ended.pid)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        sender = wire.Sender(self._theirs)
        with self._theirs:
            while (message := wire.receive(self._theirs)) is not None:
                request = wire.decode_request(message[0])
                self.asked.append(request)
                answers = self._script(request)
                if answers is None:
                    return
                if answers:
                    sender.send(wire.Answer(0, 0, 0, [event for event, _ in answers]), [data for _, data in answers if data])

    def kinds(self) -> list[str]:
        return [type(request).__name__ for request in self.asked if not isinstance(request, (wire.Begin, wire.Packed))]

    def join(self) -> None:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


@pytest.fixture
def fetching(source: FakeSource, cache: Cache) -> Iterator[Callable[..., tuple[Fetcher, Scripted]]]:
    made: list[tuple[Fetcher, Scripted]] = []

    def make(script: Callable[[wire.Request], Answers | None]) -> tuple[Fetcher, Scripted]:
        scripted = Scripted(script)
        made.append((Fetcher(source, cache, process=scripted.process), scripted))
        return made[-1]

    yield make
    for fetcher, scripted in made:
        fetcher.close()
        scripted.join()


MakeFetching = Callable[[Callable[[wire.Request], Answers | None]], tuple[Fetcher, Scripted]]


def test_whoever_waits_for_it_when_it_ends_is_served_all_the_same(
    source: FakeSource, fetching: MakeFetching, expect_log: Callable[..., None]
) -> None:
    expect_log("the process that fetches has ended", count=1)
    small, large = source.add(b"hello"), source.add(some_bytes(6 * BLOCK_SIZE))
    fetcher, scripted = fetching(lambda request: None if isinstance(request, wire.FetchSmalls) else ())
    assert fetcher.read_small(small.digest, 5, timeout_s=WAIT_S) == b"hello"
    blob = fetcher.large(large.digest, large.size, large.blocks)
    assert bytes(blob.read(0, large.size, timeout_s=WAIT_S)) == source.blobs[large.digest]
    blob.close()
    assert scripted.kinds() == ["FetchSmalls"]
    assert fetcher.status()["process"] is None


class Sparse:
    """A blob so large that its hashes have a list of their own; all blocks are zeros."""

    def __init__(self, source: FakeSource, cache: Cache) -> None:
        self.size = 8193 * BLOCK_SIZE
        self.hashes = hash_block(bytes(BLOCK_SIZE)) * 8193
        _lower, top = encode_block_list(self.size, self.hashes)
        self.top = decode_block_list(digest_bytes(top), top, self.size)
        self.content = Content("ab" * 32, self.size, digest_bytes(top))
        path = cache.path_of(self.content.digest)
        path.parent.mkdir()
        path.touch(0o644)
        os.truncate(path, self.size)
        path.chmod(0o444)

    def answers(self, request: wire.FetchBlocks, hashes: bytes) -> Answers:
        opened = wire.Opened(request.number, self.size, self.top.lower, self.top.hashes, len(hashes))
        landed = wire.BlocksLanded(request.number, list(range(request.first, request.stop)), False)
        return ((opened, hashes), (landed, b""), (wire.Done(request.number), b""))


def test_a_blob_that_becomes_complete_between_two_openings(
    source: FakeSource, cache: Cache, fetching: MakeFetching
) -> None:
    """There it was opened as a partial one, here it is a complete one: both open it anew."""
    sparse = Sparse(source, cache)
    turns = iter([b"", sparse.hashes])

    def script(request: wire.Request) -> Answers:
        return sparse.answers(request, next(turns)) if isinstance(request, wire.FetchBlocks) else ()

    fetcher, scripted = fetching(script)
    blob = fetcher.large(sparse.content.digest, sparse.size, sparse.content.blocks)
    assert bytes(blob.read(5, 10, timeout_s=WAIT_S)) == bytes(10)
    assert scripted.kinds()[:3] == ["FetchBlocks", "Forget", "FetchBlocks"]
    blob.close()


def test_a_file_that_cannot_be_opened_here(
    source: FakeSource, cache: Cache, fetching: MakeFetching, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[..., None]
) -> None:
    """The reader hears why."""
    expect_log("fetching blocks 0 to 0 of blob .*: no descriptors left")
    sparse = Sparse(source, cache)

    def refuse(digest: str) -> int:
        raise StorageError("no descriptors left")

    def script(request: wire.Request) -> Answers:
        return sparse.answers(request, sparse.hashes) if isinstance(request, wire.FetchBlocks) else ()

    fetcher, _ = fetching(script)
    blob = fetcher.large(sparse.content.digest, sparse.size, sparse.content.blocks)
    monkeypatch.setattr(cache, "try_open", refuse)
    with pytest.raises(StorageError, match="no descriptors left"):
        blob.read(5, 10, timeout_s=WAIT_S)
    blob.close()
