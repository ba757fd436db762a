"""`artfs draft`: list, diff, from, abandon."""

from __future__ import annotations

from typing import Any

import click

from artfs.cli.changes import changes_shape, show_changes
from artfs.cli.common import (
    HELP_OPTIONS,
    App,
    Group,
    agreed,
    artfs_command,
    json_option,
    pass_app,
    yes_option,
)
from artfs.cli.completion import complete_draft, complete_name
from artfs.cli.exits import NO
from artfs.cli.mounting import check_not_served, try_serving
from artfs.cli.output import emit_json, escape, human_size, local_time, plural, say, table
from artfs.cli.targets import find_draft, parse_whole
from artfs.client.control import DaemonClient
from artfs.errors import InvalidNameError
from artfs.model.draft import DraftInfo
from artfs.model.names import ArtifactName, check_alias, parse_time
from artfs.store.staging import DraftArea, StagedDraft
from artfs.transfer.begin import begin_draft
from artfs.transfer.staged import draft_changes, draft_summary


@click.group("draft", cls=Group, context_settings=HELP_OPTIONS)
def command() -> None:
    """List, compare, start and abandon drafts.

    A draft is a writable folder, MOUNT/drafts/PROJECT/COLLECTION, that `artfs commit` turns into the next
    version. `mkdir` in the mount starts one, too.
    """


@artfs_command("list", group=command)
@click.option("--all-entities", is_flag=True, help="Drafts of every entity, not of --entity alone.")
@json_option
@pass_app
def list_(app: App, all_entities: bool) -> None:
    """List the drafts.

    \b
    Examples:
      artfs draft list
      artfs draft list --json
    """
    drafts = DraftArea(app.settings.drafts_path).drafts(
        None if all_entities else app.settings.entity, on_damaged=lambda error: app.note(escape(str(error)))
    )
    rows = [(draft, *draft_summary(app.session.store, draft)) for draft in drafts]
    if app.json:
        emit_json([_draft_shape(app, draft, files, size) for draft, files, size in rows])
        return
    table(
        ["DRAFT", "COMMITS TO", "BASE", "BEGAN", "OWN FILES", "SIZE", "STATE"],
        [
            [
                _label(draft.info, app),
                f"{draft.info.project}/{draft.info.collection}",
                draft.info.base_version or "empty",
                local_time(parse_time(draft.info.began_at)),
                f"{files:,}",
                human_size(size),
                _state(draft.info),
            ]
            for draft, files, size in rows
        ],
        right=[4, 5],
    )
    if not rows:
        app.note("no drafts; `mkdir -p MOUNT/drafts/PROJECT/NAME` or `artfs draft from NAME` starts one")


@artfs_command("diff", group=command)
@click.argument("draft", shell_complete=complete_draft)
@click.option("--stat", is_flag=True, help="Only the summary.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there are changes.")
@json_option
@click.pass_context
@pass_app
def diff(app: App, ctx: click.Context, draft: str, stat: bool, exit_code: bool) -> None:
    """Show what a commit of a draft would change.

    Against the version that the draft began from; in one that began empty everything is added.

    \b
    Examples:
      artfs draft diff vega/cars:latest
      artfs draft diff vega/cars --stat
    """
    staged = find_draft(app.settings, draft)
    changes = draft_changes(app.session.store, staged)
    if app.json:
        shape = changes_shape(changes, stat=stat)
        emit_json({"draft": _label(staged.info, app), "base": staged.info.base_version, **shape})
        differs = any(shape["summary"][kind] for kind in ("added", "changed", "removed"))
    else:
        differs = show_changes(changes, stat=stat) > 0
    if exit_code and differs:
        ctx.exit(NO)


@artfs_command("from", group=command)
@click.argument("version", shell_complete=complete_name)
@click.argument("name", required=False)
@json_option
@pass_app
def from_(app: App, version: str, name: str | None) -> None:
    """Start a draft that begins as a copy of a version.

    Nothing is copied before it is changed. The draft is called PROJECT/COLLECTION:ALIAS (:latest when VERSION
    says none), or NAME, which must be COLLECTION or COLLECTION:WORD; it commits to the version's collection.

    \b
    Examples:
      artfs draft from vega/cars
      artfs draft from vega/cars:v0 cars:fixes
    """
    wanted = parse_whole(version, app.settings)
    draft = begin_draft(
        DraftArea(app.settings.drafts_path),
        app.session.catalog,
        wanted.entity,
        wanted.project,
        wanted.collection,
        wanted.alias or "latest",
        _draft_name(wanted, name),
    )
    if app.json:
        emit_json(_draft_shape(app, draft, 0, 0))
    else:
        where = _mounted(app, draft) or f"{draft.path / 'files'} (mount to change it)"
        base = f"{draft.info.collection}:{draft.info.base_version}"
        say(escape(f"draft {_label(draft.info, app)} begins as {base}: {where}"))


def _draft_name(wanted: ArtifactName, name: str | None) -> str:
    if name is None:
        return f"{wanted.collection}:{wanted.alias or 'latest'}"
    collection, colon, word = name.partition(":")
    if collection != wanted.collection:
        raise InvalidNameError(
            f"bad draft name {name!r}: a draft of {wanted.collection} is called {wanted.collection} "
            f"or {wanted.collection}:WORD"
        )
    if colon:
        check_alias(word, allow_version=True)
    return name


@artfs_command("abandon", group=command)
@click.argument("draft", shell_complete=complete_draft)
@yes_option
@json_option
@click.pass_context
@pass_app
def abandon(app: App, ctx: click.Context, draft: str, yes: bool) -> None:
    """Throw a draft away.

    Its changes are lost; versions are not touched. Asks first when a person sits at the terminal.

    \b
    Examples:
      artfs draft abandon vega/cars:latest
    """
    staged = find_draft(app.settings, draft)
    files, size = draft_summary(app.session.store, staged)
    own = f"{plural(files, 'file')} ({human_size(size)})"
    if not agreed(f"Throw away the draft {_label(staged.info, app)} with {own} of its own?", yes=yes):
        app.note("nothing was thrown away")
        ctx.exit(NO)
    serving = try_serving(app.settings, staged.info.entity)
    if serving is not None:
        DaemonClient(serving.socket).call(
            "abandon", {"project": staged.info.project, "draft": staged.info.name}
        )
    else:
        staged.abandon(lambda: check_not_served(app.settings, staged))
    if app.json:
        emit_json({"draft": _label(staged.info, app), "abandoned": True})
    else:
        say(f"abandoned {escape(_label(staged.info, app))}")


# what a draft looks like ----------------------------------------------------------------------------------
def _label(info: DraftInfo, app: App) -> str:
    return f"{'' if info.entity == app.settings.entity else info.entity + '/'}{info.project}/{info.name}"


def _state(info: DraftInfo) -> str:
    if info.pending is not None:
        return "waits for the server"
    return "" if info.problem is None else f"was not committed: {info.problem}"


def _mounted(app: App, draft: StagedDraft) -> str | None:
    serving = try_serving(app.settings, draft.info.entity)
    return None if serving is None else f"{serving.mountpoint}/drafts/{draft.info.project}/{draft.info.name}"


def _draft_shape(app: App, draft: StagedDraft, files: int, size: int) -> dict[str, Any]:
    info = draft.info
    return {
        "name": f"{info.entity}/{info.project}/{info.name}",
        "entity": info.entity,
        "project": info.project,
        "draft": info.name,
        "collection": info.collection,
        "base": info.base_version,
        "began_at": parse_time(info.began_at),
        "type": info.type,
        "description": info.description,
        "metadata": info.metadata,
        "aliases": list(info.aliases),
        "tags": list(info.tags),
        "waits": info.pending is not None,
        "problem": info.problem,
        "own_files": files,
        "own_size": size,
        "files_path": str(draft.path / "files"),
        "mounted_at": _mounted(app, draft),
    }
