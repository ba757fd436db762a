"""`artfs umount`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.mounting import unmount
from artfs.cli.output import emit_json, escape, say
from artfs.client.control import running_mounts
from artfs.errors import NotFoundError


@artfs_command("umount")
@click.argument("mountpoint", type=click.Path(readable=False), required=False)
@click.option("--all", "all_", is_flag=True, help="End every mount of this state folder.")
@click.option(
    "-l",
    "--lazy",
    is_flag=True,
    help="Detach it now even if it is in use; the daemon ends when the last user leaves.",
)
@json_option
@pass_app
def command(app: App, mountpoint: str | None, all_: bool, lazy: bool) -> None:
    """End a mount.

    Asks the daemon to end (or unmounts with fusermount3 when it does not answer) and waits until both are
    gone. MOUNTPOINT may be left out when one mount runs. A mount in use is not ended: the message says by
    whom. Drafts are kept.

    \b
    Examples:
      artfs umount ~/artfs
      artfs umount --all
    """
    if mountpoint is not None and all_:
        raise click.UsageError("say a mountpoint or --all, not both")
    wanted = [mountpoint] if mountpoint is not None else _running(app, all_=all_)
    ended = []
    for path in wanted:
        ended.append(str(unmount(app.settings, path, lazy=lazy)))
        if not app.json:
            say(f"unmounted {escape(ended[-1])}")
    if app.json:
        emit_json([{"mountpoint": path} for path in ended])


def _running(app: App, *, all_: bool) -> list[str]:
    running = [record.mountpoint for record in running_mounts(app.settings.run_path)]
    if not running and not all_:
        raise NotFoundError("no mount of this state folder is running; say which mountpoint")
    if len(running) > 1 and not all_:
        raise click.UsageError(f"several mounts are running ({', '.join(running)}); say which, or --all")
    return running
