"""`artfs push`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app, protected_option
from artfs.cli.completion import complete_own_name
from artfs.cli.exchanging import LOCAL, chosen, move


@artfs_command("push")
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=complete_own_name)
@click.option("--all", "everything", is_flag=True, help="Every collection.")
@click.option("--to", metavar="URL", help="The server. [default: the one of `artfs login`]")
@click.option("--from", "source", metavar="URL", help="Another server instead of this machine's own catalog.")
@click.option("--as", "owner", metavar="ENTITY", help="Whose it is there. [default: the same as here]")
@protected_option
@json_option
@pass_app
def command(
    app: App,
    /,
    names: tuple[str, ...],
    everything: bool,
    to: str | None,
    source: str | None,
    owner: str | None,
    allow_protected: bool,
) -> None:
    """Move versions to a server.

    NAME is PROJECT, PROJECT/COLLECTION, or a single version. What goes over: the versions in their order, with their
    numbers, times, descriptions, metadata, tags, lifetimes and aliases, and links to them. Only bytes that the server has not
    travel. Nothing is removed here. The same call again goes on where an interrupted one ended; what is there already is
    not made again, `latest` stays with younger versions that others made there, and other aliases stay when they were
    changed there later than here.

    \b
    Examples:
      artfs push --all --as team
      artfs push vega demo/minilm --to https://artfs.example.org
      artfs push vega/cars:v3
    """
    settings = app.settings
    move(
        app,
        chosen(settings, source, LOCAL),
        chosen(settings, to, settings.server),
        names,
        everything=everything,
        entity=owner,
        allow_protected=allow_protected or settings.allow_protected,
    )
