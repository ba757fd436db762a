"""`artfs token`."""

from __future__ import annotations

from typing import Any

import click

from artfs.cli.common import HELP_OPTIONS, App, Group, artfs_command, json_option, pass_app
from artfs.cli.output import emit_json, escape, local_time, say, table
from artfs.cli.servers import Row, database_option, open_books, parse_expiry, parse_grant, parse_place
from artfs.model.access import ROLES, Role


@click.group("token", cls=Group, context_settings=HELP_OPTIONS)
def command() -> None:
    """Make, list, change and revoke tokens of a server.

    Of the server that `artfs login` named, which wants an administrator's token; or of the database that --database names;
    or of the server whose state is in the state folder. A token has roles: readers read, writers make versions and move
    aliases, admins delete and set policies as well; each in a project, or in all of an entity (ENTITY/*).

    \b
    Examples:
      artfs token create ann --grant vision=writer --expires 365d
      artfs token list
    """


@artfs_command("create", command)
@click.argument("name")
@click.option("--admin", is_flag=True, help="It may do everything on the server.")
@click.option("--grant", "grants", multiple=True, metavar="[ENTITY/]PROJECT=ROLE", help="Give it a role; repeatable.")
@click.option("--expires", metavar="WHEN", default="never", show_default=True, help="A time from now (90d), a date, or never.")
@database_option
@json_option
@pass_app
def create(app: App, name: str, admin: bool, grants: tuple[str, ...], expires: str, database: str | None) -> None:
    """Make a token, and print its secret.

    The secret is shown this once: the server keeps only a digest of it.

    \b
    Examples:
      artfs token create ann --admin
      artfs token create ci --grant vision=writer --grant models/*=reader --expires 90d
    """
    given = [parse_grant(grant, app.settings) for grant in grants]
    if not admin and not given:
        app.note("without --grant or --admin it can do nothing yet; `artfs token grant` gives it a role")
    with open_books(app, database, make=True) as books:
        token, secret = books.create(name, admin, given, parse_expiry(expires))
    if app.json:
        emit_json({**token, "secret": secret})
    else:
        app.note(f"the token of {name}, shown this once:")
        say(secret)


@artfs_command("list", command)
@database_option
@json_option
@pass_app
def list_(app: App, database: str | None) -> None:
    """List the tokens that were not revoked.

    \b
    Examples:
      artfs token list
    """
    with open_books(app, database) as books:
        tokens = books.tokens()
    if app.json:
        emit_json(tokens)
        return
    if not tokens:
        say("there are no tokens; `artfs token create` makes one")
    table(
        ["NAME", "MAY", "CREATED", "EXPIRES", "USED"],
        [
            [
                token["name"], _may(token), local_time(token["created_at"]), _time(token["expires_at"], "never"),
                _time(token["used_at"], ""),
            ]
            for token in tokens
        ],
    )


@artfs_command("revoke", command)
@click.argument("name")
@database_option
@json_option
@pass_app
def revoke(app: App, name: str, database: str | None) -> None:
    """End a token for good; it opens nothing from the next second on.

    \b
    Examples:
      artfs token revoke ann
    """
    with open_books(app, database) as books:
        books.revoke(name)
    if app.json:
        emit_json({"name": name})
    else:
        say(f"{escape(name)} was revoked")


@artfs_command("grant", command)
@click.argument("name")
@click.argument("place", metavar="[ENTITY/]PROJECT")
@click.argument("role", type=click.Choice([*ROLES, "none"]))
@database_option
@json_option
@pass_app
def grant(app: App, name: str, place: str, role: str, database: str | None) -> None:
    """Give a token a role in a project, in the place of the one it has there.

    ENTITY/* means all projects of the entity, those to come too. The role none takes back what was given for exactly
    this place.

    \b
    Examples:
      artfs token grant ann vision writer
      artfs token grant ann models/* reader
      artfs token grant ann vision none
    """
    wanted: Role | None = next((known for known in ROLES if known == role), None)
    entity, project = parse_place(place, app.settings)
    with open_books(app, database) as books:
        token = books.grant(name, entity, project, wanted)
    if app.json:
        emit_json(token)
    else:
        say(f"{escape(name)}: {escape(_may(token))}")


def _may(token: Row) -> str:
    if token["is_admin"]:
        return "everything"
    return ", ".join(f"{grant['place']}: {grant['role']}" for grant in token["grants"]) or "nothing"


def _time(when: Any, otherwise: str) -> str:
    return otherwise if when is None else local_time(when)
