"""`artfs tag`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, say, table
from artfs.cli.targets import collection_of, parse_whole, resolve
from artfs.model.names import check_tag


@artfs_command("tag")
@click.argument("name", shell_complete=complete_name)
@click.argument("add", nargs=-1, metavar="[TAG]...")
@click.option(
    "-r", "--remove", multiple=True, metavar="TAG", help="Remove this tag from the version; repeatable."
)
@json_option
@pass_app
def command(app: App, name: str, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Show, add and remove tags of a version.

    Any number of versions may have the same tag. Without TAG and --remove the tags are listed: of a version,
    or of every version of PROJECT/COLLECTION.

    \b
    Examples:
      artfs tag vega/cars
      artfs tag vega/cars:v3 reviewed clean
      artfs tag vega/cars:v3 --remove clean
    """
    wanted = parse_whole(name, app.settings)
    catalog = app.session.catalog
    if add or remove:
        for tag in (*add, *remove):
            check_tag(tag)
        member = resolve(app.session, wanted)
        for tag in sorted({*remove} - {*member.version.tags}):
            app.note(f"note: {member.qualified_name} has no tag {tag!r}; nothing to remove")
        version = catalog.update_version(member.version.id, add_tags=add, remove_tags=remove)
        if app.json:
            emit_json(
                {"name": member.qualified_name, "version": f"v{member.index}", "tags": list(version.tags)}
            )
        else:
            say(f"{escape(member.qualified_name)}: {', '.join(map(escape, version.tags)) or 'no tags'}")
        return
    if wanted.alias is not None:
        members = [resolve(app.session, wanted)]
    else:
        members = catalog.members(collection_of(app.session, wanted).id)
    if app.json:
        emit_json(
            [
                {"name": m.qualified_name, "tag": tag, "version": f"v{m.index}"}
                for m in members
                for tag in m.version.tags
            ]
        )
    else:
        table(["TAG", "VERSION"], [[tag, f"v{m.index}"] for m in members for tag in m.version.tags])
