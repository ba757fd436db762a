"""`artfs backup`."""

from __future__ import annotations

from pathlib import Path

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.exits import CORRUPT
from artfs.cli.output import emit_json, escape, human_size, note, plural, say
from artfs.transfer.backup import Copied
from artfs.transfer.backup import backup as make_backup


@artfs_command("backup")
@click.argument("folder", type=click.Path(file_okay=False))
@json_option
@click.pass_context
@pass_app
def command(app: App, ctx: click.Context, folder: str) -> None:
    """Copy the catalog and the store somewhere safe.

    A consistent copy of all versions in FOLDER, which is made; a later backup to the same folder copies only
    what is new. A daemon may run and others may commit meanwhile. Drafts are not part of it. The backup is
    itself a state folder: `artfs --home FOLDER ls` works.

    \b
    Examples:
      artfs backup /mnt/disk/artfs-backup
      artfs restore /mnt/disk/artfs-backup --home ~/artfs-restored
    """
    app.need_own_catalog("a server's database and bucket are backed up where they are, and `artfs pull` copies versions")
    with app.progress() as progress:
        done = make_backup(
            app.session.catalog,
            app.session.store,
            Path(folder),
            on_progress=progress,
            workers=app.settings.worker_count,
        )
    show_copied(app, "backed up to", folder, done)
    if done.damaged:
        ctx.exit(CORRUPT)


def show_copied(app: App, verb: str, folder: str, done: Copied) -> None:
    """What a backup or restore says."""
    if app.json:
        emit_json(
            {
                "path": str(Path(folder).absolute()),
                "blobs": done.blobs,
                "size": done.nbytes,
                "copied": done.copied,
                "copied_size": done.copied_nbytes,
                "damaged": list(done.damaged),
            }
        )
        return
    copied = f"{plural(done.copied, 'blob')} ({human_size(done.copied_nbytes)}) copied"
    say(f"{verb} {escape(folder)}: {plural(done.blobs, 'blob')} ({human_size(done.nbytes)}), {copied}")
    for digest in done.damaged:
        note(f"left out, as it is damaged: {digest}")
    if done.damaged:
        note("`artfs verify NAME` says which versions need them")
