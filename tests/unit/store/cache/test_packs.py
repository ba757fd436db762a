"""Small blobs of the cache, many to a file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artfs.errors import BadBlobError
from artfs.model.digests import digest_bytes
from artfs.store.cache import Cache, check_blob
from artfs.store.cache.check import check_cache
from artfs.testing.cachefiles import cached_digests, damage_cached, read_cached
from artfs.testing.store_contract import some_bytes

ExpectLog = Callable[..., None]
HEAD = 40


def reopened(cache: Cache) -> Cache:
    return Cache(cache.root, size=1 << 30, floor=0)


def keep(cache: Cache, *blobs: bytes) -> list[str]:
    checked = [check_blob(digest_bytes(data), data) for data in blobs]
    assert cache.keep_small(checked)
    return [digest for digest, _ in checked]


def packs(cache: Cache) -> list[Path]:
    return sorted((cache.root / "packs").iterdir())


def test_many_blobs_are_one_file(cache: Cache) -> None:
    blobs = [b"", b"a", *(some_bytes(1000 + n) for n in range(2200))]
    digests = keep(cache, *blobs)
    assert len(packs(cache)) == 1
    assert packs(cache)[0].stat().st_size == sum(map(len, blobs)) + HEAD * len(blobs)
    with reopened(cache) as other:  # the rows of the first thousands are in the index already
        assert len(other.which(digests)) >= 1024
    cache.flush()
    for found in (cache, reopened(cache)):
        assert found.which([*digests, "ab" * 32]) == set(digests)
        for digest, data in zip(digests, blobs, strict=True):
            assert found.try_read(digest) == read_cached(found, digest) == data
            assert found.try_size(digest) == len(data)
            assert found.has(digest)
    status = cache.status()
    assert (status.count, status.nbytes) == (len(blobs), packs(cache)[0].stat().st_size)
    assert cache.try_read("ab" * 32) is None and not cache.has("ab" * 32) and cache.try_size("ab" * 32) is None


def test_only_what_has_the_digest_comes_in() -> None:
    with pytest.raises(BadBlobError, match="came wrong: its 5 bytes have another digest"):
        check_blob(digest_bytes(b"hello"), b"jello")


def test_full_ones_are_sealed(tmp_path: Path) -> None:
    with Cache(tmp_path / "c", size=8_000_000, floor=0) as cache:  # packs of 125,000 bytes
        digests = [keep(cache, some_bytes(50_000 + n))[0] for n in range(10)]
        assert len(packs(cache)) == 4
        assert [row.sealed for row in cache.index.oldest_packs(-1)].count(False) == 1
        assert all(cache.try_read(digest) is not None for digest in digests)


def test_the_next_process_goes_on_with_the_pack_of_one_that_ended(cache: Cache) -> None:
    first = keep(cache, b"first")
    second_cache = reopened(cache)
    second = keep(second_cache, b"second")
    assert len(packs(cache)) == 2  # the first process still writes to the first
    cache.close()
    second_cache.close()
    with reopened(cache) as third_cache:
        third = keep(third_cache, b"third")
        assert len(packs(cache)) == 2
        assert cached_digests(third_cache) >= {*first, *second}
        assert [third_cache.try_read(digest) for digest in (*first, *second, *third)] == [b"first", b"second", b"third"]


def test_a_killed_process_leaves_nothing_that_counts(cache: Cache) -> None:
    """What it had not told the index is cut off by the next one."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom artfs.store.cache import Cache, check_blob\n"
        "import hashlib\n"
        "cache = Cache(Path(sys.argv[1]), size=1 << 30, floor=0)\n"
        "told, lost = b'told' * 100, b'lost' * 100\n"
        "cache.keep_small([check_blob(hashlib.sha256(told).hexdigest(), told)]); cache.flush()\n"
        "cache.keep_small([check_blob(hashlib.sha256(lost).hexdigest(), lost)])\n"
        "os.write(os.open(cache.packs._current.pack.path, os.O_WRONLY | os.O_APPEND), b'half a head')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(cache.root)], check=False).returncode == -9
    told, lost = b"told" * 100, b"lost" * 100
    assert cache.try_read(digest_bytes(told)) == told
    assert cache.try_read(digest_bytes(lost)) is None
    (new,) = keep(cache, b"new")
    cache.flush()
    (path,) = packs(cache)
    assert path.stat().st_size == 3 * HEAD - HEAD + 400 + 3
    assert cache.try_read(new) == b"new"
    assert check_cache(cache).damaged == []


def test_rot_is_found_and_forgotten(cache: Cache) -> None:
    good, bad = keep(cache, some_bytes(5000), some_bytes(4000))
    damage_cached(cache, bad, at=100)
    found = check_cache(cache)
    assert (found.checked, found.nbytes, found.damaged) == (2, 9000, [bad])
    assert not cache.has(bad) and cache.has(good)
    keep(cache, some_bytes(4000))
    assert cache.try_read(bad) == some_bytes(4000)
    assert check_cache(cache).damaged == []


def test_one_that_is_not_in_the_index_yet_can_be_forgotten(cache: Cache) -> None:
    first, second = keep(cache, b"first", b"second")
    cache.discard(first)
    assert (cache.has(first), cache.has(second)) == (False, True)
    cache.flush()
    assert cached_digests(cache) == {second}


def test_whoever_reads_one_that_goes_reads_on(tmp_path: Path) -> None:
    with Cache(tmp_path / "c", size=8_000_000, floor=0) as cache, Cache(tmp_path / "c", size=8_000_000, floor=0) as other:
        data = some_bytes(130_000)
        (digest,) = keep(cache, data)
        spot = other.find_small(digest)
        assert spot is not None
        assert cache.evict(1) == 130_000 + HEAD
        assert packs(cache) == []
        assert not other.has(digest)
        other.flush()
        assert os.pread(spot.pack.fd, spot.size, spot.offset) == data


def test_what_another_process_writes_to_stays(cache: Cache) -> None:
    (digest,) = keep(cache, b"hello")
    cache.flush()
    with reopened(cache) as other:
        assert other.evict(1 << 30) == 0
        assert other.try_read(digest) == b"hello"
    assert cache.evict(1 << 30) == 5 + HEAD  # its own it may take
    assert not cache.has(digest)
    (again,) = keep(cache, b"hello")
    assert cache.try_read(again) == b"hello"


def test_what_is_pinned_moves_out_of_a_pack_that_goes(tmp_path: Path) -> None:
    with Cache(tmp_path / "c", size=8_000_000, floor=0) as cache:
        blobs = [some_bytes(10_000 + n) for n in range(26)]
        digests = keep(cache, *blobs)
        cache.flush()
        cache.pin("https://s", "e/p/c:latest", digests[0], digests[:3])
        before = packs(cache)
        cache.evict(1 << 30)
        assert not set(before) & set(packs(cache))
        assert cached_digests(cache) == set() or cached_digests(cache) <= set(digests[:3])
        cache.flush()
        assert cached_digests(cache) == set(digests[:3])
        assert [cache.try_read(digest) for digest in digests[:3]] == blobs[:3]
        # Most of what is left is pinned: it stays where it is.
        kept = packs(cache)
        assert cache.evict(1 << 30) == 0
        assert packs(cache) == kept


def test_the_longest_unused_pack_goes_first(tmp_path: Path) -> None:
    with Cache(tmp_path / "c", size=1_000_000, floor=0) as cache:  # packs of 64 KiB
        digests = []
        for number in range(4):
            digests += keep(cache, some_bytes(70_000 + number))
            age(cache, 1000 - number)
        assert cache.try_read(digests[0]) is not None  # used just now
        cache.evict(1)
        assert [cache.has(digest) for digest in digests] == [True, False, True, True]


def age(cache: Cache, seconds: int) -> None:
    """All packs were used so much longer ago."""
    cache.flush()
    connection = sqlite3.connect(cache.root / "index.db", isolation_level=None)
    connection.execute("UPDATE packs SET used_at = used_at - ?", (seconds,))
    connection.close()


def test_the_index_is_made_anew(cache: Cache) -> None:
    digests = keep(cache, *(some_bytes(n) for n in range(1, 50)))
    before = cache.status()
    cache.close()
    (path,) = packs(cache)
    with path.open("ab") as stream:
        stream.write(b"x" * 60)  # a torn head and some bytes
    for part in cache.root.glob("index.db*"):
        part.unlink()
    with reopened(cache) as again:
        assert cached_digests(again) == set(digests)
        assert again.status().count == before.count
        assert check_cache(again).damaged == []
        more = keep(again, b"more")
        assert again.try_read(more[0]) == b"more"


def test_a_pack_that_somebody_deleted_is_forgotten(cache: Cache) -> None:
    (digest,) = keep(cache, b"hello")
    cache.close()
    packs(cache)[0].unlink()
    with reopened(cache) as again:
        assert again.try_read(digest) is None
        assert not again.has(digest)
        assert again.status().count == 0


def test_a_full_disk_keeps_none_and_says_so(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    (first,) = keep(cache, b"first")

    def full(fd: int, vectors: list[bytes], offset: int) -> int:
        os.pwrite(fd, b"half", offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwritev", full)
    expect_log("caching blob .* failed: No space left")
    assert not cache.keep_small([check_blob(digest_bytes(b"second"), b"second")])
    monkeypatch.undo()
    cache.flush()
    assert packs(cache)[0].stat().st_size == 5 + HEAD
    assert cached_digests(cache) == {first}


def test_a_disk_that_takes_a_part_is_asked_again(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev
    monkeypatch.setattr("os.pwritev", lambda fd, vectors, offset: real(fd, [vectors[0][:7]], offset))
    digests = keep(cache, b"first", b"second")
    monkeypatch.undo()
    assert [cache.try_read(digest) for digest in digests] == [b"first", b"second"]


@settings(max_examples=60, deadline=None)
@example(steps=[("k", 0), ("f", 0), ("d", 0)])  # what came was forgotten again, and its bytes are there
@given(steps=st.lists(st.tuples(st.sampled_from("kdfeor"), st.integers(0, 11)), max_size=40))
def test_what_is_there_is_right_whatever_was_done(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """keep, discard, flush, evict, open anew, read: by two caches over one folder."""
    root = tmp_path_factory.mktemp("cache")
    blobs = [some_bytes(30_000 * number + number) for number in range(12)]
    digests = [digest_bytes(data) for data in blobs]
    caches = [Cache(root, size=2_000_000, floor=0) for _ in range(2)]
    try:
        for turn, (step, number) in enumerate(steps):
            cache = caches[turn % 2]
            if step == "k":
                keep(cache, blobs[number])
                assert cache.try_read(digests[number]) == blobs[number]
            elif step == "d":
                cache.discard(digests[number])
            elif step == "f":
                cache.flush()
            elif step == "e":
                cache.evict(30_000 * number)
            elif step == "o":
                cache.close()
                caches[turn % 2] = Cache(root, size=2_000_000, floor=0)
            else:
                assert cache.try_read(digests[number]) in (None, blobs[number])
        for cache in caches:
            cache.flush()
        nbytes = sum(path.stat().st_size for path in (root / "packs").iterdir())
        assert caches[0].index.totals() == (nbytes, len(cached_digests(caches[0])))
        assert check_cache(caches[0]).damaged == []
    finally:
        for cache in caches:
            cache.close()
