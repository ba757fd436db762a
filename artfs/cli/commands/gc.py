"""`artfs gc`."""

from __future__ import annotations

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.output import emit_json, escape, human_size, plural, say
from artfs.store.staging import DraftArea


@artfs_command("gc")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be freed.")
@json_option
@pass_app
def command(app: App, dry_run: bool) -> None:
    """Free what no version needs.

    Deletes versions whose time is up (`artfs ttl`), then removes blobs that neither a version nor a draft refers
    to: those of deleted versions and of interrupted work. Safe while a daemon runs and while others commit: it
    waits for work under way, and files that are open stay readable.

    \b
    Examples:
      artfs gc --dry-run
      artfs gc
    """
    app.need_own_catalog("a server frees what nobody needs by itself, and `artfs cache clean` what is kept of it here")
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
    verb = "would free" if dry_run else "freed"
    removed = f"{plural(swept.removed, 'blob')}, {human_size(swept.removed_nbytes)}"
    say(f"{verb} {removed}; {plural(swept.kept, 'blob')}, {human_size(swept.kept_nbytes)} are needed")
