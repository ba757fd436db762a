"""`artfs debug`."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.debugging import all_items, archive, as_json, gather, known_secrets
from artfs.cli.output import emit_json, escape, human_size, say, to_stdout
from artfs.cli.redact import Redactor
from artfs.errors import ArtfsError, ConflictError, StorageError


@artfs_command("debug")
@click.option(
    "-o", "--output", metavar="FILE",
    help="Where to write it; - is standard output.  [default: artfs-debug-DATE-TIME.tar.gz in this folder]",
)  # fmt: skip
@json_option
@pass_app
def command(app: App, output: str | None) -> None:
    """Write one archive for a bug report.

    It has the logs of the daemons (from their files and the journal), the status, the versions of artfs and of
    what it stands on, the mount table and the settings of FUSE connections, the settings in force and where each
    came from, what `artfs doctor` says, and of each running daemon what it is doing at the moment (SIGUSR1), and a
    few seconds of its access log. It has nothing of what versions and drafts hold.

    It works without a daemon and with one that hangs: each part is waited for only so long, and what could not be
    had is said in the archive's README.txt, and here.

    Tokens, passwords, keys, Authorization headers and the queries of URLs are taken out. Names of files, projects,
    people, hosts and folders are not: look at it before you send it.

    \b
    Examples:
      artfs debug
      artfs debug --output /tmp/report.tar.gz
    """
    name = f"artfs-debug-{datetime.now():%Y%m%d-%H%M%S}"
    path = Path(output or f"{name}.tar.gz")
    if output != "-" and path.exists():
        raise ConflictError(f"{path} is there already; name another file")
    try:
        settings = app.settings
    except ArtfsError as error:
        app.note(f"{error}; the archive has what can be had without settings")
        settings = None
    redact = Redactor(known_secrets(settings))
    gathered = gather(all_items(settings, app.overrides), redact, lambda item: app.note(f"getting {item}"))
    data = archive(gathered, name)
    if output == "-":
        with to_stdout():
            sys.stdout.buffer.write(data)
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        raise StorageError.wrap(error, f"writing {path}") from error
    if app.json:
        emit_json(as_json(gathered, str(path.absolute()), len(data)))
        return
    say(f"wrote {escape(str(path))}: {human_size(len(data))}")
    for item, text in gathered.files:
        say(f"  {escape(item)}  {human_size(len(text.encode(errors='backslashreplace')))}")
    for item, why in gathered.missing:
        say(f"  without {escape(item)}: {escape(why)}")
    say("Secrets were taken out as far as they could be told; names of files, projects, people and hosts were not.")
    say("Look at it before you send it to anybody.")
