"""A file system that passes everything on to a folder, writes down what would change a disk, and fails when it is told to.

    python recording_disk.py BACKING MOUNTPOINT LOG

LOG gets a msgpack array for each change, in the order in which they came, before it is answered (see artfs.testing.powercut,
which replays them). Files whose names end in `-shm` are left out: they are SQLite's shared memory, which nothing reads after a
power cut. Extended attributes of the root tell it more:

    user.disk.mark = TEXT       TEXT goes to the log: something was promised to somebody
    user.disk.syncfs = ""       goes to the log: the caller called syncfs(2), which the kernel does not pass on to FUSE
    user.disk.fail = ERRNO N    the N-th change from now (from 1) and all after it fail with ERRNO, until N is 0; with ENOSPC
                                statfs shows a full disk from then on. What frees space still works
    user.disk.count             (read) changes since `fail` was written last

It says "ready" on standard output once it is mounted. Requests are answered one after the other.
"""

import errno
import itertools
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import pyfuse3
import trio
from pyfuse3 import FUSEError

TIMEOUT_S = 3600.0
COPIED = (
    "st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blksize", "st_blocks", "st_atime_ns", "st_mtime_ns",
    "st_ctime_ns",
)  # fmt: skip


class Recorder(pyfuse3.Operations):
    enable_writeback_cache = False

    def __init__(self, backing: str, log: str) -> None:
        super().__init__()
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._encoder = msgspec.msgpack.Encoder()
        self._root = os.fsencode(backing)
        self._numbers = itertools.count(2)
        self._ids = {os.lstat(backing).st_ino: 1}  # of what is there: inode of the backing folder -> ours
        self._names: dict[int, set[tuple[int, bytes]]] = defaultdict(set)
        self._fds: dict[int, list[int]] = defaultdict(list)
        self._of: dict[int, tuple[int, bool]] = {}  # descriptor -> (our number, is it written down)
        self._lists: dict[int, list[bytes]] = {}
        self._handles = itertools.count(1)
        self._count = 0
        self._fail = (0, 0)
        self._scan(self._root, 1)

    def _scan(self, folder: bytes, number: int) -> None:
        # In the order of their names, as artfs.testing.powercut does it: both have the same numbers then.
        for entry in sorted(os.scandir(folder), key=lambda found: found.name):
            known = self._ids.get(entry.inode())
            if known is None:
                known = self._ids[entry.inode()] = next(self._numbers)
                if entry.is_dir(follow_symlinks=False):
                    self._names[known].add((number, entry.name))
                    self._scan(entry.path, known)
            self._names[known].add((number, entry.name))

    # where things are ------------------------------------------------------------------------------------------------
    def _path(self, number: int) -> bytes:
        if number == 1:
            return self._root
        try:
            parent, name = next(iter(self._names[number]))
        except StopIteration:
            raise FUSEError(errno.ESTALE) from None
        return self._path(parent) + b"/" + name

    def _place(self, number: int) -> bytes | int:
        """To be given to calls that take a path or a descriptor."""
        fds = self._fds.get(number)
        return fds[0] if fds else self._path(number)

    def _attr(self, number: int, status: os.stat_result) -> pyfuse3.EntryAttributes:
        made = pyfuse3.EntryAttributes()
        made.st_ino = number
        for name in COPIED:
            setattr(made, name, getattr(status, name))
        made.entry_timeout = made.attr_timeout = TIMEOUT_S
        return made

    # what happens to a disk ------------------------------------------------------------------------------------------
    def _change(self, *record: Any, do: Callable[[], Any] = lambda: None, name: bytes = b"") -> Any:
        """Does it, and writes it down when it was done; or fails as it was told to."""
        if name.endswith(b"-shm"):
            return do()
        self._check_failing()
        result = do()
        self._write_down(*record)
        return result

    def _check_failing(self) -> None:
        self._count += 1
        number, at = self._fail
        if at and self._count >= at:
            raise FUSEError(number)

    def _write_down(self, *record: Any) -> None:
        data = self._encoder.encode(record)
        os.write(self._log, len(data).to_bytes(4, "little") + data)

    # names -----------------------------------------------------------------------------------------------------------
    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        status = os.lstat(self._path(parent_inode) + b"/" + name)
        return self._attr(self._ids[status.st_ino], status)

    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        place = self._place(inode)
        return self._attr(inode, os.fstat(place) if isinstance(place, int) else os.lstat(place))

    async def readlink(self, inode: int, ctx: Any) -> bytes:
        return os.readlink(self._path(inode))

    async def opendir(self, inode: int, ctx: Any) -> int:
        handle = next(self._handles)
        self._lists[handle] = [inode, *sorted(os.listdir(self._path(inode)))]  # type: ignore[list-item]
        return handle

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        parent, *names = self._lists[fh]
        folder = self._path(parent)  # type: ignore[arg-type]
        for at, name in enumerate(names[start_id:], start_id + 1):
            try:
                status = os.lstat(folder + b"/" + name)
            except FileNotFoundError:
                continue
            if not pyfuse3.readdir_reply(token, name, self._attr(self._ids[status.st_ino], status), at):
                return

    async def releasedir(self, fh: int) -> None:
        del self._lists[fh]

    def _made(self, parent: int, name: bytes, path: bytes) -> tuple[int, os.stat_result]:
        status = os.lstat(path)
        number = self._ids[status.st_ino] = next(self._numbers)
        self._names[number] = {(parent, name)}
        return number, status

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        self._check_failing()
        path = self._path(parent_inode) + b"/" + name
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & ~ctx.umask & 0o7777)
        number, status = self._made(parent_inode, name, path)
        is_kept = not name.endswith(b"-shm")
        if is_kept:
            self._write_down("create", parent_inode, name, number, stat.S_IMODE(status.st_mode))
        return self._opened(number, fd, is_kept), self._attr(number, status)

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        self._check_failing()
        path = self._path(parent_inode) + b"/" + name
        os.mkdir(path, mode & ~ctx.umask & 0o7777)
        number, status = self._made(parent_inode, name, path)
        self._write_down("mkdir", parent_inode, name, number, stat.S_IMODE(status.st_mode))
        return self._attr(number, status)

    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: Any) -> pyfuse3.EntryAttributes:
        """Sockets, mostly, which mean nothing after a power cut."""
        path = self._path(parent_inode) + b"/" + name
        os.mknod(path, mode & ~ctx.umask, rdev)
        number, status = self._made(parent_inode, name, path)
        return self._attr(number, status)

    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        self._check_failing()
        path = self._path(parent_inode) + b"/" + name
        os.symlink(target, path)
        number, status = self._made(parent_inode, name, path)
        self._write_down("symlink", parent_inode, name, number, target)
        return self._attr(number, status)

    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        path = self._path(new_parent_inode) + b"/" + new_name
        source = self._path(inode)
        self._change("link", new_parent_inode, new_name, inode, do=lambda: os.link(source, path, follow_symlinks=False))
        self._names[inode].add((new_parent_inode, new_name))
        return self._attr(inode, os.lstat(path))

    async def unlink(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        self._remove(parent_inode, name, os.unlink)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        self._remove(parent_inode, name, os.rmdir)

    def _remove(self, parent: int, name: bytes, call: Callable[[bytes], None]) -> None:
        path = self._path(parent) + b"/" + name
        number = self._ids[os.lstat(path).st_ino]
        call(path)  # never fails for want of space
        self._names[number].discard((parent, name))
        if not name.endswith(b"-shm"):
            self._write_down("remove", parent, name)

    async def rename(
        self, parent_inode_old: int, name_old: bytes, parent_inode_new: int, name_new: bytes, flags: int, ctx: Any
    ) -> None:
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise FUSEError(errno.EINVAL)
        old = self._path(parent_inode_old) + b"/" + name_old
        new = self._path(parent_inode_new) + b"/" + name_new
        number = self._ids[os.lstat(old).st_ino]
        try:
            replaced = self._ids[os.lstat(new).st_ino]
        except FileNotFoundError:
            replaced = 0
        if replaced and flags & pyfuse3.RENAME_NOREPLACE:
            raise FUSEError(errno.EEXIST)
        self._change("rename", parent_inode_old, name_old, parent_inode_new, name_new, do=lambda: os.rename(old, new))
        if replaced != number:
            self._names[replaced].discard((parent_inode_new, name_new))
            self._names[number].discard((parent_inode_old, name_old))
            self._names[number].add((parent_inode_new, name_new))

    # content ---------------------------------------------------------------------------------------------------------
    def _opened(self, number: int, fd: int, is_kept: bool) -> pyfuse3.FileInfo:
        self._fds[number].append(fd)
        self._of[fd] = (number, is_kept)
        return pyfuse3.FileInfo(fh=fd, keep_cache=True)

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        path = self._path(inode)
        fd = os.open(path, (os.O_RDWR if flags & os.O_ACCMODE else os.O_RDONLY) | os.O_CLOEXEC)
        is_kept = not path.endswith(b"-shm")
        if flags & os.O_TRUNC:
            self._truncate(inode, fd, 0, is_kept)
        return self._opened(inode, fd, is_kept)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        number, is_kept = self._of[fh]
        if is_kept:
            self._check_failing()
        done = 0
        while done < len(buf):
            done += os.pwrite(fh, buf[done:], off + done)
        if is_kept:
            self._write_down("write", number, off, bytes(buf))
        return done

    def _truncate(self, number: int, place: bytes | int, size: int, is_kept: bool) -> None:
        os.truncate(place, size)
        if is_kept:
            self._write_down("truncate", number, size)

    async def setattr(
        self, inode: int, attr: pyfuse3.EntryAttributes, fields: Any, fh: int | None, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        place = fh if fh is not None else self._place(inode)
        is_kept = self._of[fh][1] if fh is not None else not (isinstance(place, bytes) and place.endswith(b"-shm"))
        is_link = isinstance(place, bytes) and stat.S_ISLNK(os.lstat(place).st_mode)
        if fields.update_size:
            self._truncate(inode, place, attr.st_size, is_kept)
        if fields.update_mode:
            os.chmod(place, stat.S_IMODE(attr.st_mode))
            self._write_down("mode", inode, stat.S_IMODE(attr.st_mode))
        if fields.update_uid or fields.update_gid:
            os.chown(place, attr.st_uid if fields.update_uid else -1, attr.st_gid if fields.update_gid else -1)
        if fields.update_atime or fields.update_mtime:
            now = os.stat(place, **({"follow_symlinks": False} if is_link else {}))
            times = (
                attr.st_atime_ns if fields.update_atime else now.st_atime_ns,
                attr.st_mtime_ns if fields.update_mtime else now.st_mtime_ns,
            )
            os.utime(place, ns=times, **({"follow_symlinks": False} if is_link else {}))
        return self._attr(inode, os.fstat(place) if isinstance(place, int) else os.lstat(place))

    async def release(self, fh: int) -> None:
        number, _ = self._of.pop(fh)
        self._fds[number].remove(fh)
        os.close(fh)

    async def flush(self, fh: int) -> None:
        return

    async def fsync(self, fh: int, datasync: bool) -> None:
        number, is_kept = self._of[fh]
        if is_kept:
            self._change("fsync", number)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        self._change("fsync", self._lists[fh][0])

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        made, status = pyfuse3.StatvfsData(), os.statvfs(self._root)
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_namemax"):
            setattr(made, name, getattr(status, name))
        number, at = self._fail
        if number == errno.ENOSPC and at and self._count >= at:
            made.f_bfree = made.f_bavail = 0
        return made

    # orders ----------------------------------------------------------------------------------------------------------
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        match name:
            case b"user.disk.mark":
                self._write_down("mark", value)
            case b"user.disk.syncfs":
                self._change("syncfs")
            case b"user.disk.fail":
                number, at = value.split()
                self._fail, self._count = (int(number), int(at)), 0
            case _:
                raise FUSEError(errno.EOPNOTSUPP)

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        if name == b"user.disk.count":
            return str(self._count).encode()
        raise FUSEError(errno.EOPNOTSUPP if name.startswith((b"system.", b"security.")) else errno.ENODATA)


def _answering(handler: Callable[..., Any]) -> Callable[..., Any]:
    async def answer(*arguments: Any) -> Any:
        try:
            return await handler(*arguments)
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from error

    return answer


def main() -> None:
    backing, mountpoint, log = sys.argv[1:]
    recorder = Recorder(backing, log)
    for name, handler in vars(Recorder).items():
        if not name.startswith("_") and callable(handler):
            setattr(recorder, name, _answering(getattr(recorder, name)))
    pyfuse3.init(recorder, mountpoint, {*pyfuse3.default_options, "fsname=recording-disk"})
    print("ready", flush=True)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


main()
