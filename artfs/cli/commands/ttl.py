"""`artfs ttl`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, local_time, say, table
from artfs.cli.targets import collection_of, parse_project, parse_whole, resolve
from artfs.model.records import Member
from artfs.model.ttl import parse_ttl, ttl_text


@artfs_command("ttl")
@click.argument("words", nargs=-1, metavar="[NAME] [POLICY]", shell_complete=complete_name)
@click.option("--default", "default_of", metavar="PROJECT", help="For versions of PROJECT that have none of their own.")
@click.option("--entity-default", is_flag=True, help="For projects of --entity that have none.")
@json_option
@pass_app
def command(app: App, words: tuple[str, ...], default_of: str | None, entity_default: bool) -> None:
    """Show and set how long versions live.

    POLICY is a time since the commit (30d; units are s, m, h, d, w), never, or inherit: what the project says, or
    else the entity; without either, versions live for ever. Without POLICY the policies are shown: of a version, of
    all versions of PROJECT/COLLECTION, or a default. A version whose time is up is deleted by the daemon or by
    `artfs gc`, with its aliases and links; one that has a protected alias or is linked to a registry stays.

    \b
    Examples:
      artfs ttl vega/cars
      artfs ttl vega/cars:v3 30d
      artfs ttl vega/cars:v3 inherit
      artfs ttl --default vega 90d
      artfs ttl --entity-default never
    """
    if default_of is not None or entity_default:
        _default(app, words, default_of, entity_default)
        return
    if not 1 <= len(words) <= 2:
        raise click.UsageError("say NAME, or NAME and POLICY")
    name = parse_whole(words[0], app.settings)
    catalog = app.session.catalog
    if len(words) == 2:
        policy = parse_ttl(words[1])
        member = resolve(app.session, name)
        catalog.update_version(member.version.id, ttl=policy)
        members = [catalog.member(member.id)]
    elif name.alias is None:
        members = catalog.members(collection_of(app.session, name).id)
    else:
        members = [resolve(app.session, name)]
    if app.json:
        emit_json([_shape(member) for member in members])
    else:
        table(
            ["VERSION", "TTL", "EXPIRES"],
            [[member.name, _policy_text(member), _expires_text(member)] for member in members],
        )


def _default(app: App, words: tuple[str, ...], project: str | None, of_entity: bool) -> None:
    if (project is not None and of_entity) or len(words) > 1:
        raise click.UsageError("say --default PROJECT or --entity-default, and at most a POLICY")
    catalog = app.session.catalog
    entity, name = (app.settings.entity, None) if project is None else parse_project(project, app.settings)
    if words:
        catalog.set_default_ttl(entity, name, parse_ttl(words[0]))
    policy = catalog.default_ttl(entity, name)
    place = entity if name is None else f"{entity}/{name}"
    if app.json:
        emit_json({"name": place, "ttl": ttl_text(policy)})
    else:
        say(f"{escape(place)}: {ttl_text(policy)}")


def _policy_text(member: Member) -> str:
    own = ttl_text(member.version.ttl)
    return f"inherit ({ttl_text(member.version.lifetime)})" if own == "inherit" else own


def _expires_text(member: Member) -> str:
    when = member.version.expires_at
    return "" if when is None else local_time(when)


def _shape(member: Member) -> dict[str, object]:
    return {
        "name": member.qualified_name,
        "version": f"v{member.index}",
        "ttl": ttl_text(member.version.ttl),
        "lifetime": ttl_text(member.version.lifetime),
        "expires_at": member.version.expires_at,
    }
