"""`artfs collection`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, say
from artfs.cli.shapes import collection_shape
from artfs.cli.targets import collection_of, parse_whole
from artfs.errors import InvalidNameError


@artfs_command("collection")
@click.argument("name", shell_complete=complete_name)
@click.option("--rename", metavar="NEW", help="A new name; versions and aliases stay.")
@click.option("-d", "--description", metavar="TEXT", help='What it is; "" removes it.')
@click.option("--type", metavar="TYPE", help="Another artifact type, for all its versions.")
@click.option("-t", "--tag", "tags", multiple=True, metavar="TAG", help="Add this tag; repeatable.")
@click.option("-r", "--remove-tag", "removed", multiple=True, metavar="TAG", help="Remove this tag; repeatable.")
@json_option
@pass_app
def command(
    app: App,
    name: str,
    rename: str | None,
    description: str | None,
    type: str | None,
    tags: tuple[str, ...],
    removed: tuple[str, ...],
) -> None:
    """Rename, describe and tag a collection.

    `artfs info PROJECT/COLLECTION` shows it, `artfs delete --collection` deletes it.

    \b
    Examples:
      artfs collection vega/cars --rename autos
      artfs collection vega/cars -d 'cars of 1970 to 1982' --tag public
    """
    wanted = parse_whole(name, app.settings)
    if wanted.alias is not None:
        raise InvalidNameError(f"bad collection name {name!r}: leave out ':{wanted.alias}'")
    found = collection_of(app.session, wanted)
    catalog = app.session.catalog
    changed = catalog.update_collection(
        found.id,
        name=rename,
        description=description,
        add_tags=tags,
        remove_tags=removed,
        type=type,
    )
    if app.json:
        emit_json(collection_shape(changed, catalog.members(changed.id)))
    else:
        marks = f" [{', '.join(map(escape, changed.tags))}]" if changed.tags else ""
        say(f"{escape(f'{changed.entity}/{changed.project}/{changed.name}')} ({changed.type}){marks}")
