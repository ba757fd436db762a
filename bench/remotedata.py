"""What bench/remote.py reads and copies: data sets of random bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from systems import remove_large, unique

HERE = Path(__file__).parent


@dataclass
class Sizes:
    """How much of everything. `scale`: of what was asked for."""

    scale: float

    def _bytes(self, full: int, least: int) -> int:
        return max(least, int(full * self.scale) // 4096 * 4096)

    def __post_init__(self) -> None:
        self.big = self._bytes(2 * 1024**3, 8 << 20)
        self.huge = self._bytes(4 * 1024**3, 16 << 20)
        self.table = self._bytes(1024**3, 8 << 20)
        self.array = self._bytes(512 * 1024**2, 4 << 20)
        self.small = max(200, int(20_000 * self.scale))
        self.folders = max(10, int(1000 * self.scale))
        self.million = max(2000, int(1_000_000 * self.scale))
        self.clients = max(10, int(1000 * self.scale))
        self.commits = max(5, int(100 * self.scale))

    def on_disk(self, sets: Iterable[str], parts: Iterable[str], ours: bool) -> int:
        """How many bytes a run takes at most, caches and copies included."""
        file = {"big": self.big, "huge": self.huge, "table": self.table, "array": self.array}
        # 20 KB are five blocks, and what is in packs of ours or in a cache lies there once a system and round.
        file |= {"small": self.small * 24_000, "walk": self.folders * 100 * 5000}
        data = sum(file[name] for name in sets) * (2 if ours else 1)
        extra = {"copy": 6 * self.big + 36 * file["small"], "small": 18 * file["small"], "seq": self.big}
        extra["million"] = self.million * 12_000
        return data + sum(extra.get(part, 0) for part in parts) + 1_000_000_000


def make_random(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        for begin in range(0, size, 1 << 24):
            stream.write(os.urandom(min(1 << 24, size - begin)))


@contextmanager
def new_bytes(work: Path, name: str, sizes: Sizes) -> Iterator[Path]:
    """A folder like the data set `name`, with other bytes."""
    folder = work / unique("source")
    make_set(name, folder, sizes)
    try:
        yield folder
    finally:
        remove_large(folder)


def make_set(name: str, folder: Path, sizes: Sizes) -> None:
    folder.mkdir()
    if name == "small":
        for number in range(sizes.small):
            path = folder / f"d{number * 100 // sizes.small:03}" / f"f{number:06}.bin"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(os.urandom(20_000))
    elif name == "walk":
        for number in range(sizes.folders * 100):
            path = folder / f"d{number // 100:04}" / f"f{number:06}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"%d\n" % number)
    elif name in ("table", "array"):
        kind, size = ("make-parquet", sizes.table) if name == "table" else ("make-npy", sizes.array)
        subprocess.run([sys.executable, HERE / "reading.py", kind, folder / "file", str(size)], check=True)
    else:
        make_random(folder / "file", sizes.big if name == "big" else sizes.huge)
