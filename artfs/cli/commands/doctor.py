"""`artfs doctor`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import click

from artfs.cli.checks import all_checks
from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.exits import NO
from artfs.cli.finding import Check
from artfs.cli.output import emit_json, escape, say
from artfs.errors import ArtfsError

COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}


@artfs_command("doctor")
@click.option("--fix", is_flag=True, help="Mend what can be mended without a person.")
@json_option
@click.pass_context
@pass_app
def command(app: App, ctx: click.Context, fix: bool) -> None:
    """Check this machine, say what is wrong, and mend it.

    Looks at the kernel, FUSE, Python, the state folder and who may read it, what killed processes left, drafts,
    the catalog, the store or the server and the cache, and the mounts. Each finding comes with what to type. Exits
    with 1 when something is broken; a warning hinders something but breaks nothing.

    With --fix it does what needs no person: takes stale mounts away, ends daemons that do not answer, removes what
    killed processes left, takes interrupted commits back, closes files that others could read, frees space
    (`artfs gc`), makes a damaged index of the cache anew, and, as root, opens /dev/fuse to all. It installs nothing
    and loses nothing.

    \b
    Examples:
      artfs doctor
      artfs doctor --json
      artfs doctor --fix
    """
    shown = []
    is_broken = False
    for check in _all(app):
        done = _mend(check) if fix and check.status != "ok" else None
        is_broken = is_broken or (check.status == "bad" and (done is None or not done[0]))
        shown.append(
            {
                "check": check.name, "status": check.status, "detail": check.detail, "fix": check.fix,
                "mended": done[0] if done is not None else None, "done": done[1] if done is not None else "",
            }
        )  # fmt: skip
        if not app.json:
            _show(app, check, done)
    if app.json:
        emit_json(shown)
    if is_broken:
        ctx.exit(NO)


def _all(app: App) -> Iterator[Check]:
    try:
        settings = app.settings
    except ArtfsError as error:
        yield from all_checks(None, str(error))
        return
    yield from all_checks(settings)


def _mend(check: Check) -> tuple[bool, str]:
    """Whether it is mended, and what was done, or why not. Later checks see what it did."""
    if check.mend is None:
        return False, "this needs a person"
    try:
        return True, check.mend()
    except (ArtfsError, OSError, subprocess.SubprocessError) as error:
        return False, str(error)


def _show(app: App, check: Check, done: tuple[bool, str] | None) -> None:
    if check.status == "ok" and app.quiet:
        return
    mark = click.style(f"{check.status:<4}", fg=COLOURS[check.status])
    say(f"{mark}  {check.name:<12}  {escape(check.detail)}")
    if check.fix and (done is None or not done[0]):
        say(f"{'':20}to mend it: {escape(check.fix)}")
    if done is not None:
        say(f"{'':20}{'mended' if done[0] else 'not mended'}: {escape(done[1])}")
