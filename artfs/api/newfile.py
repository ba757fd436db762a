"""`new_file`: a file that is written straight into a draft.

Its bytes are in an unnamed file beside the store until the `with` ends, so a killed process leaves nothing
behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any

from artfs.api.draft import Deposit, DraftArtifact, Pending, StrPath
from artfs.errors import (
    ConflictError,
    InvalidArgumentError,
    PathNotFoundError,
    StorageError,
)
from artfs.model.entry import FileEntry, LinkEntry, RefEntry
from artfs.model.names import check_path
from artfs.transfer.push import push_file

_BEGIN_WITH_WHAT_IS_THERE = "ar"


def new_file(
    draft: DraftArtifact, name: StrPath, mode: str, encoding: str | None
) -> AbstractContextManager[IO[Any]]:
    """See Artifact.new_file. What is wrong with the arguments is raised here, not at the `with`."""
    how = _check_mode(mode)
    path = check_path(name)
    draft.check_open()
    there = draft.items.get(path)
    if there is None:
        draft.items.check(path)
        if how == "r":
            raise PathNotFoundError(f"there is no file {path!r} in this artifact")
    elif how == "x":
        raise ConflictError(
            f"{path!r} was added already; open it with mode 'w' to replace it, 'a' to add to it"
        )
    elif how in _BEGIN_WITH_WHAT_IS_THERE and isinstance(there, LinkEntry | RefEntry):
        what = "a symbolic link" if isinstance(there, LinkEntry) else "a reference"
        raise InvalidArgumentError(f"{path!r} is {what}; open it with mode 'w' to replace it")
    text = None if "b" in mode else encoding or "utf-8"
    return _new_file(draft, path, how, mode.replace("x", "w"), text)


def _check_mode(mode: str) -> str:
    """Which of "x", "w", "a" and "r" it is."""
    kinds = [letter for letter in mode if letter in "xwar"]
    rest = sorted(letter for letter in mode if letter not in "xwar")
    if len(kinds) != 1 or rest not in ([], ["+"], ["b"], ["t"], ["+", "b"], ["+", "t"]):
        raise InvalidArgumentError(
            f"bad mode {mode!r} for a new file: use 'x', 'w', 'a' or 'r+', and 'b' for bytes"
        )
    return kinds[0]


@contextmanager
def _new_file(
    draft: DraftArtifact, path: str, how: str, mode: str, encoding: str | None
) -> Iterator[IO[Any]]:
    with draft.depositing() as deposit, _scratch(deposit, path) as scratch:
        there = draft.items.get(path)
        if isinstance(there, FileEntry | Pending) and how in _BEGIN_WITH_WHAT_IS_THERE:
            _copy_item(deposit, there, scratch)
            if there.executable:
                os.fchmod(scratch.fileno(), 0o700)
        # By this name the unnamed file can be opened again: each opening has its own mode, position and
        # buffer.
        local = f"/proc/self/fd/{scratch.fileno()}"
        with open(local, mode, encoding=encoding) as stream:
            yield stream
        entry = push_file(deposit.batch, local, name=os.fsencode(path.rpartition("/")[2]))
        draft.put(path, entry, overwrite=how != "x")


def _scratch(deposit: Deposit, path: str) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=deposit.store.root, buffering=0)
    except OSError as error:
        raise StorageError.wrap(error, f"making the new file {path!r}") from error


def _copy_item(deposit: Deposit, item: FileEntry | Pending, target: IO[bytes]) -> None:
    if isinstance(item, Pending):
        item.check()
        source: str | int = item.path
    else:
        source = deposit.open_blob(item)
    try:
        with open(source, "rb") as stream:
            shutil.copyfileobj(stream, target, 1024 * 1024)
    except OSError as error:
        raise StorageError.wrap(error, "copying what was added") from error
