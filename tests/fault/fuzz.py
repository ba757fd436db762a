"""A program: fuzzes each decoder of artfs/testing/decoders.py with atheris (libFuzzer), guided by coverage.

    python tests/fault/fuzz.py --runs 10000 --seed 1 [--only NAME]

Each decoder has a process of its own, forked when all is imported: libFuzzer ends its process. What it begins with are the
decoder's valid encodings. A line of JSON is printed for each: {"name", "runs", "understood"}, and of one that failed "input" (in
hex) and "said". The exit code is 1 when one did. The same runs and seed try the same inputs.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import shutil
import struct
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import atheris

with atheris.instrument_imports(include=["artfs"]):
    from artfs.testing.decoders import DECODERS

if TYPE_CHECKING:
    from artfs.testing.decoders import Decoder

MAX_NBYTES = 4096
"""Of one input. What is large and simple is tried elsewhere (tests/unit/testing/test_decoders.py)."""
HANG_S = 120
"""For one input of so few bytes: whatever takes as long on a busy machine has no end."""
MEMORY_MIB = 1024

_COUNTS = struct.Struct("QQ")


def fuzz(decoder: Decoder, runs: int, seed: int, folder: Path) -> dict[str, object]:
    """In a child; what came of it."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(decoder.seeds):
        (corpus / str(number)).write_bytes(data)
    counts = mmap.mmap(-1, mmap.PAGESIZE)
    child = os.fork()
    if not child:
        _run(decoder, runs, seed, folder, counts)
    _, status = os.waitpid(child, 0)
    tried, understood = _COUNTS.unpack_from(counts, 0)
    found: dict[str, object] = {"name": decoder.name, "runs": tried, "understood": understood}
    artifacts = sorted(folder.glob("found-*"))
    if status or artifacts:
        found["input"] = artifacts[0].read_bytes().hex() if artifacts else ""
        found["said"] = (folder / "said").read_text(errors="replace")[-6000:]
    return found


def _run(decoder: Decoder, runs: int, seed: int, folder: Path, counts: mmap.mmap) -> NoReturn:
    tempfile.tempdir = str(folder)
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    tried = understood = 0

    def try_one(data: bytes) -> None:
        nonlocal tried, understood
        tried += 1
        try:
            understood += decoder.check(data)
        except BaseException:
            # libFuzzer's own way out hangs or loses it now and then.
            (folder / "found-error").write_bytes(data)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        _COUNTS.pack_into(counts, 0, tried, understood)

    options = [
        f"-runs={runs}", f"-seed={seed}", f"-max_len={MAX_NBYTES}", f"-timeout={HANG_S}", f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={folder}/found-", "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], try_one)
    atheris.Fuzz()
    os._exit(0)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    failed = False
    for decoder in DECODERS:
        if given.only in ("", decoder.name):
            # No TemporaryDirectory: the child would remove it at its end.
            folder = Path(tempfile.mkdtemp(prefix="artfs-fuzz-"))
            try:
                found = fuzz(decoder, given.runs, given.seed, folder)
            finally:
                shutil.rmtree(folder)
            failed = failed or "input" in found
            print(json.dumps(found), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
