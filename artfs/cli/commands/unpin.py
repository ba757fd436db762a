"""`artfs unpin`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, say
from artfs.cli.targets import parse_whole
from artfs.errors import NotFoundError
from artfs.store.cache import Cache


@artfs_command("unpin")
@click.argument("name", shell_complete=complete_name)
@json_option
@pass_app
def command(app: App, /, name: str) -> None:
    """Let the cache forget a version again.

    It stays until its room is needed, or `artfs cache clean` is called. NAME is what `artfs cache pins` shows, of the server
    that is used.

    \b
    Examples:
      artfs unpin demo/minilm:prod
    """
    settings = app.settings
    wanted = parse_whole(name, settings)
    label = f"{wanted.qualified_collection}:{wanted.alias or 'latest'}"
    with Cache(settings.cache_path, size=settings.cache_size, floor=settings.cache_floor) as cache:
        if not cache.unpin(settings.server, label):
            elsewhere = [pin.server for pin in cache.pins() if pin.name == label]
            hint = f"; it is of {elsewhere[0]}: put ARTFS_SERVER={elsewhere[0]} before the command" if elsewhere else ""
            where = f" of {settings.server}" if settings.server else ""
            raise NotFoundError(f"{label}{where} is not pinned{hint or '; `artfs cache pins` lists what is'}")
    if app.json:
        emit_json({"name": label, "pinned": False})
    else:
        say(f"unpinned {escape(label)}")
