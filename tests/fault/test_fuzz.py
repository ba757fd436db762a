"""Bytes from outside, made up by a fuzzer, fed to every decoder."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from artfs.testing.decoders import DECODERS
from artfs.testing.torture import Tally

PROGRAM = Path(__file__).with_name("fuzz.py")


def test_made_up_bytes_are_understood_or_refused(
    scale: Callable[[int, int], int], tally: Tally, chance: random.Random
) -> None:
    """atheris changes valid encodings, guided by the lines that are reached. Whatever comes of it: only errors that were
    announced, and what is understood is written again as it was."""
    runs, seed = scale(200, 25_000), chance.randrange(1, 2**31)
    done = subprocess.run(
        [sys.executable, PROGRAM, "--runs", str(runs), "--seed", str(seed)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for each in found:
        tally("bytes fed to decoders by a fuzzer", each["runs"])
        assert "input" not in each, f"seed {seed}, {each['name']}, this input in hex: {each['input']}\n{each['said']}"
        assert each["runs"] >= runs, each
        assert each["understood"], f"nothing that {each['name']} was given was valid"
    assert [each["name"] for each in found] == [each.name for each in DECODERS], done.stderr[-3000:]
    assert done.returncode == 0
