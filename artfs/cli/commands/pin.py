"""`artfs pin`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, human_size, plural, say
from artfs.cli.targets import need_remote, parse_whole, resolve
from artfs.transfer.pins import Pinning


@artfs_command("pin")
@click.argument("name", shell_complete=complete_name)
@json_option
@pass_app
def command(app: App, /, name: str) -> None:
    """Fetch a version and keep it in the cache.

    All of it is here afterwards, and stays, so that it can be read without a network. NAME with an alias follows the alias:
    while a mount is running it fetches what the alias names next. What is pinned does not count towards cache_size.

    \b
    Examples:
      artfs pin demo/minilm:prod
      artfs pin vega/cars:v3
    """
    remote = need_remote(app.session)
    wanted = parse_whole(name, app.settings)
    member = resolve(app.session, wanted)
    label = f"{wanted.qualified_collection}:{wanted.alias or 'latest'}"
    pinning = Pinning(remote.server, remote.fetcher, app.session.pages, app.settings.network_timeout_s)
    with app.progress() as progress:
        files, nbytes = pinning.pin(label, member.version.digest, progress)
    if app.json:
        emit_json({"name": label, "version": f"v{member.index}", "files": files, "size": nbytes})
    else:
        say(f"pinned {escape(label)} (v{member.index}): {plural(files, 'file')}, {human_size(nbytes)}")
