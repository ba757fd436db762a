"""`artfs protect`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, say
from artfs.cli.targets import parse_project


@artfs_command("protect")
@click.argument("project", shell_complete=complete_name)
@click.argument("add", nargs=-1, metavar="[ALIAS]...")
@click.option("-r", "--remove", multiple=True, metavar="ALIAS", help="End the protection of this alias; repeatable.")
@json_option
@pass_app
def command(app: App, project: str, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Show, add and remove protected aliases of a project.

    In all collections of the project a protected alias is given, moved and removed only with --allow-protected (or
    ARTFS_ALLOW_PROTECTED=1). What has one cannot be deleted otherwise, and does not expire. PROJECT may be a
    registry, wandb-registry-NAME.

    \b
    Examples:
      artfs protect demo prod
      artfs protect demo
      artfs protect demo --remove prod
    """
    entity, name = parse_project(project, app.settings)
    catalog = app.session.catalog
    if add or remove:
        aliases = catalog.protect_aliases(entity, name, add=add, remove=remove)
    else:
        aliases = catalog.protected_aliases(entity, name)
    if app.json:
        emit_json({"name": f"{entity}/{name}", "aliases": aliases})
    else:
        say(f"{escape(f'{entity}/{name}')}: {', '.join(map(escape, aliases)) or 'no protected aliases'}")
