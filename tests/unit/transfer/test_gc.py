"""The mark and the sweep over a real catalog."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.catalog import open_catalog
from artfs.catalog.base import Catalog
from artfs.errors import BadBlobError, BlobMissingError
from artfs.model.entry import DirEntry
from artfs.model.manifest import Manifest
from artfs.model.records import Member, NewVersion
from artfs.store.folder import FolderStore
from artfs.transfer.gc import collect_garbage
from artfs.transfer.push import Pushed
from artfs.transfer.verify import verify_version
from artfs.wire.control import Progress


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    (tmp_path / "state").mkdir(exist_ok=True)
    with open_catalog(tmp_path / "state" / "catalog.db") as catalog:
        yield catalog


def commit(catalog: Catalog, pushed: Pushed, name: str = "data") -> Member:
    totals = pushed.totals
    new = NewVersion("local", "p", name, "dataset", pushed.root, totals.size, totals.file_count)
    return catalog.commit(new).member


def blobs(store: FolderStore) -> set[str]:
    return {digest for digest, _ in store.blobs()}


def test_what_versions_need_is_kept(
    store: FolderStore, catalog: Catalog, push: Callable[..., Pushed], folder: Path
) -> None:
    first = push(folder)
    commit(catalog, first)
    kept = blobs(store)
    (folder / "a.txt").write_bytes(b"never committed")
    push(folder)
    before = blobs(store)
    assert before > kept
    told: list[Progress] = []
    dry = collect_garbage(catalog, store, dry_run=True, on_progress=told.append)
    assert blobs(store) == before
    done = collect_garbage(catalog, store)
    assert blobs(store) == kept
    assert (done.kept, done.removed) == (dry.kept, dry.removed) == (len(kept), len(before - kept))
    assert (dry.dry_run, done.dry_run) == (True, False)
    assert done.removed_nbytes == dry.removed_nbytes > 0
    assert {item.phase for item in told} == {"mark", "sweep"}
    assert told[-1].files == len(before)
    assert verify_version(store, first.root) == []


def test_deleted_versions_are_freed(
    store: FolderStore, catalog: Catalog, push: Callable[..., Pushed], folder: Path
) -> None:
    member = commit(catalog, push(folder))
    (folder / "sub" / "same.txt").write_bytes(b"changed")
    second = push(folder)
    commit(catalog, second)
    catalog.delete_version(member.id, delete_aliases=True)
    assert collect_garbage(catalog, store).removed == 2  # the root and sub; the files are shared
    assert verify_version(store, second.root) == []
    catalog.delete_collection(catalog.collections("local", "p")[0].id)
    collect_garbage(catalog, store)
    assert blobs(store) == set()


def test_what_drafts_refer_to_is_kept_with_all_below(
    store: FolderStore, catalog: Catalog, push: Callable[..., Pushed], manifest: Callable[[str], Manifest], folder: Path
) -> None:
    pushed = push(folder)
    version = manifest(pushed.root)
    sub = version.get("sub")
    assert isinstance(sub, DirEntry)
    run = dict(version.files())["run.sh"]
    expected = {run.digest, *Manifest(version.source, sub.digest).objects()}
    # A file of the user's that begins like a tree, and one that begins like a block list.
    with store.begin() as batch:
        odd = [batch.put_bytes(data) for data in (b"\x93\x01 no tree", b"\x94\x01 no list", b"\x94\x01", b"")]
    collect_garbage(catalog, store, keep=iter([sub.digest, run.digest, run.digest, *odd]))
    assert blobs(store) == expected | set(odd)


@pytest.mark.parametrize("damaged", [True, False])
@pytest.mark.parametrize("drafted", [True, False])
def test_a_broken_tree_stops_the_sweep(
    store: FolderStore, catalog: Catalog, push: Callable[..., Pushed], manifest: Callable[[str], Manifest], folder: Path,
    damaged: bool, drafted: bool,
) -> None:
    pushed = push(folder)
    deep = manifest(pushed.root).get("sub/deep")
    assert isinstance(deep, DirEntry)
    if not drafted:
        commit(catalog, pushed)
    with store.begin() as batch:
        batch.put_bytes(b"garbage")
    path = store.path_of(deep.digest)
    if damaged:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes() + b"?")
    else:
        path.unlink()
    before = blobs(store)
    with pytest.raises(
        BadBlobError if damaged else BlobMissingError, match=f"nothing was removed.*{deep.digest}"
    ) as caught:
        collect_garbage(catalog, store, keep=[pushed.root] if drafted else [])
    assert caught.value.digest == deep.digest
    assert blobs(store) == before


def test_a_push_under_way_is_waited_for(store: FolderStore, catalog: Catalog) -> None:
    waits = threading.Event()
    done = threading.Event()

    def collect() -> None:
        collect_garbage(catalog, store, on_wait=lambda message: waits.set())
        done.set()

    with store.begin() as batch:
        digest = batch.put_bytes(b"not committed yet")
        thread = threading.Thread(target=collect)
        thread.start()
        assert waits.wait(20)
        assert store.try_size(digest) is not None
        assert not done.is_set()
    thread.join(20)
    assert done.is_set()
    assert store.try_size(digest) is None
