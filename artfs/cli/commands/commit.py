"""`artfs commit`."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from artfs.cli.common import App, artfs_command, json_option, pass_app, protected_option
from artfs.cli.completion import complete_draft
from artfs.cli.mounting import barrier, check_not_served, try_serving
from artfs.cli.output import emit_json, escape, human_size, plural, say
from artfs.cli.targets import find_draft
from artfs.cli.version_options import read_version_options, version_options
from artfs.client.control import DaemonClient, not_understood
from artfs.errors import UnavailableError
from artfs.model.ttl import parse_ttl, ttl_text
from artfs.store.staging import StagedDraft
from artfs.typed import convert
from artfs.wire.control import CommitOptions, CommitReply


@artfs_command("commit")
@click.argument("draft", shell_complete=complete_draft)
@version_options
@click.option("--ttl", metavar="POLICY", help="How long it lives, such as 30d (`artfs ttl`).")
@protected_option
@click.option(
    "--when-online",
    is_flag=True,
    help="If the server cannot be reached: have the mount's daemon commit it when it can.",
)
@click.option("--force", is_flag=True, help="Commit even when latest moved since the draft began.")
@json_option
@pass_app
def command(
    app: App,
    /,
    draft: str,
    ttl: str | None,
    allow_protected: bool,
    when_online: bool,
    force: bool,
    **version: Any,
) -> None:
    """Turn a draft into the next version.

    DRAFT is PROJECT/COLLECTION, a draft's own name (PROJECT/COLLECTION:latest), or its folder in the mount.
    What is given here wins over what the draft's extended attributes say. A draft with the content of latest
    makes no new version. The commit is refused while files of the draft are open for writing, and when latest
    moved since the draft began; it happens as a whole or not at all.

    \b
    Examples:
      artfs commit vega/cars
      artfs commit vega/cars --alias best -m rows=406 -m @card.json
      artfs commit ~/artfs/drafts/vega/cars --ttl 30d
      artfs commit vega/cars --when-online
    """
    staged = find_draft(app.settings, draft)
    given = read_version_options(**version, collection=staged.info.collection)
    options = CommitOptions(
        type=given.type,
        description=given.description,
        metadata=given.metadata,
        aliases=given.aliases,
        tags=given.tags,
        ttl="inherit" if ttl is None else ttl_text(parse_ttl(ttl)),
        allow_protected=allow_protected or app.settings.allow_protected,
        force=force,
    )
    reply = _commit(app, staged, options, when_online)
    if isinstance(reply, str):
        if app.json:
            emit_json({"pending": True, "why": reply})
        else:
            say(f"{escape(staged.label)} waits for the server, and is committed when it is back ({escape(reply)})")
        return
    if app.json:
        emit_json(
            {**committed_shape(reply), "warnings": list(reply.warnings), "moved_from": reply.moved_from}
        )
        return
    for warning in reply.warnings:
        app.note(f"note: {warning}")
    if reply.moved_from is not None:
        began = f" from {reply.moved_from}" if reply.moved_from else ""
        app.note(f"note: latest had moved since the draft began{began}")
    say(committed_line(reply))


def _commit(app: App, draft: StagedDraft, options: CommitOptions, when_online: bool) -> CommitReply | str:
    """A text: why it waits for the server."""
    serving = try_serving(app.settings, draft.info.entity)
    with app.progress() as progress:
        if serving is None:
            if when_online:
                raise UnavailableError("--when-online needs a running mount, whose daemon waits; `artfs mount DIR` starts one")
            # Here and not above: the daemon's answer needs no catalog.
            from artfs.transfer.seal import commit_draft

            return commit_draft(
                app.session.catalog, app.session.store, draft, options, on_progress=progress,
                check=lambda: check_not_served(app.settings, draft),
            )
        # A file's RELEASE may come after its close() but comes before any later request, so that the daemon
        # counts no file as open that its writer has closed (design.md, "Commit").
        barrier(serving, app.settings.deadline_s)
        arguments = {
            "project": draft.info.project,
            "draft": draft.info.name,
            "options": msgspec.to_builtins(options),
            "when_online": when_online,
        }
        result = DaemonClient(serving.socket).call("commit", arguments, progress)
        if "pending" in result:
            return str(result["pending"])
        try:
            return convert(result, CommitReply)
        except msgspec.ValidationError as error:
            raise not_understood(serving.socket, error) from error


def committed_line(reply: CommitReply) -> str:
    """What a commit says to a person."""
    name = escape(f"{reply.entity}/{reply.project}/{reply.collection}:{reply.version}")
    if not reply.created:
        return f"unchanged: {name} has this content already"
    aliases = f" as {', '.join(map(escape, reply.aliases))}" if reply.aliases else ""
    return f"committed {name}{aliases}: {plural(reply.file_count, 'file')}, {human_size(reply.size)}"


def committed_shape(reply: CommitReply) -> dict[str, Any]:
    return {
        "name": f"{reply.entity}/{reply.project}/{reply.collection}:{reply.version}",
        "entity": reply.entity,
        "project": reply.project,
        "collection": reply.collection,
        "version": reply.version,
        "created": reply.created,
        "digest": reply.digest,
        "size": reply.size,
        "file_count": reply.file_count,
        "aliases": list(reply.aliases),
    }
