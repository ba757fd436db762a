"""Rows with checksums, and the digests of a draft's files that are kept so: rot gives no file another content."""

from __future__ import annotations

import os
from pathlib import Path

from artfs.model.records import Content
from artfs.store.rows import encode_row, split_rows
from artfs.store.staging import HashLog, HashRecord, record_for


def test_what_is_torn_or_rotten_ends_it() -> None:
    rows = [b"one", b"", b"three" * 100]
    data = b"".join(map(encode_row, rows))
    assert list(split_rows(data)) == rows
    for cut in range(len(data)):
        found = list(split_rows(data[:cut]))
        assert found == rows[: len(found)]
    for bit in range(8 * len(data)):
        rotten = bytearray(data)
        rotten[bit // 8] ^= 1 << bit % 8
        found = list(split_rows(bytes(rotten)))
        assert found == rows[: len(found)] and len(found) < len(rows)


def make_log(path: Path) -> tuple[Path, os.stat_result, HashRecord]:
    file = path / "file"
    file.write_bytes(b"content")
    record = record_for(file.stat(), Content("a" * 64, 7, ""), ())
    log = HashLog(path / "hashes")
    log.add(record)
    log.flush()
    return path / "hashes", file.stat(), record


def test_a_digest_that_rotted_is_not_believed(tmp_path: Path) -> None:
    path, status, record = make_log(tmp_path)
    data = path.read_bytes()
    assert HashLog(path).try_get(status) == record
    for bit in range(8 * len(data)):
        rotten = bytearray(data)
        rotten[bit // 8] ^= 1 << bit % 8
        path.write_bytes(rotten)
        assert HashLog(path).try_get(status) is None


def test_what_is_added_behind_a_torn_record_is_found(tmp_path: Path) -> None:
    path, status, record = make_log(tmp_path)
    path.write_bytes(b"\x20\0\0\0torn by a killed process")
    log = HashLog(path)
    assert log.try_get(status) is None
    log.add(record)
    log.flush()
    assert HashLog(path).try_get(status) == record
