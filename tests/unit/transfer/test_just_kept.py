"""What a process that fetches was asked for ahead: it puts it into the cache and says so, and its first reader believes it."""

from collections.abc import Callable

import pytest

from artfs.store.cache import Cache
from artfs.testing.cachefiles import damage_cached
from artfs.testing.fetching import WAIT_S
from artfs.testing.ranges import FakeSource
from artfs.testing.waiting import until
from artfs.transfer.fetch import Fetcher
from artfs.transfer.recent import JustKept


def test_the_last_ones_are_believed() -> None:
    kept = JustKept(3)
    kept.add("abcd")
    kept.drop("c")
    kept.drop("x")
    assert [digest for digest in "abcdx" if digest in kept] == ["b", "d"]


@pytest.mark.parametrize("new_fetcher", ["process"], indirect=True)
class TestProcess:
    def test_it_is_in_the_cache_and_not_in_memory(self, source: FakeSource, cache: Cache, fetcher: Fetcher) -> None:
        contents = [source.add(b"%d" % number) for number in range(100)]
        fetcher.prefetch_small((content.digest, content.size) for content in contents)
        until(lambda: all(fetcher.is_just_kept(content.digest) for content in contents))
        for number, content in enumerate(contents):
            assert not fetcher.has_recent(content.digest)
            assert cache.try_read(content.digest) == b"%d" % number
        before = len(source.calls)
        fetcher.prefetch_small((content.digest, content.size) for content in contents)
        fetcher.was_read(contents[0].digest)
        assert not fetcher.is_just_kept(contents[0].digest)
        assert len(source.calls) == before

    def test_what_somebody_waits_for_is_in_memory(self, source: FakeSource, fetcher: Fetcher) -> None:
        content = source.add(b"hello")
        assert fetcher.read_small(content.digest, 5, timeout_s=WAIT_S) == b"hello"
        assert fetcher.has_recent(content.digest)
        assert not fetcher.is_just_kept(content.digest)

    def test_what_was_here_already_is_not_believed(self, source: FakeSource, cache: Cache, fetcher: Fetcher) -> None:
        """It may have rotted since it was checked."""
        old, new = source.add(b"old"), source.add(b"new")
        cache.put(old.digest, b"old")
        fetcher.prefetch_small([(old.digest, 3), (new.digest, 3)])
        until(lambda: fetcher.is_just_kept(new.digest))
        assert not fetcher.is_just_kept(old.digest)

    def test_what_was_found_damaged_is_not_believed(
        self, source: FakeSource, cache: Cache, fetcher: Fetcher, expect_log: Callable[..., None]
    ) -> None:
        expect_log("was damaged; it is fetched again", count=1)
        content = source.add(b"hello")
        fetcher.prefetch_small([(content.digest, 5)])
        until(lambda: fetcher.is_just_kept(content.digest))
        damage_cached(cache, content.digest)
        assert fetcher.read_small(content.digest, 5, timeout_s=WAIT_S) == b"hello"
        assert not fetcher.is_just_kept(content.digest)
