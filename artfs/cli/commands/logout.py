"""`artfs logout`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, pass_app
from artfs.cli.output import escape, say
from artfs.client.credentials import Credentials, set_server
from artfs.errors import UsageError
from artfs.settings import DEFAULT_ENTITY, load_settings


@artfs_command("logout")
@click.argument("url", required=False)
@pass_app
def command(app: App, url: str | None) -> None:
    """Use this machine's own catalog again.

    Forgets the token that `artfs login` kept for the server (URL, or the one in use), and the server when it is in use.
    The token itself goes on to be valid: `artfs token revoke` ends it.

    \b
    Examples:
      artfs logout
    """
    using = app.settings.server
    server = load_settings(None, **{**app.overrides, "server": url}).server if url is not None else using
    if not server:
        raise UsageError("no server is in use")
    was_kept = Credentials().forget(server)
    if server == using:
        set_server("")
    say(f"logged out of {escape(server)}" if was_kept or server == using else f"no token of {escape(server)} was kept")
    if app.settings.entity != DEFAULT_ENTITY and server == using:
        app.note(f"names without an entity go on to be of {app.settings.entity}")
    left = load_settings(None, **app.overrides).server
    if left:
        app.note(f"{left} is still in use: ARTFS_SERVER names it" if left == server else f"{left} is in use")
