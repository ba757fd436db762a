"""`artfs alias`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app, protected_option
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, say, table
from artfs.cli.targets import collection_of, parse_whole, resolve
from artfs.model.names import check_alias


@artfs_command("alias")
@click.argument("name", shell_complete=complete_name)
@click.argument("add", nargs=-1, metavar="[ALIAS]...")
@click.option(
    "-r", "--remove", multiple=True, metavar="ALIAS", help="Remove this alias from the version; repeatable."
)
@protected_option
@json_option
@pass_app
def command(
    app: App, name: str, add: tuple[str, ...], remove: tuple[str, ...], allow_protected: bool
) -> None:
    """Show, add and remove aliases of a version.

    An alias names at most one version of a collection: adding it here takes it from where it was. Without
    ALIAS and --remove the aliases are listed: of a version, or of every version of PROJECT/COLLECTION.

    \b
    Examples:
      artfs alias vega/cars
      artfs alias vega/cars:v3 best prod
      artfs alias vega/cars:v3 --remove best
    """
    wanted = parse_whole(name, app.settings)
    catalog = app.session.catalog
    if add or remove:
        for alias in (*add, *remove):
            check_alias(alias)
        allowed = allow_protected or app.settings.allow_protected
        before = resolve(app.session, wanted)
        for alias in sorted({*remove} - {*before.aliases}):
            app.note(f"note: {before.qualified_name} has no alias {alias!r}; nothing to remove")
        member = catalog.set_aliases(before.id, add=add, remove=remove, allow_protected=allowed)
        if app.json:
            emit_json(
                {
                    "name": member.qualified_name,
                    "version": f"v{member.index}",
                    "aliases": list(member.aliases),
                }
            )
        else:
            say(f"{escape(member.qualified_name)}: {', '.join(map(escape, member.aliases)) or 'no aliases'}")
        return
    if wanted.alias is not None:
        members = [resolve(app.session, wanted)]
    else:
        members = catalog.members(collection_of(app.session, wanted).id)
    if app.json:
        emit_json(
            [
                {"name": m.qualified_name, "alias": alias, "version": f"v{m.index}"}
                for m in members
                for alias in m.aliases
            ]
        )
    else:
        table(["ALIAS", "VERSION"], [[alias, f"v{m.index}"] for m in members for alias in m.aliases])
