"""`artfs mount`."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Literal

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.mounting import MountOptions, daemon_command, log_file, prepare_mountpoint, start_daemon
from artfs.cli.output import emit_json, escape, say


@artfs_command("mount")
@click.argument("mountpoint", type=click.Path(readable=False))
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to stderr.")
@click.option(
    "--allow-other", is_flag=True, help="Let other users in (needs user_allow_other in /etc/fuse.conf)."
)
@click.option(
    "--aliases",
    type=click.Choice(["directories", "symlinks"]),
    default="directories",
    show_default=True,
    help="How aliases such as latest look in the mount.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What the daemon logs."
)
@json_option
@pass_app
def command(
    app: App,
    mountpoint: str,
    foreground: bool,
    allow_other: bool,
    aliases: Literal["directories", "symlinks"],
    log_level: str | None,
) -> None:
    """Mount the catalog as folders.

    MOUNTPOINT is an empty directory. The daemon goes on in the background after this command returns; it
    returns when the mount answers, and fails with the daemon's own last line when it does not. A stale mount
    that a killed daemon left behind is cleared first.

    \b
    Examples:
      mkdir -p ~/artfs && artfs mount ~/artfs
      ls ~/artfs/vega/cars/latest
      artfs umount ~/artfs
    """
    options = MountOptions(allow_other=allow_other, aliases=aliases, log_level=log_level)
    if foreground:
        app.settings.make_home()
        path = prepare_mountpoint(app.settings, mountpoint, app.note)
        arguments = daemon_command(app.settings, path, options)
        os.execv(arguments[0], arguments)
    record = start_daemon(app.settings, mountpoint, options, on_note=app.note)
    if app.json:
        emit_json(
            {
                "mountpoint": record.mountpoint,
                "pid": record.pid,
                "entity": record.entity,
                "started_at": datetime.fromisoformat(record.started_at),
                "socket": record.socket,
                "log": str(log_file(app.settings, Path(record.mountpoint))),
            }
        )
    else:
        say(f"mounted at {escape(record.mountpoint)} (pid {record.pid})")
