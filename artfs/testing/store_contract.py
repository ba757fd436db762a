"""The contract of blob stores: every promise of artfs.store.base, as tests. A test class for a store derives from
StoreContract and gives the fixture `store`, `damage` and perhaps `stored`; one for a store that can be listed and swept from
SweepableContract.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artfs.errors import (
    BadBlobError,
    BlobMissingError,
    InvalidNameError,
    NotFoundError,
    SourceChangedError,
    StorageError,
    UsageError,
)
from artfs.model.blocklist import decode_block_list
from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE, digest_bytes
from artfs.model.records import Content
from artfs.store.base import BlobStore
from artfs.store.blocks import BlobChecker
from artfs.store.sweep import Marks, SweepableStore, sweep
from artfs.store.verify import hash_bytes

_ABSENT = digest_bytes(b"nowhere")
_WAIT_S = 20.0


def some_bytes(size: int, seed: int = 1) -> bytes:
    """Bytes without a pattern, the same ones each time."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


def _read_all(fd: int) -> bytes:
    with open(fd, "rb") as stream:
        return stream.read()


class StoreContract:
    """Tests of a store that is empty at first: the fixture `store`, to be given."""

    def damage(self, store: BlobStore, digest: str, data: bytes) -> None:
        """Makes `data` the bytes of that blob, as a rotting disk would; where the size is kept elsewhere, as far as they go."""
        raise NotImplementedError

    def stored(self, store: BlobStore) -> list[tuple[str, int]]:
        """(digest, size) of every blob."""
        return list(store.blobs())

    def all_sound(self, store: BlobStore) -> bool:
        for digest, size in self.stored(store):
            with open(store.open_blob(digest), "rb") as stream:
                data = stream.read()
            if (len(data), digest_bytes(data)) != (size, digest):
                return False
        return True

    # reading ----------------------------------------------------------------------------------------------------

    def test_bytes_are_stored_under_their_sha256(self, store: BlobStore) -> None:
        with store.begin() as batch:
            digest = batch.put_bytes(b"hello")
            batch.sync()
        assert digest == hashlib.sha256(b"hello").hexdigest()
        assert store.read(digest) == b"hello"
        assert store.try_size(digest) == 5
        assert self.stored(store) == [(digest, 5)]

    def test_what_is_not_there_is_missing(self, store: BlobStore) -> None:
        assert store.try_size(_ABSENT) is None
        for read in (store.read, store.open_blob):
            with pytest.raises(BlobMissingError) as caught:
                read(_ABSENT)
            assert caught.value.digest == _ABSENT

    @pytest.mark.parametrize("name", ["", "../../../etc/passwd", "AB" * 32, "ab" * 31, "ab" * 32 + "/x"])
    def test_only_digests_are_names(self, store: BlobStore, name: str) -> None:
        for use in (store.try_size, store.read, store.open_blob):
            with pytest.raises(InvalidNameError):
                use(name)

    def test_a_descriptor_reads_only_and_is_not_inherited(self, store: BlobStore) -> None:
        with store.begin() as batch:
            digest = batch.put_bytes(b"hello")
            batch.sync()
        fd = store.open_blob(digest)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert _read_all(fd) == b"hello"

    def test_read_checks_the_digest(self, store: BlobStore) -> None:
        with store.begin() as batch:
            digest = batch.put_bytes(b"hello")
            batch.sync()
        for rotten in (b"hellp", b"hell", b""):
            self.damage(store, digest, rotten)
            with pytest.raises(BadBlobError, match=digest) as caught:
                store.read(digest)
            assert caught.value.digest == digest

    # putting ----------------------------------------------------------------------------------------------------

    def test_the_same_bytes_are_stored_once(self, store: BlobStore, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"hello")
        with store.begin() as batch:
            first = batch.put_bytes(b"hello")
            assert batch.put_bytes(b"hello") == first
            assert batch.put_file(tmp_path / "file").digest == first
            batch.sync()
        assert self.stored(store) == [(first, 5)]

    @pytest.mark.parametrize("size", [0, 1, BLOCKS_ABOVE])
    def test_a_small_file_has_no_block_list(self, store: BlobStore, tmp_path: Path, size: int) -> None:
        data = some_bytes(size)
        (tmp_path / "file").write_bytes(data)
        with store.begin() as batch:
            content = batch.put_file(tmp_path / "file")
            batch.sync()
        assert content == Content(digest_bytes(data), size)
        assert store.read(content.digest) == data
        assert len(self.stored(store)) == 1

    @pytest.mark.parametrize("size", [BLOCKS_ABOVE + 1, 5 * BLOCK_SIZE, 9 * BLOCK_SIZE + 17])
    def test_a_large_file_has_a_block_list(self, store: BlobStore, tmp_path: Path, size: int) -> None:
        data = some_bytes(size)
        (tmp_path / "file").write_bytes(data)
        with store.begin() as batch:
            content = batch.put_file(tmp_path / "file")
            batch.sync()
        assert (content.digest, content.size) == (digest_bytes(data), size)
        assert content == hash_bytes(data).content
        assert decode_block_list(content.blocks, store.read(content.blocks), size).count == -(-size // BLOCK_SIZE)
        checker = BlobChecker.of(content, store.read)
        with open(store.open_blob(content.digest), "rb") as stream:
            for index in range(checker.block_count):
                checker.check_block(index, stream.read(checker.block_size))

    def test_a_link_to_a_file_is_followed(self, store: BlobStore, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"hello")
        (tmp_path / "link").symlink_to("file")
        with store.begin() as batch:
            assert batch.put_file(tmp_path / "link") == Content(digest_bytes(b"hello"), 5)

    def test_only_regular_files_can_be_put(self, store: BlobStore, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with store.begin() as batch:
            for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
                with pytest.raises(UsageError):
                    batch.put_file(path)
            with pytest.raises(NotFoundError):
                batch.put_file(tmp_path / "nothing")
        assert self.stored(store) == []

    @pytest.mark.parametrize("size", [5, BLOCKS_ABOVE + 5])
    def test_an_expectation_is_checked(self, store: BlobStore, tmp_path: Path, size: int) -> None:
        data = some_bytes(size)
        (tmp_path / "file").write_bytes(data)
        expected = hash_bytes(data).content
        with store.begin() as batch:
            assert batch.put_file(tmp_path / "file", expect=expected) == expected
            # Also when the expected blob is there already.
            (tmp_path / "file").write_bytes(data[:-1] + b"?")
            with pytest.raises(SourceChangedError, match="file"):
                batch.put_file(tmp_path / "file", expect=expected)
            (tmp_path / "file").write_bytes(data[:-1])
            with pytest.raises(SourceChangedError, match="file"):
                batch.put_file(tmp_path / "file", expect=expected)
        assert self.all_sound(store)

    @pytest.mark.parametrize("size", [5, 4 * BLOCKS_ABOVE])
    def test_a_file_that_changes_meanwhile_never_yields_wrong_bytes(
        self, store: BlobStore, tmp_path: Path, size: int
    ) -> None:
        path = tmp_path / "file"
        path.write_bytes(some_bytes(size))

        def change(nbytes: int) -> None:
            with path.open("r+b") as stream:
                stream.seek(0, os.SEEK_END)
                stream.write(b"more")

        with store.begin() as batch:
            try:
                content = batch.put_file(path, on_bytes=change)
                batch.sync()
            except SourceChangedError:
                pass
            else:
                assert store.try_size(content.digest) == content.size
        assert self.all_sound(store)

    @pytest.mark.parametrize("size", [0, 5, 3 * BLOCKS_ABOVE + 1])
    def test_progress_adds_up(self, store: BlobStore, tmp_path: Path, size: int) -> None:
        (tmp_path / "file").write_bytes(some_bytes(size))
        told: list[int] = []
        with store.begin() as batch:
            batch.put_file(tmp_path / "file", on_bytes=told.append)
        assert sum(told) == size

    @pytest.mark.parametrize("size", [5, 3 * BLOCKS_ABOVE])
    def test_progress_can_end_the_copy(self, store: BlobStore, tmp_path: Path, size: int) -> None:
        (tmp_path / "file").write_bytes(some_bytes(size))

        def end(nbytes: int) -> None:
            raise KeyboardInterrupt

        with store.begin() as batch, pytest.raises(KeyboardInterrupt):
            batch.put_file(tmp_path / "file", on_bytes=end)
        assert self.all_sound(store)

    def test_threads_may_put_at_once(self, store: BlobStore, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(some_bytes(2 * BLOCKS_ABOVE))

        def put(number: int) -> list[str]:
            digests = [batch.put_bytes(b"%d" % (number * index % 97)) for index in range(100)]
            return [*digests, batch.put_file(tmp_path / "file").digest]

        with store.begin() as batch:
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(put, range(16)))
            batch.sync()
        assert {digest for digests in found for digest in digests} <= {digest for digest, _ in self.stored(store)}
        assert self.all_sound(store)

    # adopting ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 5, BLOCKS_ABOVE + 5])
    def test_a_staged_file_is_taken_in(self, store: BlobStore, tmp_path: Path, size: int) -> None:
        data = some_bytes(size)
        path = tmp_path / "staged"
        path.write_bytes(data)
        content, block_objects = hash_bytes(data)
        with store.begin() as batch:
            batch.adopt_file(path, content, block_objects)
            batch.sync()
        with open(store.open_blob(content.digest), "rb") as stream:
            assert stream.read() == data
        assert all(store.read(digest_bytes(item)) == item for item in block_objects)
        assert path.read_bytes() == data
        path.unlink()
        assert store.try_size(content.digest) == size

    def test_adopting_twice_is_fine(self, store: BlobStore, tmp_path: Path) -> None:
        content = hash_bytes(b"hello").content
        for name in ("one", "other"):
            (tmp_path / name).write_bytes(b"hello")
        with store.begin() as batch:
            for name in ("one", "one", "other"):
                batch.adopt_file(tmp_path / name, content, ())
            batch.sync()
        assert self.stored(store) == [(content.digest, 5)]

    def test_a_staged_file_of_another_size_is_refused(self, store: BlobStore, tmp_path: Path) -> None:
        (tmp_path / "staged").write_bytes(b"hello!")
        with store.begin() as batch, pytest.raises(SourceChangedError, match="staged"):
            batch.adopt_file(tmp_path / "staged", hash_bytes(b"hello").content, ())
        assert self.stored(store) == []

    def test_only_regular_files_can_be_adopted(self, store: BlobStore, tmp_path: Path) -> None:
        content = hash_bytes(b"hello").content
        (tmp_path / "file").write_bytes(b"hello")
        (tmp_path / "link").symlink_to("file")
        with store.begin() as batch:
            with pytest.raises(UsageError):
                batch.adopt_file(tmp_path / "link", content, ())
            with pytest.raises(NotFoundError):
                batch.adopt_file(tmp_path / "nothing", content, ())

    def test_a_foreign_block_list_is_refused(self, store: BlobStore, tmp_path: Path) -> None:
        data = some_bytes(BLOCKS_ABOVE + 5)
        (tmp_path / "staged").write_bytes(data)
        content, block_objects = hash_bytes(data)
        with store.begin() as batch:
            for wrong in ((), (block_objects[0] + b"x",)):
                with pytest.raises(ValueError, match="block list"):
                    batch.adopt_file(tmp_path / "staged", content, wrong)

    # batches and sweeps -----------------------------------------------------------------------------------------

    def test_a_batch_is_used_inside_its_with(self, store: BlobStore, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"hello")
        content = hash_bytes(b"hello").content
        batch = store.begin()
        uses: list[Callable[[], object]] = [
            lambda: batch.put_bytes(b"hello"),
            lambda: batch.put_file(tmp_path / "file"),
            lambda: batch.adopt_file(tmp_path / "file", content, ()),
            lambda: batch.sync(),
        ]
        for use in uses:
            with pytest.raises(RuntimeError):
                use()
        with batch:
            batch.put_bytes(b"other")
            batch.sync()
        for use in uses:
            with pytest.raises(RuntimeError):
                use()
        assert self.stored(store) == [(digest_bytes(b"other"), 5)]

    def test_leaving_without_a_sync_leaves_whole_blobs_at_most(self, store: BlobStore, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(some_bytes(2 * BLOCKS_ABOVE))

        def put_and_fail() -> None:
            with store.begin() as batch:
                batch.put_bytes(b"hello")
                batch.put_file(tmp_path / "file")
                raise KeyError

        with pytest.raises(KeyError):
            put_and_fail()
        assert self.all_sound(store)

    def test_batches_run_side_by_side(self, store: BlobStore) -> None:
        with store.begin() as one, store.begin() as other:
            assert one.put_bytes(b"hello") == other.put_bytes(b"hello")
            one.sync()
            other.sync()
        assert self.stored(store) == [(digest_bytes(b"hello"), 5)]


class SweepableContract(StoreContract):
    """Of a store that can be listed and swept as well."""

    @pytest.mark.parametrize("name", ["", "../../../etc/passwd", "AB" * 32, "ab" * 31, "ab" * 32 + "/x"])
    def test_only_digests_can_be_removed(self, store: SweepableStore, name: str) -> None:
        with pytest.raises(InvalidNameError):
            store.remove(name)

    def test_an_open_blob_outlives_its_removal(self, store: SweepableStore) -> None:
        with store.begin() as batch:
            digest = batch.put_bytes(b"hello")
        fd = store.open_blob(digest)
        store.remove(digest)
        assert store.try_size(digest) is None
        assert _read_all(fd) == b"hello"

    def test_removing_what_is_not_there_is_fine(self, store: SweepableStore) -> None:
        store.remove(_ABSENT)

    def test_a_blob_can_be_read_before_the_sync(self, store: SweepableStore) -> None:
        with store.begin() as batch:
            assert store.read(batch.put_bytes(b"hello")) == b"hello"

    def test_what_was_left_unsynced_is_swept(self, store: SweepableStore, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(some_bytes(2 * BLOCKS_ABOVE))
        with store.begin() as batch:
            batch.put_bytes(b"hello")
            batch.put_file(tmp_path / "file")
        with store.exclusive():
            sweep(store, Marks())
        assert self.stored(store) == []

    def test_a_sweep_waits_for_batches(self, store: SweepableStore) -> None:
        waits = threading.Event()
        done = threading.Event()
        messages: list[str] = []

        def sweep_all() -> None:
            def tell(message: str) -> None:
                messages.append(message)
                waits.set()

            with store.exclusive(tell):
                done.set()

        with store.begin() as batch:
            thread = threading.Thread(target=sweep_all)
            thread.start()
            assert waits.wait(_WAIT_S)
            batch.put_bytes(b"hello")
            assert not done.is_set()
        thread.join(_WAIT_S)
        assert done.is_set()
        assert len(messages) == 1

    def test_a_batch_waits_for_a_sweep(self, store: SweepableStore) -> None:
        began = threading.Event()

        def put() -> None:
            with store.begin() as batch:
                began.set()
                batch.put_bytes(b"hello")

        thread = threading.Thread(target=put)
        with store.exclusive():
            thread.start()
            assert not began.wait(0.05)
        thread.join(_WAIT_S)
        assert began.is_set()
        assert store.try_size(digest_bytes(b"hello")) == 5

    def test_a_sweep_removes_what_is_not_marked(self, store: SweepableStore) -> None:
        with store.begin() as batch:
            kept, gone = batch.put_bytes(b"kept"), batch.put_bytes(b"gone!")
            batch.sync()
        looked_at: list[int] = []
        for dry_run in (True, False):
            with store.exclusive():
                marks = Marks()
                marks.add(kept)
                done = sweep(store, marks, dry_run=dry_run, on_blob=looked_at.append)
            assert (done.kept, done.kept_nbytes, done.removed, done.removed_nbytes) == (1, 4, 1, 5)
            assert store.try_size(gone) == (5 if dry_run else None)
        assert sorted(looked_at) == [4, 4, 5, 5]
        assert store.read(kept) == b"kept"

    def test_an_error_inside_a_sweep_frees_the_store(self, store: SweepableStore) -> None:
        with pytest.raises(StorageError), store.exclusive():
            raise StorageError("no")
        with store.begin() as batch:
            batch.put_bytes(b"hello")
