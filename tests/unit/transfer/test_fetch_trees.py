"""Fetching trees: many pages at once, and who waits for them."""

import threading
from collections.abc import Callable

import pytest

from artfs.errors import BlobMissingError, UnavailableError
from artfs.model.entry import DirEntry, FileEntry
from artfs.model.pages import build_tree
from artfs.testing.ranges import FakeSource
from artfs.transfer import treefetch
from artfs.transfer.fetch import Fetcher

ExpectLog = Callable[..., None]


def test_a_tree_brings_those_below_it(source: FakeSource, fetcher: Fetcher) -> None:
    entries = []
    for number in range(30):
        leaf = build_tree([FileEntry(b"f", 1, bytes(31) + bytes([number]), b"", False)])
        for _, data in leaf.pages:
            source.add(data)
        entries.append(DirEntry(b"d%02d" % number, bytes.fromhex(leaf.digest), 1, 1))
    top = build_tree(entries)
    for _, data in top.pages:
        source.add(data)
    assert fetcher.trees.page(top.digest) == source.blobs[top.digest]
    for entry in entries:
        assert fetcher.trees.page(entry.digest) == source.blobs[entry.digest]
    assert source.count("read_trees") == 1


def test_a_tree_that_is_missing(source: FakeSource, fetcher: Fetcher, expect_log: ExpectLog) -> None:
    expect_log("fetching the tree abab.*: no tree", count=1)
    for _ in range(2):
        with pytest.raises(BlobMissingError):
            fetcher.trees.page("ab" * 32)
    assert source.count("read_trees") == 1


def test_the_end_tells_all_who_wait_for_trees(source: FakeSource, fetcher: Fetcher) -> None:
    """Those whose turn had not come, too."""
    goes_on, begun = threading.Event(), threading.Semaphore(0)

    def hold(method: str) -> None:
        begun.release()
        goes_on.wait(30)
        raise UnavailableError("the end")

    source.fail = hold
    told = [threading.Event() for _ in range(3 * treefetch.AT_ONCE)]
    for number, event in enumerate(told):
        assert not fetcher.trees.need_page(f"{number:064x}", event.set)
    for _ in range(treefetch.AT_ONCE):
        assert begun.acquire(timeout=30)
    caught: list[BaseException] = []

    def sit() -> None:
        try:
            fetcher.trees.page(f"{len(told) - 1:064x}")
        except UnavailableError as error:
            caught.append(error)

    sitting = threading.Thread(target=sit)
    sitting.start()
    fetcher.close()
    assert all(event.wait(30) for event in told)
    sitting.join(30)
    assert len(caught) == 1
    goes_on.set()
