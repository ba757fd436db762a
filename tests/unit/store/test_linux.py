"""Folders that several threads want at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from artfs.store.linux import make_folder


def test_folders_that_several_threads_make_at_once(tmp_path: Path) -> None:
    go = threading.Barrier(4)

    def make(path: Path) -> None:
        go.wait()
        make_folder(str(path))

    with ThreadPoolExecutor(4) as pool:
        for number in range(60):
            path = tmp_path / str(number) / "packs" / "6e"
            for future in [pool.submit(make, path) for _ in range(4)]:
                future.result()
            assert path.is_dir()
