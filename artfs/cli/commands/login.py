"""`artfs login`."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import click

from artfs.cli.common import App, artfs_command, pass_app
from artfs.cli.output import escape, on_terminal, plural, say
from artfs.client.credentials import Credentials, set_server
from artfs.errors import ArtfsError, UnauthorizedError, UsageError
from artfs.model.access import is_secret
from artfs.settings import Settings, load_settings
from artfs.wire.bodies import Me

PATIENCE_S = 10.0
"""How long a server may not answer: a person waits, who may have mistyped its name."""

_LOCAL = ("localhost", "127.0.0.1", "::1")


@artfs_command("login")
@click.argument("url")
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input instead of asking for it.")
@pass_app
def command(app: App, url: str, token_stdin: bool) -> None:
    """Use the catalog of a server.

    Asks for the token that an administrator of the server made (`artfs token create`), tries it, and keeps it: in the
    system's keyring where there is one (with the package keyring), otherwise in a file that only you can read. From then
    on all commands, the mount and the Python API use that server, until `artfs logout`. With --entity, names without an
    entity are of that one from then on.

    \b
    Examples:
      artfs login https://artfs.example.org
      artfs login --entity team https://artfs.example.org
      artfs login --token-stdin https://artfs.example.org < token.txt
    """
    before = app.settings
    settings = load_settings(None, **{**app.overrides, "server": url})
    server = settings.server
    if urlsplit(server).scheme == "http" and urlsplit(server).hostname not in _LOCAL:
        app.note(f"{server} is not encrypted: whoever can listen on the way there learns the token")
    secret, me = _try(settings, token_stdin)
    where = Credentials().keep(server, secret)
    config = set_server(server, entity=app.overrides.get("entity"))
    name = "anybody, as it wants no token" if me.name is None else me.name
    say(f"logged in to {escape(server)} as {escape(name)}: {escape(_may(me))}")
    if secret:
        app.note(f"the token is kept in {where}")
    app.note(f"{config} names the server" + (f" and {settings.entity}" if "entity" in app.overrides else ""))
    entities = sorted({grant.entity for grant in me.grants})
    if entities and settings.entity not in entities:
        app.note(
            f"names without an entity are of {settings.entity}, where this token may do nothing; "
            f"`artfs login --entity {entities[0]} {server}` makes that {entities[0]}"
        )
    if before.server not in ("", server) and load_settings(None, **app.overrides).server != server:
        app.note(f"ARTFS_SERVER names {before.server}, which counts for as long as it is set")
    _tell_of_own(app, before)


def _try(settings: Settings, token_stdin: bool) -> tuple[str, Me]:
    """The token, "" when none is wanted, and whom the server takes us for."""
    if not token_stdin:
        try:
            return "", ask_who(settings, "")
        except UnauthorizedError:
            pass
        if not on_terminal():
            raise UsageError("no terminal to ask for the token: use --token-stdin")
    given = sys.stdin.readline() if token_stdin else click.prompt("Token", hide_input=True, err=True)
    secret = given.strip()
    if not is_secret(secret):
        raise UsageError("this is no token of artfs: one begins with artfs_ and has 49 characters")
    return secret, ask_who(settings, secret)


def ask_who(settings: Settings, secret: str) -> Me:
    """Raises UnauthorizedError, UnavailableError."""
    from artfs.client.http import Http
    from artfs.wire.routes import SERVER_ROUTES, by_name

    http = Http.of(settings.with_changes(network_timeout_s=min(settings.network_timeout_s, PATIENCE_S)), secret)
    try:
        me: Me = http.call(by_name(SERVER_ROUTES)["me"])
        return me
    finally:
        http.close()


def _may(me: Me) -> str:
    if me.is_admin:
        return "everything"
    return ", ".join(f"{grant.role} of {grant.entity}/{grant.project}" for grant in me.grants) or "nothing yet"


def _tell_of_own(app: App, before: Settings) -> None:
    """What is in the embedded catalog does not go along."""
    if before.server or not before.catalog_path.exists():
        return
    from artfs.catalog import open_catalog

    try:
        with open_catalog(before.catalog_path) as catalog:
            count = len(catalog.versions())
    except ArtfsError as error:
        app.note(f"this machine's own catalog cannot be read: {error}")
        return
    if count:
        app.note(
            f"{plural(count, 'version')} of this machine's own catalog ({before.home}) stayed there; `artfs push` moves versions "
            "to the server, `artfs logout` goes back to it"
        )
