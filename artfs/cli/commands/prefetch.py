"""`artfs prefetch`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, human_size, plural, say
from artfs.cli.targets import entry_at, need_remote, parse_place, resolve
from artfs.model.manifest import Manifest
from artfs.transfer.prefetch import prefetch


@artfs_command("prefetch")
@click.argument("places", nargs=-1, required=True, metavar="PATH...", shell_complete=complete_name)
@json_option
@pass_app
def command(app: App, /, places: tuple[str, ...]) -> None:
    """Fetch what will be read into the cache.

    PATH is a path in a mount, or NAME[/PATH] as in `artfs get`: a version, a directory or a file of one. It may be
    forgotten again when room is needed; `artfs pin` keeps a version.

    \b
    Examples:
      artfs prefetch ~/artfs/vega/cars/latest/images
      artfs prefetch vega/cars:v3 demo/minilm:prod/model.safetensors
    """
    remote = need_remote(app.session)
    targets = [parse_place(place, app.settings) for place in places]
    done = []
    for target in targets:
        member = resolve(app.session, target.name)
        manifest = Manifest(app.session.pages, member.version.digest)
        if target.path:
            entry_at(manifest, target)
        with app.progress() as progress:
            files, nbytes = prefetch(
                manifest,
                remote.fetcher,
                path_prefix=target.path,
                timeout_s=app.settings.network_timeout_s,
                on_progress=progress,
            )
        shown = member.qualified_name + (f"/{target.path}" if target.path else "")
        done.append({"name": shown, "files": files, "size": nbytes})
        if not app.json:
            say(f"{escape(shown)} is here: {plural(files, 'file')}, {human_size(nbytes)}")
    if app.json:
        emit_json(done)
