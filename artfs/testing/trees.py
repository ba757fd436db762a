"""Folders for tests: making them, and taking pictures of them that can be compared."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Plan = Mapping[str, "bytes | str | Link | None"]
"""What to make, by path: bytes or text (a file), a Link, None (an empty directory). A path that ends with `*` is an
executable file (without the star)."""


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link to `target`."""

    target: str


def make(root: Path, plan: Plan) -> Path:
    """Makes `root`, which may exist, and what `plan` says below it; returns `root`."""
    root.mkdir(parents=True, exist_ok=True)
    for name, what in plan.items():
        path = root / name.removesuffix("*")
        path.parent.mkdir(parents=True, exist_ok=True)
        if what is None:
            path.mkdir()
        elif isinstance(what, Link):
            path.symlink_to(what.target)
        else:
            path.write_bytes(what.encode() if isinstance(what, str) else what)
            path.chmod(0o755 if name.endswith("*") else 0o644)
    return root


@dataclass(frozen=True, slots=True)
class Item:
    """One name of a folder, as far as a version keeps it. `content`: a file's SHA-256, a link's target, "" of a
    directory."""

    kind: str
    content: str = ""
    executable: bool = False


def picture(root: Path) -> dict[str, Item]:
    """Everything below `root`, by relative path: what a version keeps of it."""
    found: dict[str, Item] = {}
    todo = [root]
    while todo:
        for entry in os.scandir(todo.pop()):
            path = Path(entry.path)
            name = str(path.relative_to(root))
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                found[name] = Item("directory")
                todo.append(path)
            elif stat.S_ISLNK(status.st_mode):
                found[name] = Item("link", os.readlink(path))
            else:
                data = path.read_bytes()
                assert len(data) == status.st_size, (
                    f"{path}: stat shows {status.st_size} bytes, {len(data)} are read"
                )
                digest = hashlib.sha256(data).hexdigest()
                found[name] = Item("file", digest, bool(status.st_mode & stat.S_IXUSR))
    return found


def random_tree(root: Path, *, files: int, folders: int, seed: int = 0, size: int = 300) -> Path:
    """A tree of small files with random bytes, nested up to four deep; the same for the same `seed`."""
    dice = random.Random(seed)
    places = [root]
    root.mkdir(parents=True, exist_ok=True)
    for number in range(folders):
        parent = dice.choice([place for place in places if len(place.relative_to(root).parts) < 4])
        place = parent / f"folder {number}"
        place.mkdir()
        places.append(place)
    for number in range(files):
        path = dice.choice(places) / f"file-{number:05}.bin"
        path.write_bytes(dice.randbytes(dice.randrange(size)))
        if number % 50 == 0:
            path.chmod(0o755)
    return root


Step = Callable[[Path], Any]
"""One thing that is done to a folder; what it returns (or the errno that it raises) is compared, too."""


def outcome(step: Step, root: Path) -> Any:
    """What `step` returns for `root`, or ("errno", number) when it raises OSError."""
    try:
        return step(root)
    except OSError as error:
        return ("errno", error.errno)


def alike(steps: Sequence[Step], one: Path, other: Path) -> None:
    """Does every step to both folders and asserts that they answered and ended up the same, after each step."""
    assert picture(one) == picture(other)
    for number, step in enumerate(steps):
        name = f"step {number} ({step.__name__})"
        assert outcome(step, one) == outcome(step, other), name
        assert sorted(os.listdir(one)) == sorted(os.listdir(other)), name
    assert picture(one) == picture(other)


def nest(folder: Path, name: str, times: int) -> int:
    """Makes folders in each other and returns a descriptor of the last one; by descriptors, as their path may be too long."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(times):
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    return at
