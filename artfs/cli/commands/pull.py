"""`artfs pull`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app, protected_option
from artfs.cli.completion import complete_name
from artfs.cli.exchanging import LOCAL, chosen, move


@artfs_command("pull")
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=complete_name)
@click.option("--all", "everything", is_flag=True, help="Every collection that may be read.")
@click.option("--from", "source", metavar="URL", help="The server. [default: the one of `artfs login`]")
@click.option("--as", "owner", metavar="ENTITY", help="Whose it is here. [default: the same as there]")
@protected_option
@json_option
@pass_app
def command(
    app: App,
    /,
    names: tuple[str, ...],
    everything: bool,
    source: str | None,
    owner: str | None,
    allow_protected: bool,
) -> None:
    """Move versions from a server to this machine's own catalog.

    As `artfs push`, the other way: versions with all that belongs to them. Nothing is removed on the server. To read a
    server's versions none of this is needed: mount it, or `artfs get`.

    \b
    Examples:
      artfs pull vega/cars
      artfs pull --all --from https://artfs.example.org
    """
    settings = app.settings
    move(
        app,
        chosen(settings, source, settings.server),
        chosen(settings, LOCAL, LOCAL),
        names,
        everything=everything,
        entity=owner,
        allow_protected=allow_protected or settings.allow_protected,
    )
