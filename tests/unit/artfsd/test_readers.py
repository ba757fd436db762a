"""Programs that get nothing fetched ahead."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from artfs.settings import Settings
from artfsd.readers import MOST, Readers, comm_of


def test_the_kernels_name_of_a_thread() -> None:
    assert comm_of(os.getpid())
    assert comm_of(2**31 - 1) == ""
    names = []

    def work() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("of my own")
        names.append(comm_of(threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert names == ["of my own"]


def test_names_are_those_of_the_kernel() -> None:
    """Fifteen bytes."""
    names = {1: "restic", 2: "tracker-miner-f", 3: "tracker-miner-fs-3", 4: "cat"}
    readers = Readers(["restic", "tracker-miner-fs-3"], names.__getitem__)
    found = []
    for readers.current in (1, 2, 3, 4):
        found.append(readers.is_frugal)
    assert found == [True, True, False, False]


def test_a_process_is_looked_at_once_in_a_while() -> None:
    asked: list[int] = []
    readers = Readers(["x"], lambda pid: (asked.append(pid), "x")[1])
    for _ in range(3):
        for readers.current in range(100):
            assert readers.is_frugal
    assert asked == list(range(100))
    for readers.current in range(10 * MOST):
        assert readers.is_frugal
    assert len(readers._known) <= MOST


def test_indexers_and_backups_are_known() -> None:
    assert {"updatedb", "restic", "borg", "clamd"} <= set(Settings(home=Path("/x")).no_prefetch)
