"""`artfs delete`."""

from __future__ import annotations

import click

from artfs.cli.common import App, agreed, artfs_command, json_option, pass_app, protected_option, yes_option
from artfs.cli.completion import complete_name
from artfs.cli.exits import NO
from artfs.cli.output import emit_json, escape, human_size, plural, say
from artfs.cli.targets import collection_of, parse_project, parse_whole, resolve
from artfs.errors import AliasInUseError, AliasProtectedError, InvalidNameError, NotFoundError
from artfs.model.records import Collection, Member, Project

Doomed = Member | Collection | Project


@artfs_command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_name)
@click.option(
    "--delete-aliases", is_flag=True, help="Also versions that have aliases; the aliases go with them."
)
@click.option("--collection", is_flag=True, help="NAME is a collection: delete it with all its versions.")
@click.option("--empty-project", is_flag=True, help="NAME is a project without collections.")
@protected_option
@yes_option
@json_option
@click.pass_context
@pass_app
def command(
    app: App,
    ctx: click.Context,
    names: tuple[str, ...],
    delete_aliases: bool,
    collection: bool,
    empty_project: bool,
    allow_protected: bool,
    yes: bool,
) -> None:
    """Delete versions or collections.

    NAME must say the version (PROJECT/COLLECTION:v3). A version that has aliases (latest included) is kept
    unless --delete-aliases is given. A linked version loses its link only. The space is freed by `artfs gc`.
    Asks first when a person sits at the terminal.

    \b
    Examples:
      artfs delete vega/cars:v0 vega/cars:v1
      artfs delete vega/cars:old --delete-aliases --yes
      artfs delete --collection vega/scratch
    """
    if collection and empty_project:
        raise click.UsageError("say --collection or --empty-project, not both")
    # All are looked up before the first is deleted: a typing mistake deletes nothing.
    found = [_find(app, name, collection=collection, empty_project=empty_project) for name in names]
    doomed = list({item.id: item for item in found}.values())  # one may be named twice, as v3 and as latest
    for item in doomed:
        if isinstance(item, Member) and not delete_aliases:
            _refuse_aliases(app, item)
    allow_protected = allow_protected or app.settings.allow_protected
    if len(doomed) > 1 and not allow_protected:  # one alone is refused by the catalog
        _refuse_protected(app, doomed)
    if not agreed(f"Delete {', '.join(map(_describe, doomed))}?", yes=yes):
        app.note("nothing was deleted")
        ctx.exit(NO)
    for item in doomed:
        _delete(app, item, delete_aliases=delete_aliases, allow_protected=allow_protected)
        if not app.json:
            say(f"deleted {escape(_name(item))}")
    if app.json:
        emit_json([{"name": _name(item)} for item in doomed])


def _find(app: App, text: str, *, collection: bool, empty_project: bool) -> Doomed:
    if empty_project:
        entity, name = parse_project(text, app.settings)
        project = app.session.catalog.try_project(entity, name)
        if project is None:
            raise NotFoundError(f"no project {entity}/{name}; `artfs ls` lists them")
        return project
    wanted = parse_whole(text, app.settings)
    if collection:
        if wanted.alias is not None:
            raise InvalidNameError(
                f"bad collection name {text!r}: --collection deletes all versions, so say none"
            )
        return collection_of(app.session, wanted)
    if wanted.alias is None:
        raise InvalidNameError(
            f"say which version of {text} (for example {text}:v0), or --collection for all of them"
        )
    return resolve(app.session, wanted)


def _refuse_aliases(app: App, member: Member) -> None:
    held = (
        [m for m in app.session.catalog.memberships(member.version.id) if m.aliases]
        if not member.is_link
        else []
    )
    if held:
        names = ", ".join(f"{m.collection}:{alias}" for m in held for alias in m.aliases)
        raise AliasInUseError(
            f"{member.qualified_name} has aliases ({names}); say --delete-aliases to delete it with them"
        )


def _refuse_protected(app: App, doomed: list[Doomed]) -> None:
    catalog = app.session.catalog
    protected: dict[tuple[str, str], set[str]] = {}
    for item in doomed:
        if isinstance(item, Member):
            members = [item] if item.is_link else catalog.memberships(item.version.id)
        else:
            members = catalog.members(item.id) if isinstance(item, Collection) else []
        for member in members:
            place = (member.entity, member.project)
            if member.aliases and place not in protected:
                protected[place] = set(catalog.protected_aliases(*place))
            held = [alias for alias in member.aliases if alias in protected[place]]
            if held:
                raise AliasProtectedError(
                    f"{member.collection}:{held[0]} is protected in {'/'.join(place)}; nothing was deleted: say "
                    f"--allow-protected (ARTFS_ALLOW_PROTECTED=1), or leave out {_name(item)}"
                )


def _name(item: Doomed) -> str:
    if isinstance(item, Member):
        return item.qualified_name
    return (
        f"{item.entity}/{item.project}/{item.name}"
        if isinstance(item, Collection)
        else f"{item.entity}/{item.name}"
    )


def _describe(item: Doomed) -> str:
    if isinstance(item, Member):
        size = f"{plural(item.version.file_count, 'file')}, {human_size(item.version.size)}"
        return f"the link {item.qualified_name}" if item.is_link else f"{item.qualified_name} ({size})"
    return (
        f"{_name(item)} and all its versions"
        if isinstance(item, Collection)
        else f"the project {_name(item)}"
    )


def _delete(app: App, item: Doomed, *, delete_aliases: bool, allow_protected: bool) -> None:
    catalog = app.session.catalog
    if isinstance(item, Member) and item.is_link:
        # Writers may, while only administrators delete.
        catalog.unlink(item.id, allow_protected=allow_protected)
    elif isinstance(item, Member):
        catalog.delete_version(item.id, delete_aliases=delete_aliases, allow_protected=allow_protected)
    elif isinstance(item, Collection):
        catalog.delete_collection(item.id, allow_protected=allow_protected)
    else:
        catalog.delete_project(item.entity, item.name)
