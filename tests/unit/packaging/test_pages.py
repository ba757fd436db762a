"""The code of docs/coming-from-wandb.md runs, and so does a script that was written for wandb."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "coming-from-wandb.md").read_text()
SCRIPT = ROOT / "tests" / "unit" / "api" / "scripts" / "flights.py"

THEIRS = "import wandb\n"
OURS = "import artfs as wandb\n"


def python(*arguments: str, cwd: Path) -> str:
    """What a Python program prints; every warning that artfs causes is an error."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_each_piece_of_code_stands_there_twice() -> None:
    theirs, ours = blocks()[::2], blocks()[1::2]
    assert len(theirs) == len(ours) > 5
    for one, two in zip(theirs, ours, strict=True):
        assert THEIRS in one
        assert one.replace(THEIRS, OURS, 1) == two


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("rose.txt", "tulip.txt"):
        (photos / name).write_text(name)
    (tmp_path / "notes.txt").write_text("a rose is a rose")
    printed = "".join(python("-c", block, cwd=tmp_path) for block in blocks()[1::2])
    assert printed.splitlines() == [
        "photos:v0",
        "v0 2",
        "v1 ['labels.csv', 'rose.txt', 'tulip.txt']",
        "True v0 classifier:v0",
        "['local/wandb-registry-model/flower-classifier:v0']",
        "v0 ['0.txt', '1.txt', '2.txt']",
        "photos:v1 COMMITTED 51 ['latest']",
        "photos:v0 COMMITTED 55 ['first', 'raw']",
        "classifier model",
        "train ['photos:v0']",
        "['train']",
        "['weights.txt']",
        "False",
        "30 days, 0:00:00",
        "False",
        "notes.txt 16",
        "pictures/rose.txt 8",
        "pictures/tulip.txt 9",
        "['notes.txt', 'rose.txt', 'tulip.txt']",
        "rose 5",
        "tulip 6",
        "daisy 34",
        "['page.html-file.json', 'petals.table.json']",
    ]


def test_a_script_for_wandb_runs_with_another_import(tmp_path: Path) -> None:
    """On real data: the small data sets of the Vega project."""
    spec = find_spec("vega_datasets")
    assert spec is not None and spec.origin is not None
    data = Path(spec.origin).with_name("_data")
    text = SCRIPT.read_text()
    assert text.count(THEIRS) == 1
    (tmp_path / "flights.py").write_text(text.replace(THEIRS, OURS))
    files = [path for path in data.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    printed = python("flights.py", str(data), cwd=tmp_path)
    assert printed.splitlines() == [
        f"raw v0 {len(files)} {size}",
        "again v0",
        "clean cars-clean:v0 400",
        "model 7 8",
        "link True cars-model:v0 v0",
        "made by train ['cars-clean:v0']",
        "used by ['train']",
        "versions ['vega-raw:v0']",
        "exists True False",
        "files ['cars.csv', 'more/iris.json']",
        "collection Cars cars-model",
        "changed v1 ['cars.csv', 'weights.json']",
        "old ['first', 'ready']",
        "copy True True",
        "spoiled copy found",
    ]
