"""A file system over the daemon's own loop whose handlers return constants: what no handler can be faster than."""

from __future__ import annotations

import errno
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 20_480


@contextmanager
def serve_constants(mountpoint: Path) -> Iterator[tuple[int, Path]]:
    """Mounts it in a process of its own: (pid, a file of 20 KB in it)."""
    mountpoint.mkdir()
    process = subprocess.Popen([sys.executable, __file__, mountpoint], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid, mountpoint / "f"
    finally:
        subprocess.run(["fusermount3", "-u", mountpoint], check=True)
        process.wait()


def main(mountpoint: str) -> None:
    import pyfuse3
    import trio

    from artfsd.shim import LoopShim

    data = b"x" * SIZE

    class Constants(pyfuse3.Operations):
        def __init__(self) -> None:
            super().__init__()
            self.file = self._attributes(2, stat.S_IFREG | 0o644, SIZE)
            self.root = self._attributes(1, stat.S_IFDIR | 0o755, 0)

        def _attributes(self, ino: int, mode: int, size: int) -> pyfuse3.EntryAttributes:
            made = pyfuse3.EntryAttributes()
            made.st_ino, made.st_mode, made.st_size = ino, mode, size
            made.entry_timeout = made.attr_timeout = 1000.0
            return made

        async def lookup(
            self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
        ) -> pyfuse3.EntryAttributes:
            if name == b"f":
                return self.file
            raise pyfuse3.FUSEError(errno.ENOENT)

        async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
            return self.file if inode == 2 else self.root

        async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
            return pyfuse3.FileInfo(fh=inode)

        async def read(self, fh: int, off: int, size: int) -> bytes:
            return data[off : off + size]

        async def release(self, fh: int) -> None:
            return None

        async def flush(self, fh: int) -> None:
            raise pyfuse3.FUSEError(errno.ENOSYS)

    async def serve() -> None:
        await pyfuse3.main(min_tasks=64, max_tasks=64)

    vars(pyfuse3)["trio"] = LoopShim()
    pyfuse3.init(Constants(), mountpoint, set(pyfuse3.default_options))
    print("ready", flush=True)
    trio.run(serve)
    pyfuse3.close()


if __name__ == "__main__":
    main(sys.argv[1])
