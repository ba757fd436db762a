"""The cache's files: what is kept, what goes first, what survives, what is told."""

import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from artfs.errors import BadBlobError, StateVersionError, StorageError
from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE, digest_bytes
from artfs.store.cache import Cache
from artfs.store.cache.index import _FIRST, _statements
from artfs.testing.cachefiles import cached_digests, fill, partial_of, read_cached
from artfs.testing.store_contract import some_bytes

ExpectLog = Callable[..., None]


def put(cache: Cache, data: bytes) -> str:
    digest = digest_bytes(data)
    assert cache.put(digest, data)
    return digest


# complete blobs that are files of their own
BIG = some_bytes(BLOCKS_ABOVE + 9)


def test_a_blob_is_a_plain_file_of_its_name(cache: Cache) -> None:
    digest = put(cache, BIG)
    assert read_cached(cache, digest) == BIG
    path = cache.path_of(digest)
    assert path.read_bytes() == BIG
    assert path.stat().st_mode & 0o777 == 0o444
    assert cache.root.stat().st_mode & 0o777 == 0o700
    assert cache.status().count == 1


def test_only_what_has_the_digest_comes_in(cache: Cache) -> None:
    with pytest.raises(BadBlobError, match="came wrong"):
        cache.put(digest_bytes(b"hello"), b"jello")
    assert cache.status().count == 0


def test_twice_is_once(cache: Cache) -> None:
    digest = put(cache, BIG)
    assert cache.put(digest, BIG)
    assert (cache.status().count, cache.status().nbytes) == (1, len(BIG))


def test_what_is_half_written_is_not_there(cache: Cache) -> None:
    digest = put(cache, BIG)
    path = cache.path_of(digest)
    os.chmod(path, 0o200)
    assert not cache.has(digest)
    assert cache.try_open(digest) is None
    assert cache.put(digest, BIG)  # somebody may be at it
    assert not cache.has(digest)
    os.utime(path, (0, 0))  # no, they were killed
    assert cache.put(digest, BIG)
    assert read_cached(cache, digest) == BIG


def test_a_writer_that_was_killed(cache: Cache) -> None:
    """kill -9 in the middle of a write leaves nothing that counts."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom artfs.store.cache import Cache\n"
        "import artfs.store.cache.cache as module\n"
        "def torn(fd, data, offset):\n"
        "    os.write(fd, data[:3]); os.kill(os.getpid(), signal.SIGKILL)\n"
        "module.write_all = torn\n"
        "Cache(Path(sys.argv[1]), size=1 << 30, floor=0).put(sys.argv[2], bytes(2_000_000))\n"
    )
    digest = digest_bytes(bytes(2_000_000))
    killed = subprocess.run([sys.executable, "-c", code, str(cache.root), digest], check=False)
    assert killed.returncode == -9
    assert cache.path_of(digest).stat().st_size == 3
    assert read_cached(cache, digest) is None


DATA = some_bytes(20 * BLOCK_SIZE + 9)


# room
def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    with Cache(tmp_path / "c", size=4_400_000, floor=0) as cache:
        digests = []
        for number in range(3):
            digests.append(put(cache, some_bytes(1_100_000 - number)))
            cache.flush()
            _age(cache, digests[-1], 100 - number)
        assert read_cached(cache, digests[0]) is not None  # used just now
        put(cache, some_bytes(1_300_000))
        assert cache.has(digests[0])
        assert not cache.has(digests[1])
        assert cache.status().nbytes <= 4_400_000


def test_what_is_open_or_pinned_stays(tmp_path: Path) -> None:
    with Cache(tmp_path / "c", size=10_000_000, floor=0) as cache:
        first, second, third = (put(cache, some_bytes(1_100_000 - number)) for number in range(3))
        large, partial = partial_of(cache, some_bytes(5 * BLOCK_SIZE))
        cache.flush()
        fd = cache.try_open(first)
        cache.pin("https://s", "e/p/c:latest", second, [second])
        assert cache.evict(1 << 30) >= 1_099_998
        assert (cache.has(first), cache.has(second), cache.has(third)) == (True, True, False)
        assert (cache.root / "partial" / large.digest).exists()
        assert fd is not None
        os.close(fd)
        partial.close()
        assert cache.unpin("https://s", "e/p/c:latest")
        cache.evict(1 << 30)
        assert cache.status().count == 0
        assert not cache.has(second)
        assert os.listdir(cache.root / "partial") == []


def test_what_came_back_meanwhile_is_not_evicted(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index has it still, but its file had gone when it was looked for."""
    content, partial = partial_of(cache, DATA)
    partial.close()
    cache.flush()
    for end in ("", ".map"):
        os.unlink(cache.root / "partial" / (content.digest + end))
    remove, again = cache.index.remove, []

    def come_back(digests: Iterable[str]) -> None:
        again.append(partial_of(cache, DATA)[1])
        fill(cache, again[0], DATA, range(2))
        remove(digests)

    monkeypatch.setattr(cache.index, "remove", come_back)
    cache.evict(1 << 30)
    third = partial_of(cache, DATA)[1]
    assert third.blocks_here == 2
    for opened in (third, *again):
        opened.close()


def test_what_is_pinned_does_not_count(tmp_path: Path) -> None:
    with Cache(tmp_path / "c", size=20_000, floor=0) as cache:
        pinned = put(cache, some_bytes(19_000))
        cache.flush()
        cache.pin("https://s", "e/p/c:latest", pinned, [pinned])
        put(cache, some_bytes(15_000))
        assert cache.has(pinned)
        status = cache.status()
        assert (status.pinned_nbytes, status.pinned_count, status.count) == (19_000, 1, 2)


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    with Cache(tmp_path / "c", size=20_000, floor=0) as cache:
        data = some_bytes(30_000)
        assert not cache.put(digest_bytes(data), data)
        assert cache.status().count == 0


def test_the_disk_is_not_filled(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    with Cache(tmp_path / "c", size=1 << 40, floor=free + (1 << 30)) as cache:
        assert not cache.put(digest_bytes(b"hello"), b"hello")


def test_one_that_another_process_evicts_is_not_there(cache: Cache) -> None:
    digest = put(cache, BIG)
    fd = os.open(cache.path_of(digest), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert cache.try_open(digest) is None
    os.close(fd)
    assert read_cached(cache, digest) == BIG


# the index
def test_the_index_is_made_anew_from_the_files(cache: Cache) -> None:
    small = put(cache, b"hello" * 1000)
    big = put(cache, BIG)
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(2))
    partial.close()
    cache.close()
    (cache.root / "index.db").unlink()
    with Cache(cache.root, size=1 << 30, floor=0) as again:
        rows = {row.digest: row for row in again.index.blobs()}
        assert set(rows) == {big, content.digest}
        assert rows[big].complete and not rows[content.digest].complete
        assert read_cached(again, small) == b"hello" * 1000
        assert again.status().nbytes == sum(row.nbytes for row in rows.values()) + 5040
        assert again.status().count == 3


@pytest.mark.parametrize("damage", [b"not a database at all" * 500, b""])
def test_a_damaged_index_is_put_aside(cache: Cache, damage: bytes) -> None:
    digest = put(cache, b"hello")
    cache.close()
    for path in cache.root.glob("index.db*"):
        path.unlink()
    (cache.root / "index.db").write_bytes(damage)
    with Cache(cache.root, size=1 << 30, floor=0) as again:
        assert cached_digests(again) == {digest}
        assert read_cached(again, digest) == b"hello"
    assert (cache.root / "index.db.damaged").exists() == bool(damage)


def test_the_index_of_a_newer_program_is_refused(cache: Cache) -> None:
    """That program may be using it, and pins are nowhere else."""
    cache.pin("https://s", "e/p/c:latest", put(cache, b"1"), [])
    cache.close()
    with closing(sqlite3.connect(cache.root / "index.db")) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(StateVersionError, match="made by a newer artfs .*: get the newer one, or set ARTFS_CACHE_PATH"):
        Cache(cache.root, size=1 << 30, floor=0)
    with closing(sqlite3.connect(cache.root / "index.db")) as connection:
        assert connection.execute("SELECT name FROM pins").fetchall() == [("e/p/c:latest",)]


def test_the_index_of_an_older_program_is_upgraded_and_kept_as_it_was(cache: Cache) -> None:
    """Version 1 knew no packs."""
    digest = digest_bytes(b"1")
    cache.close()
    for path in cache.root.glob("index.db*"):
        path.unlink()
    with closing(sqlite3.connect(cache.root / "index.db")) as connection:
        for statement in _statements(_FIRST):
            connection.execute(statement)
        connection.execute("INSERT INTO pins VALUES (1, 'https://s', 'e/p/c:latest', ?, 5)", (bytes.fromhex(digest),))
        connection.execute("INSERT INTO pinned VALUES (?, 1)", (bytes.fromhex(digest),))
        connection.execute("PRAGMA user_version=1")
        connection.commit()
    for _ in range(2):
        with Cache(cache.root, size=1 << 30, floor=0) as again:
            assert [pin.name for pin in again.pins()] == ["e/p/c:latest"]
            assert again.index.is_pinned(digest)
            assert read_cached(again, put(again, b"hello")) == b"hello"
    with closing(sqlite3.connect(cache.root / "index.db.before-2-from-1")) as connection:
        assert connection.execute("SELECT name FROM pins").fetchall() == [("e/p/c:latest",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'packs'").fetchall()


def test_pins(cache: Cache) -> None:
    first, second = put(cache, b"1"), put(cache, b"2")
    cache.flush()
    pin = cache.pin("https://s", "e/p/c:latest", first, [first, second])
    assert cache.pins() == [pin]
    assert cache.index.is_pinned(first) and cache.index.is_pinned(second)
    moved = cache.pin("https://s", "e/p/c:latest", second, [second])
    assert (moved.id, moved.root) == (pin.id, second)
    assert not cache.index.is_pinned(first)
    assert cache.unpin("https://s", "e/p/c:latest")
    assert not cache.unpin("https://s", "e/p/c:latest")
    assert not cache.index.is_pinned(second)


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="making the cache"):
        Cache(tmp_path / "file" / "cache")


def test_processes_share_it(cache: Cache) -> None:
    """Eight processes put and evict at once: what is there is right, and the index agrees with the files."""
    code = (
        "import os, sys, hashlib\nfrom pathlib import Path\nfrom artfs.store.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]), size=9_000_000, floor=0)\n"
        "for n in range(150):\n"
        "    data = bytes([n]) * (10_000 + n if n % 10 else 1_100_000 + n)\n"
        "    digest = hashlib.sha256(data).hexdigest()\n"
        "    cache.put(digest, data)\n"
        "    fd = cache.try_open(digest)\n"
        "    if fd is not None:\n"
        "        assert os.pread(fd, 1 << 21, 0) == data; os.close(fd)\n"
        "    if n % 50 == 0: cache.evict(2_000_000)\n"
        "cache.close()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(cache.root)]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    for digest in cached_digests(cache):
        data = cache.try_read(digest)
        assert data is not None and digest_bytes(data) == digest
    there = {path.name: path.stat().st_size for path in (cache.root / "blobs").glob("*/*")}
    rows = {row.digest: row.nbytes for row in cache.index.blobs()}
    assert rows.keys() == there.keys()
    packs = {row.name: row.nbytes for row in cache.index.oldest_packs(-1)}
    assert packs == {path.name: path.stat().st_size for path in (cache.root / "packs").iterdir()}
    assert cache.index.totals() == (sum(rows.values()) + sum(packs.values()), len(cached_digests(cache)))


def _age(cache: Cache, digest: str, seconds: int) -> None:
    connection = sqlite3.connect(cache.root / "index.db", isolation_level=None)
    connection.execute(
        "UPDATE blobs SET used_at = used_at - ? WHERE digest = ?", (seconds, bytes.fromhex(digest))
    )
    connection.close()
