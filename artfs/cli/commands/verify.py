"""`artfs verify`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.exits import CORRUPT, NO, OK
from artfs.cli.output import emit_json, escape, human_size, plural, say
from artfs.cli.targets import parse_whole, resolve
from artfs.transfer.verify import Problem, verify_directory, verify_store, verify_version


@artfs_command("verify")
@click.argument("name", required=False, shell_complete=complete_name)
@click.argument("folder", required=False, type=click.Path(file_okay=False))
@click.option("--store", is_flag=True, help="Every blob of the store instead, whichever versions need it.")
@json_option
@click.pass_context
@pass_app
def command(app: App, ctx: click.Context, name: str | None, folder: str | None, store: bool) -> None:
    """Check every byte of a version, the store or a folder.

    NAME alone: everything that the version needs is read and compared with its digest. NAME FOLDER: the
    folder is compared with the version, byte by byte. Exits with 8 when bytes in the store are damaged or
    missing, with 1 when the folder differs.

    \b
    Examples:
      artfs verify vega/cars:v0
      artfs verify vega/cars:latest ./cars
      artfs verify --store
    """
    if (name is None) != store:
        raise click.UsageError(
            "say a version, or --store" if name is None else "say a version or --store, not both"
        )
    workers = app.settings.worker_count
    if name is None:
        with app.progress() as progress:
            problems = verify_store(app.session.store, on_progress=progress, workers=workers)
        _report(
            app,
            ctx,
            {"name": None, "folder": None},
            "every blob of the store is what its name says",
            problems,
            CORRUPT,
        )
        return
    member = resolve(app.session, parse_whole(name, app.settings))
    version = member.version
    shape = {"name": member.qualified_name, "digest": version.digest, "folder": folder}
    content = f"{plural(version.file_count, 'file')}, {human_size(version.size)}"
    with app.progress() as progress:
        if folder is not None:
            found = verify_directory(
                app.session.store, version.digest, folder, on_progress=progress, workers=workers
            )
            _report(app, ctx, shape, f"{folder} is {member.qualified_name}: {content}", found, NO)
        else:
            found = verify_version(app.session.store, version.digest, on_progress=progress, workers=workers)
            _report(app, ctx, shape, f"{member.qualified_name} is sound: {content}", found, CORRUPT)


def _report(
    app: App, ctx: click.Context, shape: dict[str, str | None], sound: str, problems: list[Problem], bad: int
) -> None:
    if app.json:
        listed = [{"kind": p.kind, "path": p.path, "digest": p.digest, "what": p.what} for p in problems]
        emit_json({**shape, "ok": not problems, "problems": listed})
    elif not problems:
        say(escape(sound))
    else:
        for problem in problems:
            digest = f" [{problem.digest}]" if problem.digest and bad == CORRUPT and problem.path else ""
            say(f"{problem.kind:<8} {escape(str(problem))}{digest}")
        say(f"{plural(len(problems), 'problem')} found")
    ctx.exit(bad if problems else OK)
