"""`artfs quota`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.output import emit_json, escape, human_size, parse_size, say
from artfs.cli.servers import database_option, open_books
from artfs.cli.targets import parse_project


@artfs_command("quota")
@click.argument("place", metavar="PROJECT")
@click.argument("size", required=False, metavar="[SIZE]")
@database_option
@json_option
@pass_app
def command(app: App, place: str, size: str | None, database: str | None) -> None:
    """Show or set how much room a project may take on a server.

    SIZE is 20G, 500M …, or `none`: as much as there is. Blobs that the project has already stay; what would be too much
    is refused. As for `artfs token`, of the server that `artfs login` named, or of a database.

    \b
    Examples:
      artfs quota vision
      artfs quota vision 200G
      artfs quota vision none
    """
    entity, project = parse_project(place, app.settings)
    with open_books(app, database) as books:
        if size is not None:
            books.set_quota(entity, project, None if size == "none" else parse_size(size))
        row = books.quota(entity, project)
    if app.json:
        emit_json(row)
        return
    allowed = "as much as there is room for" if row["quota"] is None else f"of {human_size(row['quota'])}"
    say(f"{escape(entity)}/{escape(project)} takes {human_size(row['unique_size'])}, {allowed}")
