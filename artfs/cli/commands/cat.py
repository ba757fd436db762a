"""`artfs cat`."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile

import click

from artfs.cli.common import App, artfs_command, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import to_stdout
from artfs.cli.targets import entry_at, open_manifest, parse_target, resolve
from artfs.errors import BadBlobError, ConflictError, InvalidNameError, StorageError
from artfs.model.entry import FileEntry, RefEntry

CHUNK = 1 << 20


@artfs_command("cat")
@click.argument("name", shell_complete=complete_name)
@pass_app
def command(app: App, name: str) -> None:
    """Write a file of a version to standard output.

    NAME is PROJECT/COLLECTION[:ALIAS]/PATH, and needs its alias. The bytes are checked on the way; when they
    turn out wrong the command fails at the end, with what it wrote until then.

    \b
    Examples:
      artfs cat vega/cars:latest/cars.csv | head
    """
    target = parse_target(name, app.settings)
    if not target.path:
        raise InvalidNameError(
            f"say which file: {name.rstrip('/')}/PATH" + ("" if ":" in name else " (with :latest or so)")
        )
    member = resolve(app.session, target.name)
    entry = entry_at(open_manifest(app.session.store, member.version.digest), target)
    if isinstance(entry, RefEntry):
        # All of it first: nothing is shown that was not checked.
        with tempfile.TemporaryFile() as copy:
            app.session.references.fetch(entry, copy.fileno())
            copy.seek(0)
            with to_stdout():
                shutil.copyfileobj(copy, sys.stdout.buffer, CHUNK)
        return
    if not isinstance(entry, FileEntry):
        raise ConflictError(f"{name} is not a file; `artfs ls -l {name}` shows what it is")
    hasher = hashlib.sha256()
    with os.fdopen(app.session.store.open_blob(entry.digest, entry.content), "rb", buffering=0) as stream:
        while chunk := _read(stream.fileno(), target.path):
            hasher.update(chunk)
            with to_stdout():
                sys.stdout.buffer.write(chunk)
    if hasher.hexdigest() != entry.digest:
        raise BadBlobError(
            f"the bytes of {name} are damaged: the blob {entry.digest} is not what it says", entry.digest
        )


def _read(descriptor: int, path: str) -> bytes:
    try:
        return os.read(descriptor, CHUNK)
    except OSError as error:
        raise StorageError.wrap(error, f"reading {path}") from error
