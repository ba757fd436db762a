"""The cache's files: what is kept, what goes first, what survives, what is told."""

import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from artfs.errors import BadBlobError, StateVersionError, StorageError
from artfs.model.blocklist import decode_block_list
from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE, digest_bytes
from artfs.model.records import Content
from artfs.store.cache import Cache, Partial
from artfs.store.cache.index import _FIRST, _statements
from artfs.store.verify import hash_bytes
from artfs.testing.cachefiles import cached_digests
from artfs.testing.store_contract import some_bytes

ExpectLog = Callable[..., None]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache", size=1 << 30, floor=0) as made:
        yield made


def put(cache: Cache, data: bytes) -> str:
    digest = digest_bytes(data)
    assert cache.put(digest, data)
    return digest


def read(cache: Cache, digest: str) -> bytes | None:
    fd = cache.try_open(digest)
    if fd is None:
        return None
    with os.fdopen(fd, "rb") as stream:
        return stream.read()


def partial_of(cache: Cache, data: bytes) -> tuple[Content, Partial]:
    content, objects = hash_bytes(data)
    top = decode_block_list(content.blocks, objects[-1], len(data))
    return content, cache.open_partial(content.digest, content.blocks, top)


def fill(cache: Cache, partial: Partial, data: bytes, indexes: range) -> None:
    for index in indexes:
        block = data[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]
        partial.check(index, block)
        assert cache.keep_block(partial, index, block)


# complete blobs that are files of their own
BIG = some_bytes(BLOCKS_ABOVE + 9)


def test_a_blob_is_a_plain_file_of_its_name(cache: Cache) -> None:
    digest = put(cache, BIG)
    assert read(cache, digest) == BIG
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
    assert read(cache, digest) == BIG


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
    assert read(cache, digest) is None


# large blobs
DATA = some_bytes(20 * BLOCK_SIZE + 9)


def test_a_partial_knows_its_blocks(cache: Cache) -> None:
    content, partial = partial_of(cache, DATA)
    assert partial.missing(0, partial.count) == list(range(21))
    fill(cache, partial, DATA, range(3, 6))
    fill(cache, partial, DATA, range(20, 21))
    assert partial.missing(2, 8) == [2, 6, 7]
    assert (partial.blocks_here, partial.is_complete) == (4, False)
    assert not cache.promote(partial)
    again = partial_of(cache, DATA)[1]
    assert [index for index in range(21) if again.has(index)] == [3, 4, 5, 20]
    assert again.read(20) == DATA[-9:]
    for opened in (partial, again):
        opened.close()
    assert cache.status().nbytes < 2 * 4 * BLOCK_SIZE
    assert not cache.has(content.digest)


def test_only_the_right_blocks_come_in(cache: Cache) -> None:
    _, partial = partial_of(cache, DATA)
    for bad in (DATA[1 : BLOCK_SIZE + 1], DATA[: BLOCK_SIZE - 1], DATA[BLOCK_SIZE : 2 * BLOCK_SIZE]):
        with pytest.raises(BadBlobError):
            partial.check(0, bad)
    partial.close()


def test_a_whole_one_is_promoted(cache: Cache) -> None:
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(21))
    assert cache.promote(partial)
    partial.close()
    assert read(cache, content.digest) == DATA
    assert cache.path_of(content.digest).stat().st_mode & 0o777 == 0o444
    assert os.listdir(cache.root / "partial") == []


def test_torn_blocks_are_found_before_it_is_promoted(cache: Cache, expect_log: ExpectLog) -> None:
    expect_log("1 blocks of the cached blob .* were damaged; they are fetched again")
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(21))
    os.pwrite(partial.fd, bytes(100), 5 * BLOCK_SIZE)  # as after a power cut
    assert not cache.promote(partial)
    assert partial.missing(0, 21) == [5]
    fill(cache, partial, DATA, range(5, 6))
    assert cache.promote(partial)
    partial.close()
    assert read(cache, content.digest) == DATA


def test_a_block_list_of_another_blob_makes_no_complete_one(cache: Cache) -> None:
    content, objects = hash_bytes(DATA)
    wrong = "ab" * 32
    partial = cache.open_partial(wrong, content.blocks, decode_block_list(content.blocks, objects[-1], len(DATA)))
    fill(cache, partial, DATA, range(21))
    with pytest.raises(BadBlobError, match="is not what it is called"):
        cache.promote(partial)
    partial.close()
    assert not cache.has(wrong)
    assert os.listdir(cache.root / "partial") == []


def test_a_complete_one_with_a_bad_block_is_mended(cache: Cache) -> None:
    content, objects = hash_bytes(DATA)
    top = decode_block_list(content.blocks, objects[-1], len(DATA))
    _, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(21))
    cache.promote(partial)
    partial.close()
    mended = cache.demote(content.digest, content.blocks, top, top.hashes, [7])
    assert not cache.has(content.digest)
    assert mended.missing(0, 21) == [7]
    fill(cache, mended, DATA, range(7, 8))
    assert cache.promote(mended)
    mended.close()
    assert read(cache, content.digest) == DATA


def test_a_map_that_outlived_its_file_says_nothing(cache: Cache) -> None:
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(3))
    partial.close()
    path = cache.root / "partial" / content.digest
    keep = path.with_name("keep")
    path.rename(keep)  # so that its inode number is not given out again
    again = partial_of(cache, DATA)[1]
    assert again.blocks_here == 0
    again.close()


def test_a_map_says_nothing_of_a_file_that_got_the_same_inode(cache: Cache) -> None:
    """File systems give numbers out again at once. A file that is empty is one that was just made."""
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(3))
    partial.close()
    os.truncate(cache.root / "partial" / content.digest, 0)
    again = partial_of(cache, DATA)[1]
    assert again.blocks_here == 0
    third = partial_of(cache, DATA)[1]
    fill(cache, third, DATA, range(2))
    assert again.blocks_here == 2
    for opened in (again, third):
        opened.close()


def test_what_was_cut_while_it_is_used_has_its_size_again(cache: Cache) -> None:
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(3))
    os.truncate(cache.root / "partial" / content.digest, 2 * BLOCK_SIZE)
    again = partial_of(cache, DATA)[1]
    assert os.fstat(again.fd).st_size == len(DATA)
    with pytest.raises(BadBlobError):
        again.check(2, again.read(2))
    for opened in (again, partial):
        opened.close()


def test_many_begin_one_at_once(cache: Cache) -> None:
    content, _ = hash_bytes(DATA)

    def begin(_: int) -> int:
        partial = partial_of(cache, DATA)[1]
        try:
            return os.fstat(partial.fd).st_size
        finally:
            partial.close()

    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(begin, range(8))) == {len(DATA)}
        for end in ("", ".map"):
            os.unlink(cache.root / "partial" / (content.digest + end))


def test_what_has_the_name_of_a_whole_one_by_now_is_not_taken_for_it(cache: Cache) -> None:
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(21))
    os.unlink(cache.root / "partial" / content.digest)
    other = partial_of(cache, DATA)[1]
    fill(cache, other, DATA, range(2))
    assert not cache.promote(partial)
    assert not cache.has(content.digest)
    assert partial_of(cache, DATA)[1].blocks_here == 2
    for opened in (partial, other):
        opened.close()


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\1" * 5000])
def test_a_damaged_map_is_an_empty_one(cache: Cache, damage: bytes) -> None:
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(3))
    before = partial_of(cache, DATA)[1]
    (cache.root / "partial" / f"{content.digest}.map").write_bytes(damage) if damage else None
    path = cache.root / "partial" / f"{content.digest}.map"
    if not damage:
        path.unlink()
    again = partial_of(cache, DATA)[1]
    assert again.blocks_here == 0
    for opened in (again, partial, before):
        opened.close()


# room
def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    with Cache(tmp_path / "c", size=4_400_000, floor=0) as cache:
        digests = []
        for number in range(3):
            digests.append(put(cache, some_bytes(1_100_000 - number)))
            cache.flush()
            _age(cache, digests[-1], 100 - number)
        assert read(cache, digests[0]) is not None  # used just now
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
    assert read(cache, digest) == BIG


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
        assert read(again, small) == b"hello" * 1000
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
        assert read(again, digest) == b"hello"
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
            assert read(again, put(again, b"hello")) == b"hello"
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


@pytest.mark.parametrize("length", [0, 10, 64, 66, 4097])
def test_a_map_that_shrinks_kills_nobody(cache: Cache, length: int) -> None:
    """Somebody truncates it while it is in use: what it had said is not believed any more, that is all."""
    _, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(21))
    os.truncate(f"{partial.path}.map", length)
    assert [index for index in range(21) if partial.has(index)] == list(range(21))[: max(length - 64, 0)]
    assert partial.is_complete == (length > 4096)
    fill(cache, partial, DATA, range(1, 2))
    assert partial.has(1)
    partial.drop([0, 1])
    assert partial.missing(0, 2) == [0, 1]
    partial.close()
    again = partial_of(cache, DATA)[1]
    assert again.blocks_here == 0  # a map of another length is none
    again.close()
