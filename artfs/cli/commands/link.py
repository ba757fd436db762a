"""`artfs link`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app, protected_option
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, say
from artfs.cli.targets import parse_whole, resolve
from artfs.errors import InvalidNameError
from artfs.model.names import check_alias


@artfs_command("link")
@click.argument("name", shell_complete=complete_name)
@click.argument("target")
@click.argument("aliases", nargs=-1, metavar="[ALIAS]...")
@protected_option
@json_option
@pass_app
def command(app: App, name: str, target: str, aliases: tuple[str, ...], allow_protected: bool) -> None:
    """Link a version to a collection of links, or to a registry.

    TARGET is PROJECT/COLLECTION, or wandb-registry-NAME/COLLECTION; both are made when missing. The version appears
    there with a number and aliases of that collection, among them latest. `artfs delete` removes a link.

    \b
    Examples:
      artfs link demo/minilm:v3 demo/approved
      artfs link demo/minilm:v3 wandb-registry-model/minilm prod
    """
    wanted = parse_whole(target, app.settings)
    if wanted.alias is not None:
        raise InvalidNameError(f"bad target {target!r}: name the collection only; aliases follow it")
    for alias in aliases:
        check_alias(alias)
    member = resolve(app.session, parse_whole(name, app.settings))
    allowed = allow_protected or app.settings.allow_protected
    link = app.session.catalog.link(
        member.version.id, wanted.entity, wanted.project, wanted.collection, aliases, allow_protected=allowed
    )
    if app.json:
        emit_json({"name": link.qualified_name, "version": f"v{link.index}", "aliases": list(link.aliases)})
    else:
        say(f"{escape(link.qualified_name)}: {', '.join(map(escape, link.aliases))}")
