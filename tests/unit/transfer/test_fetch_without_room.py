"""Fetching while the cache has no room: what comes is in memory, for a moment."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artfs.model.digests import BLOCK_SIZE
from artfs.model.records import Content
from artfs.store.cache import Cache
from artfs.testing.fetching import WAIT_S, large
from artfs.testing.ranges import FakeSource
from artfs.testing.store_contract import some_bytes
from artfs.testing.waiting import until
from artfs.transfer import fetch as fetch_module
from artfs.transfer.fetch import Fetcher


@pytest.fixture
def cramped(
    new_fetcher: Callable[..., Fetcher], source: FakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fetcher]:
    """Its cache takes nothing, and its memory two blocks."""
    monkeypatch.setattr(fetch_module, "RECENT_NBYTES", 2 * BLOCK_SIZE)
    with Cache(tmp_path / "small", size=0, floor=0) as cache:
        made = new_fetcher(source, cache)
        yield made
        made.close()


def test_without_room_it_is_read_all_the_same(
    new_fetcher: Callable[..., Fetcher], source: FakeSource, tmp_path: Path
) -> None:
    with Cache(tmp_path / "small", size=0, floor=0) as cache:
        fetcher = new_fetcher(source, cache)
        content = source.add(b"hello")
        assert fetcher.read_small(content.digest, 5, timeout_s=WAIT_S) == b"hello"
        data = some_bytes(3 * BLOCK_SIZE * 4)
        content = source.add(data)
        blob = large(fetcher, content)
        assert bytes(blob.read(0, len(data), timeout_s=WAIT_S)) == data
        blob.close()
        assert cache.status().nbytes < BLOCK_SIZE
        fetcher.close()


def test_without_room_what_goes_from_memory_is_fetched_again(cramped: Fetcher, source: FakeSource) -> None:
    """It is not taken for damaged because nothing of it is in the file."""
    contents = {source.add(data): data for data in (some_bytes(20 * BLOCK_SIZE, seed=seed) for seed in range(3))}
    wrong: list[Content] = []

    def read(content: Content, data: bytes) -> None:
        blob = large(cramped, content)
        for offset in range(0, len(data), 5 * BLOCK_SIZE):
            if bytes(blob.read(offset, 5 * BLOCK_SIZE, timeout_s=60)) != data[offset : offset + 5 * BLOCK_SIZE]:
                wrong.append(content)
        blob.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(read, contents, contents.values()))
    assert (wrong, cramped.stats.damaged) == ([], 0)


def test_who_waits_for_more_than_there_is_room_for_waits_once(cramped: Fetcher, source: FakeSource) -> None:
    """And does not have it fetched again and again."""
    content = source.add(some_bytes(20 * BLOCK_SIZE))
    blob = large(cramped, content)
    blob.wait(0, blob.count, WAIT_S)
    assert source.sent[content.digest] <= 2 * content.size
    blob.close()


def test_without_room_what_was_asked_for_ahead_is_in_memory(cramped: Fetcher, source: FakeSource) -> None:
    contents = [source.add(b"%d" % number) for number in range(10)]
    cramped.prefetch_small((content.digest, content.size) for content in contents)
    until(lambda: all(cramped.has_recent(content.digest) for content in contents))
    assert not any(cramped.is_just_kept(content.digest) for content in contents)
