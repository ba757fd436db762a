"""The inner loop of pulling small files, and the process that runs it beside ours.

A small file costs some seven system calls of a few microseconds each, between which Python threads would only fight for
the interpreter lock. So the loop is as short as it can be, and this file is also a program: `helpers` starts it as
`python -I -S smallcopy.py FD` on other CPUs. It therefore imports nothing of artfs, and little of Python.

The program reads groups on standard input, as `encode_group` writes them, and answers each with the number of bytes it
wrote, or -1 when the group could not be finished (whoever asked does it again, and finds out why). FD is the landing
folder. It ends when its input does.
"""

import errno
import fcntl
import hashlib
import os
import struct
import sys

HEAD = struct.Struct("<q")
_FICLONE = 0x40049409
_CREATE = os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_CLOEXEC

File = tuple[bytes, bytes, str, int, int]
"""Name, path of the blob, its digest, its size in bytes, the mode to create the file with."""


class NotThatBlob(Exception):
    """A blob has another size or digest than it should."""


class Reflinks:
    """Whether the disk is worth asking for reflinks: no, once it refused one."""

    def __init__(self) -> None:
        self.work = True

    def try_clone(self, source: int, target: int) -> bool:
        """Has `target` share the blocks of `source`; False: nothing was done. Raises OSError."""
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS):
                raise
            self.work = False
        return self.work


def copy_files(folder: int, files: list[File], reflinks: Reflinks) -> int:
    """Writes each blob to a new file of its name in the open directory `folder`, checked; returns all their bytes.

    What a file of the same name held is lost. Raises NotThatBlob and OSError; the file it was at may then be there,
    wrong.
    """
    nbytes = 0
    for name, blob, digest, size, mode in files:
        source = os.open(blob, _READ)
        try:
            if reflinks.work and size:
                target = os.open(name, _CREATE, mode, dir_fd=folder)
                try:
                    # What is read back is what the user gets, so that is what is checked.
                    cloned = reflinks.try_clone(source, target)
                    data = _read(target if cloned else source, size, digest)
                    if not cloned:
                        _write(target, data)
                finally:
                    os.close(target)
            else:
                data = _read(source, size, digest)
                target = os.open(name, _CREATE, mode, dir_fd=folder)
                try:
                    _write(target, data)
                finally:
                    os.close(target)
        finally:
            os.close(source)
        nbytes += size
    return nbytes


def _read(fd: int, size: int, digest: str) -> bytes:
    # One byte more than there should be, so that a longer one is noticed.
    data = os.read(fd, size + 1)
    while len(data) < size and (more := os.read(fd, size + 1 - len(data))):
        data += more
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise NotThatBlob
    return data


def _write(fd: int, data: bytes) -> None:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def encode_group(directory: bytes, files: list[File]) -> bytes:
    """A message: its length, then fields with NULs between. `directory` is relative to the landing folder, "." itself."""
    fields = [directory]
    for name, blob, digest, size, mode in files:
        fields += (name, blob, digest.encode(), b"%d" % size, b"%d" % mode)
    body = b"\0".join(fields)
    return HEAD.pack(len(body)) + body


def decode_group(body: bytes) -> tuple[bytes, list[File]]:
    directory, *fields = body.split(b"\0")
    each = iter(fields)
    return directory, [(n, b, d.decode(), int(s), int(m)) for n, b, d, s, m in zip(each, each, each, each, each)]  # noqa: B905


def _read_all(nbytes: int) -> bytes:
    data = b""
    while len(data) < nbytes and (more := os.read(0, nbytes - len(data))):
        data += more
    return data


def main() -> None:
    landing = int(sys.argv[1])
    reflinks = Reflinks()
    while len(head := _read_all(HEAD.size)) == HEAD.size:
        body = _read_all(*HEAD.unpack(head))
        if len(body) < HEAD.unpack(head)[0]:
            break
        directory, files = decode_group(body)
        try:
            folder = os.open(directory, _DIRECTORY, dir_fd=landing)
            try:
                nbytes = copy_files(folder, files, reflinks)
            finally:
                os.close(folder)
        except (NotThatBlob, OSError):
            nbytes = -1
        try:
            os.write(1, HEAD.pack(nbytes))
        except BrokenPipeError:
            break


if __name__ == "__main__":
    main()
