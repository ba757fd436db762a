"""`artfs restore`."""

from __future__ import annotations

from pathlib import Path

import click

from artfs.cli.commands.backup import show_copied
from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.exits import CORRUPT
from artfs.transfer.backup import restore


@artfs_command("restore")
@click.argument("folder", type=click.Path(file_okay=False))
@json_option
@click.pass_context
@pass_app
def command(app: App, ctx: click.Context, folder: str) -> None:
    """Make a state folder from a backup.

    FOLDER is what `artfs backup` wrote. The state folder (--home) must not exist or be empty; an interrupted
    restore goes on when it is called again. Every blob is checked on the way.

    \b
    Examples:
      artfs restore /mnt/disk/artfs-backup --home ~/artfs-restored
    """
    with app.progress() as progress:
        done = restore(
            Path(folder), app.settings.home, on_progress=progress, workers=app.settings.worker_count
        )
    show_copied(app, "restored to", str(app.settings.home), done)
    if done.damaged:
        ctx.exit(CORRUPT)
