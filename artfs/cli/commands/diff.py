"""`artfs diff`."""

from __future__ import annotations

import click

from artfs.cli.changes import changes_shape, show_changes
from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.exits import NO
from artfs.cli.output import emit_json, escape, say
from artfs.cli.targets import open_manifest, parse_whole, resolve
from artfs.errors import NotFoundError
from artfs.model.manifest import diff
from artfs.model.records import Member


@artfs_command("diff")
@click.argument("a", shell_complete=complete_name)
@click.argument("b", required=False, shell_complete=complete_name)
@click.option("--stat", is_flag=True, help="Only the summary.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there are changes.")
@json_option
@click.pass_context
@pass_app
def command(app: App, ctx: click.Context, a: str, b: str | None, stat: bool, exit_code: bool) -> None:
    """Show what changed between two versions.

    From A to B, which may be versions of different collections. With A alone: from the version before A in
    its collection to A. Each line is a letter (A added, M changed, D removed), a path and sizes. It takes
    time in proportion to the change.

    \b
    Examples:
      artfs diff vega/cars:latest
      artfs diff vega/cars:v0 vega/cars:v3 --stat
    """
    old = resolve(app.session, parse_whole(a, app.settings))
    if b is None:
        old, new = _before(app, old), old
    else:
        new = resolve(app.session, parse_whole(b, app.settings))
    store = app.session.store
    changes = diff(open_manifest(store, old.version.digest), open_manifest(store, new.version.digest))
    if app.json:
        shape = changes_shape(changes, stat=stat)
        emit_json({"old": _side(old), "new": _side(new), **shape})
        differs = any(shape["summary"][kind] for kind in ("added", "changed", "removed"))
    else:
        if not app.quiet:
            say(f"{escape(old.qualified_name)} -> {escape(new.qualified_name)}")
        differs = show_changes(changes, stat=stat) > 0
    if exit_code and differs:
        ctx.exit(NO)


def _before(app: App, member: Member) -> Member:
    earlier = [m for m in app.session.catalog.members(member.collection_id) if m.index < member.index]
    if not earlier:
        raise NotFoundError(
            f"{member.qualified_name} is the first version there; say two versions to compare"
        )
    return earlier[-1]


def _side(member: Member) -> dict[str, str]:
    return {"name": member.qualified_name, "digest": member.version.digest}
