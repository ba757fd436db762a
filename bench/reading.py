"""Programs of people who want a part of a large file; run by bench/remote.py through every mount.

    python bench/reading.py column FILE NAME         one column of a Parquet file, by pyarrow
    python bench/reading.py rows FILE COUNT SEED     scattered rows of an .npy file, by numpy's memmap, in random order
    python bench/reading.py make-parquet FILE NBYTES | make-npy FILE NBYTES

The last line says "SECONDS NBYTES": how long it took, and how many bytes of the file it could not do without.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = 16
GROUP = 1024 * 1024
ROW = 1024


def make_parquet(path: str, nbytes: int) -> None:
    """Random doubles in 16 columns, so that nothing is compressed; row groups of pyarrow's default size."""
    rows = nbytes // (8 * COLUMNS)
    random = np.random.default_rng(1)
    schema = pa.schema([(f"c{number:02}", pa.float64()) for number in range(COLUMNS)])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for begin in range(0, rows, GROUP):
            here = min(GROUP, rows - begin)
            writer.write_table(pa.table([random.random(here) for _ in range(COLUMNS)], schema=schema))


def read_column(path: str, name: str) -> int:
    column = pq.read_table(path, columns=[name]).column(0)
    assert len(column)
    with open(path, "rb") as stream:
        facts = pq.ParquetFile(stream).metadata
    at = facts.schema.names.index(name)
    chunks = sum(facts.row_group(number).column(at).total_compressed_size for number in range(facts.num_row_groups))
    return int(chunks + facts.serialized_size + 8)


def make_npy(path: str, nbytes: int) -> None:
    """Rows of 4 KiB."""
    random = np.random.default_rng(2)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(nbytes // (4 * ROW), ROW))
    for begin in range(0, len(array), 4096):
        array[begin : begin + 4096] = random.random((min(4096, len(array) - begin), ROW), dtype=np.float32)
    array.flush()


def read_rows(path: str, count: int, seed: int) -> int:
    array = np.load(path, mmap_mode="r")
    total = 0.0
    for row in np.random.default_rng(seed).choice(len(array), count, replace=False):
        total += float(array[row].sum())
    assert total > 0
    return int(count * array[0].nbytes)


def main(action: str, path: str, *rest: str) -> None:
    begin = time.perf_counter()
    if action == "column":
        needed = read_column(path, rest[0])
    elif action == "rows":
        needed = read_rows(path, int(rest[0]), int(rest[1]))
    elif action == "make-parquet":
        make_parquet(path, int(rest[0]))
        return
    else:
        make_npy(path, int(rest[0]))
        return
    print(f"{time.perf_counter() - begin:.6f} {needed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
