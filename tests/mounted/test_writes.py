"""Writing to a draft: whoever only writes bypasses the page cache, others do not, and all see the same file; digests that
are computed after close() are those of what the commit finds."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.outside import sha256sum

SMALL, LARGE = 20_000, 600_000


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_file_that_is_changed_right_after_it_was_closed_is_committed_as_it_is(corner: Corner, size: int) -> None:
    """In place, so that its size stays; through another name; cut and filled again."""
    draft, expected = corner.begin(), {}
    for number in range(60):
        path = draft / f"{number}"
        path.write_bytes(os.urandom(size))
        if number % 3 == 0:
            fd = os.open(path, os.O_WRONLY)
            os.pwrite(fd, b"changed", 5)
            os.close(fd)
        elif number % 3 == 1:
            os.link(path, draft / f"{number}.other")
            with (draft / f"{number}.other").open("r+b") as stream:
                stream.write(b"changed")
        else:
            os.truncate(path, 10)
            os.truncate(path, size)
        expected[path.name] = path.read_bytes()
    corner.commit("c")
    version = corner.path / "c" / "v0"
    assert {name: (version / name).read_bytes() for name in expected} == expected
    store = corner.daemon.workspace.blobs_path
    sha256sum({path: path.name for path in store.glob("*/*")})


def test_a_reader_a_mapping_and_a_writer_see_one_file(corner: Corner) -> None:
    path = corner.begin() / "file"
    path.write_bytes(b"a" * 8192)
    with path.open("r+b") as both, path.open("rb", buffering=0) as reader:
        view = mmap.mmap(both.fileno(), 8192)
        assert reader.read() == b"a" * 8192
        fd = os.open(path, os.O_WRONLY)
        os.pwrite(fd, b"written", 4090)
        assert view[4090:4097] == b"written"
        assert os.pread(reader.fileno(), 7, 4090) == b"written"
        view[100:106] = b"mapped"
        view.flush()
        os.pwrite(fd, b"again", 200)
        os.close(fd)
        assert os.pread(reader.fileno(), 105, 100) == b"mapped" + b"a" * 94 + b"again"
        view.close()


def test_times_and_size_of_a_file_that_is_being_written_are_its_own(corner: Corner) -> None:
    """A log that is appended to for hours shows when it was last written, not when it was made."""
    path = corner.begin() / "log"
    with path.open("ab", buffering=0) as stream:
        made = path.stat()
        time.sleep(0.02)
        stream.write(b"a line\n")
        after = path.stat()
    assert after.st_mtime_ns > made.st_mtime_ns
    assert (made.st_size, after.st_size) == (0, 7)


def test_writing_costs_a_request_a_write_and_nothing_else(corner: Corner) -> None:
    draft = corner.begin()
    (draft / "folder").mkdir()
    with corner.daemon.counting() as counts:
        for number in range(20):
            fd = os.open(draft / "folder" / f"{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(fd, bytes(512 * 1024))
            os.close(fd)
    assert counts["write"] == 20
    assert counts["getxattr"] == counts["setattr"] == 0
    if os.geteuid() == 0:
        assert counts["getattr"] <= 1


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_access_tells_what_may_be_executed(corner: Corner, tmp_path: Path, mode: int) -> None:
    (tmp_path / "file").write_text("#!/bin/sh\n")
    (tmp_path / "file").chmod(mode)
    corner.log(tmp_path)
    draft = corner.begin("c:latest")
    for path in (corner.path / "c" / "v0" / "file", draft / "file"):
        assert os.access(path, os.X_OK) == bool(mode & 0o100)
        assert os.access(path, os.R_OK)
    assert os.access(draft, os.X_OK | os.W_OK)
