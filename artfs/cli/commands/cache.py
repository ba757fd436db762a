"""`artfs cache`: status, pins, clean, verify."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from artfs.cli.common import HELP_OPTIONS, App, Group, artfs_command, json_option, pass_app
from artfs.cli.exits import CORRUPT
from artfs.cli.output import emit_json, escape, fields, human_size, local_time, parse_size, plural, say, table
from artfs.store.cache import Cache
from artfs.store.cache.check import check_cache
from artfs.store.cache.index import Pin
from artfs.transfer.progress import Meter


@click.group("cache", cls=Group, context_settings=HELP_OPTIONS)
def command() -> None:
    """Look after the blobs of servers that this machine keeps.

    All processes of an account share one cache (the setting cache_path). It keeps within cache_size, leaves cache_floor free on
    its disk, and forgets what was not used for longest; never what is open, and never what is pinned.
    """


def _open(app: App) -> Cache:
    settings = app.settings
    return Cache(settings.cache_path, size=settings.cache_size, floor=settings.cache_floor)


@artfs_command("status", group=command)
@json_option
@pass_app
def status(app: App) -> None:
    """Show how much the cache holds, and how much it may.

    \b
    Examples:
      artfs cache status
    """
    with _open(app) as cache:
        found = cache.status()
    shape: dict[str, Any] = {
        "path": found.path,
        "size": found.nbytes,
        "blobs": found.count,
        "pinned_size": found.pinned_nbytes,
        "pinned_blobs": found.pinned_count,
        "limit": found.limit,
        "free": found.free,
        "floor": found.floor,
    }
    if app.json:
        emit_json(shape)
        return
    fields(
        [
            ("folder", found.path),
            ("holds", f"{plural(found.count, 'blob')}, {human_size(found.nbytes)}"),
            ("pinned", f"{plural(found.pinned_count, 'blob')}, {human_size(found.pinned_nbytes)} of these"),
            ("may hold", f"{human_size(found.limit)} besides what is pinned"),
            ("disk", f"{human_size(found.free)} free, of which {human_size(found.floor)} stay free"),
        ]
    )


@artfs_command("pins", group=command)
@json_option
@pass_app
def pins(app: App) -> None:
    """List what is pinned (`artfs pin`).

    \b
    Examples:
      artfs cache pins
    """
    with _open(app) as cache:
        found = cache.pins()
    if app.json:
        emit_json(
            [
                {"server": pin.server, "name": pin.name, "digest": pin.root, "pinned_at": _when(pin)}
                for pin in found
            ]
        )
        return
    table(
        ["SERVER", "NAME", "PINNED"],
        [[pin.server, pin.name, local_time(_when(pin))] for pin in found],
    )
    if not found:
        app.note("nothing is pinned; `artfs pin PROJECT/COLLECTION:ALIAS` pins a version")


def _when(pin: Pin) -> datetime:
    return datetime.fromtimestamp(pin.pinned_at, UTC)


@artfs_command("clean", group=command)
@click.option("--to", "keep", metavar="SIZE", default="0", show_default=True, help="Keep so much, such as 10G.")
@json_option
@pass_app
def clean(app: App, keep: str) -> None:
    """Free the cache's disk space.

    What was not used for longest goes first; what is pinned or open stays. Nothing is lost: servers have it all.

    \b
    Examples:
      artfs cache clean
      artfs cache clean --to 20G
    """
    wanted = parse_size(keep)
    with _open(app) as cache:
        before = cache.status()
        nbytes = before.nbytes - before.pinned_nbytes - wanted
        with app.progress() as progress, Meter(progress, "clean", 0, max(nbytes, 0)) as meter:
            freed = cache.evict(nbytes, lambda size: meter.advance(1, size)) if nbytes > 0 else 0
        after = cache.status()
    if app.json:
        emit_json({"freed": freed, "size": after.nbytes})
    else:
        say(f"freed {human_size(freed)}; the cache holds {human_size(after.nbytes)}")


@artfs_command("verify", group=command)
@json_option
@click.pass_context
@pass_app
def verify(app: App, ctx: click.Context) -> None:
    """Check every byte of the cache.

    What is damaged is removed, and fetched again when it is read the next time. Exits with 8 when something was. (Reading
    checks as well; this is for disks that are suspected.)

    \b
    Examples:
      artfs cache verify
    """
    with _open(app) as cache:
        total = cache.status()
        with app.progress() as progress, Meter(progress, "verify", total.count, total.nbytes) as meter:
            found = check_cache(
                cache, on_bytes=lambda nbytes: meter.advance(0, nbytes), on_blob=lambda: meter.advance(1)
            )
    if app.json:
        emit_json(
            {
                "checked": found.checked,
                "size": found.nbytes,
                "damaged": found.damaged,
                "unknown": found.unknown,
            }
        )
    else:
        for digest in found.damaged:
            say(f"damaged  {escape(digest)}")
        say(f"{plural(found.checked, 'blob')}, {human_size(found.nbytes)} checked; {plural(len(found.damaged), 'blob')} damaged")
    if found.damaged:
        ctx.exit(CORRUPT)
