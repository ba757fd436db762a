"""Stores of one process for a while."""

import threading
from pathlib import Path

from artfs.store.scratch import ScratchStore


def test_it_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    store = ScratchStore(tmp_path / "drafts")
    with store.begin() as batch:
        digest = batch.put_bytes(b"hello")
    assert store.read(digest) == b"hello"
    store.close()
    assert list((tmp_path / "drafts").iterdir()) == []


def test_one_that_is_just_being_made_is_not_taken_for_a_dead_one_s(tmp_path: Path) -> None:
    lost: list[Path] = []

    def make_many() -> None:
        for _ in range(100):
            store = ScratchStore(tmp_path / "drafts")
            if not (store.root / "held").exists():
                lost.append(store.root)
            store.close()

    threads = [threading.Thread(target=make_many) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert list((tmp_path / "drafts").iterdir()) == []
