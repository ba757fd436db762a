"""`artfs gc`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click
import msgspec

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.output import emit_json, escape, human_size, plural, say
from artfs.errors import InvalidArgumentError, MissingExtraError, UnavailableError
from artfs.model.ttl import parse_ttl
from artfs.store.staging import DraftArea
from artfs.typed import read_json

SHORTEST_GRACE_S = 3600.0
"""Servers want at least so much (artfs/server/gc.py)."""


@artfs_command("gc")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be freed now: nothing expires.")
@click.option(
    "--grace", metavar="TIME", default="24h", show_default=True,
    help="On a server: leave alone what was sent, used or deleted less than so long ago; an hour at least.",
)
@click.option(
    "--database", metavar="URL", envvar="ARTFS_DATABASE",
    help="Of the server with this database, as `artfs serve` was told it. [env: ARTFS_DATABASE]",
)
@click.option(
    "--blobs", metavar="URL", envvar="ARTFS_BLOBS",
    help="Of the server with this folder or bucket, as `artfs serve` was told it. [env: ARTFS_BLOBS]",
)
@json_option
@pass_app
def command(app: App, dry_run: bool, grace: str, database: str | None, blobs: str | None) -> None:
    """Free what no version needs.

    Deletes versions whose time is up (`artfs ttl`), then removes blobs that neither a version nor a draft refers
    to: those of deleted versions and of interrupted work. Safe while a daemon runs and while others commit: it
    waits for work under way, and files that are open stay readable.

    Of a server, with --database and --blobs (what is left out is where `artfs serve` has it), or of the one that
    `artfs login` named, which does it by itself and wants an administrator's token. Nobody waits for it there.

    \b
    Examples:
      artfs gc --dry-run
      artfs gc
      artfs gc --database postgresql://artfs@db/artfs --blobs s3://team-artifacts/artfs
    """
    grace_s = _seconds(grace)
    if grace_s < SHORTEST_GRACE_S and (database is not None or blobs is not None or app.settings.server):
        raise InvalidArgumentError(
            f"--grace {grace} is too short: say an hour at least, so that no commit that is being made loses anything"
        )
    if database is not None or blobs is not None:
        _show_collected(app, _collect_beside(app, database, blobs, grace_s, dry_run), dry_run)
    elif app.settings.server:
        _show_collected(app, _collect_there(app, grace_s, dry_run), dry_run)
    else:
        _collect_own(app, dry_run)


def _seconds(text: str) -> float:
    policy = parse_ttl(text)
    if not isinstance(policy, timedelta):
        raise InvalidArgumentError(f"bad time {text!r}: write a time such as 24h")
    return policy.total_seconds()


# a server's -------------------------------------------------------------------------------------------------------------
def _collect_beside(app: App, database: str | None, blobs: str | None, grace_s: float, dry_run: bool) -> Any:
    try:
        from artfs.server.collecting import collect_beside
    except ImportError as error:
        raise MissingExtraError(
            f"a server needs packages that are not installed ({error.name}): pip install 'artfs[server]'"
        ) from error
    home = app.settings.home / "server"
    return collect_beside(
        database or home / "catalog.db", blobs or home / "blobs", grace_s=grace_s, dry_run=dry_run, on_step=app.note
    )


def _collect_there(app: App, grace_s: float, dry_run: bool) -> Any:
    from artfs.model.unreadable import UNREADABLE
    from artfs.wire.blobroutes import COLLECT_GARBAGE
    from artfs.wire.errors import error_from
    from artfs.wire.messages import CollectLine, CollectRequest
    from artfs.wire.routes import JSON

    content = msgspec.json.encode(CollectRequest(grace_s, dry_run))
    told = ""
    with app.connected() as http, http.stream(
        COLLECT_GARBAGE, content=content, headers={"Content-Type": JSON}, silence_s=app.settings.network_timeout_s
    ) as response:
        for text in response.iter_lines():
            try:
                line = read_json(text, CollectLine)
            except UNREADABLE as error:
                raise UnavailableError(f"{app.settings.server} says what cannot be understood: {error}") from None
            if line.error is not None:
                raise error_from(line.error)
            if line.done is not None:
                return line.done
            if line.step != told:
                told = line.step
                app.note(told)
    raise UnavailableError(f"{app.settings.server} stopped telling how far it is; it goes on nevertheless")


def _show_collected(app: App, done: Any, dry_run: bool) -> None:
    if app.json:
        emit_json({
            "dry_run": dry_run, "expired": done.expired, "removed": done.removed, "removed_size": done.removed_nbytes,
            "kept": done.kept, "kept_size": done.kept_nbytes, "objects": done.objects, "orphans": done.orphans,
            "orphans_size": done.orphans_nbytes, "moved": done.moved, "uploads": done.uploads, "unread": done.unread,
        })  # fmt: skip
        return
    for name in done.expired:
        say(f"{escape(name)} has expired")
    for name in done.unread:
        say(f"{escape(name)}: nothing was removed, as a tree that it needs cannot be read (the log says which)")
    _show(dry_run, done.removed, done.removed_nbytes, done.kept, done.kept_nbytes)
    if done.orphans:
        app.note(f"{plural(done.orphans, 'object')} of interrupted work, {human_size(done.orphans_nbytes)}")


# this machine's ---------------------------------------------------------------------------------------------------------
def _collect_own(app: App, dry_run: bool) -> None:
    from artfs.store.folder import FolderStore
    from artfs.transfer.expiry import expire_all
    from artfs.transfer.gc import collect_garbage

    expired = [] if dry_run else expire_all(app.session.catalog)
    store = app.session.store
    assert isinstance(store, FolderStore)  # what open_session makes: the one that can keep writers away
    drafts = DraftArea(app.settings.drafts_path)
    # Asked for only when all writers have ended, so that no draft is missed.
    keep = (digest for draft in drafts.drafts() for digest in draft.object_digests())
    with app.progress() as progress:
        swept = collect_garbage(
            app.session.catalog,
            store,
            keep=keep,
            dry_run=dry_run,
            on_progress=progress,
            on_wait=app.note,
        )
    if app.json:
        emit_json(
            {
                "dry_run": swept.dry_run,
                "expired": [member.qualified_name for member in expired],
                "removed": swept.removed,
                "removed_size": swept.removed_nbytes,
                "kept": swept.kept,
                "kept_size": swept.kept_nbytes,
            }
        )
        return
    for member in expired:
        say(f"{escape(member.qualified_name)} has expired")
    _show(dry_run, swept.removed, swept.removed_nbytes, swept.kept, swept.kept_nbytes)


def _show(dry_run: bool, removed: int, removed_nbytes: int, kept: int, kept_nbytes: int) -> None:
    verb = "would free" if dry_run else "freed"
    gone = f"{plural(removed, 'blob')}, {human_size(removed_nbytes)}"
    say(f"{verb} {gone}; {plural(kept, 'blob')}, {human_size(kept_nbytes)} are needed")
