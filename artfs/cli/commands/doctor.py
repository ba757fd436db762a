"""`artfs doctor`."""

from __future__ import annotations

import click

from artfs.cli.checks import Check, all_checks
from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.exits import NO
from artfs.cli.output import emit_json, escape, say
from artfs.errors import ArtfsError

COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}


@artfs_command("doctor")
@json_option
@click.pass_context
@pass_app
def command(app: App, ctx: click.Context) -> None:
    """Check this machine, and say what to type to mend it.

    Looks at the kernel, FUSE, Python, the state folder, the catalog and the mounts. Exits with 1 when
    something is broken; a warning hinders something but breaks nothing.

    \b
    Examples:
      artfs doctor
      artfs doctor --json
    """
    try:
        checks = list(all_checks(app.settings))
    except ArtfsError as error:
        checks = list(all_checks(None, str(error)))
    if app.json:
        emit_json([{"check": c.name, "status": c.status, "detail": c.detail, "fix": c.fix} for c in checks])
    else:
        for check in checks:
            _show(app, check)
    if any(check.status == "bad" for check in checks):
        ctx.exit(NO)


def _show(app: App, check: Check) -> None:
    if check.status == "ok" and app.quiet:
        return
    mark = click.style(f"{check.status:<4}", fg=COLOURS[check.status])
    say(f"{mark}  {check.name:<12}  {escape(check.detail)}")
    if check.fix:
        say(f"{'':20}to mend it: {escape(check.fix)}")
