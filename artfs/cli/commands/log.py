"""`artfs log`."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from artfs.api.references import examine
from artfs.cli.commands.commit import committed_line, committed_shape
from artfs.cli.common import App, artfs_command, json_option, pass_app, protected_option
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, human_size, plural, say
from artfs.cli.targets import parse_whole
from artfs.cli.version_options import VersionOptions, read_version_options, version_options
from artfs.errors import (
    ConflictError,
    InvalidArgumentError,
    InvalidNameError,
    NotFoundError,
    StorageError,
    TypeConflictError,
)
from artfs.model.entry import RefEntry
from artfs.model.ignore import IGNORE_FILE, IgnoreRules
from artfs.model.names import ArtifactName, is_version
from artfs.model.records import NewVersion
from artfs.model.ttl import INHERIT, Ttl, parse_ttl
from artfs.transfer.progress import Meter, sync
from artfs.transfer.push import push_directory, push_entries, push_file
from artfs.transfer.scan import read_rules, root_place, scan
from artfs.wire.control import CommitReply


@artfs_command("log")
@click.argument("path", type=click.Path())
@click.argument("name", shell_complete=complete_name)
@version_options
@click.option(
    "--ignore",
    multiple=True,
    metavar="PATTERN",
    help="Leave this out, by the rules of .gitignore; repeatable.",
)
@click.option("--ttl", metavar="POLICY", help="How long it lives, such as 30d (`artfs ttl`).")
@protected_option
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be logged.")
@json_option
@pass_app
def command(
    app: App,
    /,
    path: str,
    name: str,
    ignore: tuple[str, ...],
    ttl: str | None,
    allow_protected: bool,
    dry_run: bool,
    **version: Any,
) -> None:
    """Make a version from a directory, a file or a URI, without the mount.

    PATH is a folder, whose content becomes the version, or a file, which becomes its only file. Of a URI (https://,
    s3://, gs://, file:// …) nothing is copied: the version refers to what is there. NAME is PROJECT/COLLECTION;
    both are made when missing. Content that latest has already makes no new version. A folder's .artfsignore and
    some defaults (.DS_Store, swap files of editors) say what is left out.

    \b
    Examples:
      artfs log ./cars vega/cars --type dataset
      artfs log model.safetensors demo/minilm --type model --alias prod -m epochs=3
      artfs log ./cars vega/cars --ignore '*.tmp' --dry-run
      artfs log s3://bucket/cars vega/cars-in-s3
    """
    if "://" not in path and not os.path.lexists(path) and ("://" in name or os.path.lexists(name)):
        raise click.UsageError(f"what is to be logged comes first: artfs log {shlex.quote(name)} {shlex.quote(path)}")
    wanted = parse_whole(name, app.settings)
    if wanted.alias is not None:
        if is_version(wanted.alias):
            raise InvalidNameError(f"bad name {name!r}: a new version gets the next number by itself; leave out :{wanted.alias}")
        raise InvalidNameError(f"bad name {name!r}: a new version has no alias yet; write --alias {wanted.alias}")
    options = read_version_options(**version, collection=wanted.collection)
    policy = INHERIT if ttl is None else parse_ttl(ttl)
    allowed = allow_protected or app.settings.allow_protected
    is_uri = "://" in path and not os.path.lexists(path)
    is_file = not is_uri and _is_file(path)
    if ignore and (is_uri or is_file):
        raise click.UsageError(f"--ignore means nothing for a {'URI' if is_uri else 'single file'}")
    rules = None if is_uri or is_file else _rules(path, ignore)
    if not dry_run:
        _check_collection(app, wanted, options)
    references = dict(examine(app.session.references, path)) if is_uri else None
    if dry_run:
        _dry_run(app, path, rules, references)
        return
    if not is_uri:
        _refuse_own_state(app, path)
    reply, ignored = _log(app, path, rules, references, wanted, options, ttl=policy, allow_protected=allowed)
    if app.json:
        emit_json({**committed_shape(reply), "ignored": ignored, "warnings": list(reply.warnings)})
        return
    for warning in reply.warnings:
        app.note(f"note: {warning}")
    say(committed_line(reply))


def _is_file(path: str) -> bool:
    """Whether `path` is a file (True) or a folder (False). Raises NotFoundError, InvalidArgumentError,
    StorageError."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise NotFoundError(f"there is no file or folder {path}") from None
    except OSError as error:
        raise StorageError.wrap(error, f"reading {path}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InvalidArgumentError(f"{path} is neither a file nor a folder")
    return stat.S_ISREG(mode)


def _refuse_own_state(app: App, path: str) -> None:
    folder = Path(path).resolve()
    if app.settings.home.resolve().is_relative_to(folder):
        raise InvalidArgumentError(
            f"{folder} holds the state folder {app.settings.home}, which would grow as it is read"
        )


def _rules(path: str, patterns: tuple[str, ...]) -> IgnoreRules | None:
    """The rules of the folder with `patterns` behind them; None (the folder's own) without patterns."""
    if not patterns:
        return None
    try:
        IgnoreRules.parse("\n".join(patterns))
    except InvalidNameError as error:
        raise InvalidNameError(f"bad --ignore: {error}") from error
    try:
        own = Path(path, IGNORE_FILE).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        own = ""
    except OSError as error:
        raise StorageError.wrap(error, f"reading {path}/{IGNORE_FILE}") from error
    return IgnoreRules.parse("\n".join([own, *patterns]))


def _dry_run(
    app: App, path: str, rules: IgnoreRules | None, references: Mapping[str, RefEntry] | None
) -> None:
    ignored: list[str] = []
    collisions: list[tuple[str, ...]] = []
    if references is not None:
        size, files = sum(entry.size or 0 for entry in references.values()), len(references)
    elif rules is None and Path(path).is_file():
        size, files = os.stat(path).st_size, 1
    else:
        with app.progress() as progress, Meter(progress, "scan") as meter:
            found = scan(root_place(path), rules or read_rules(path), meter)
        size, files, ignored, collisions = found.size, found.file_count, found.ignored, found.collisions
    if app.json:
        emit_json(
            {
                "file_count": files,
                "size": size,
                "ignored": ignored,
                "collisions": [list(g) for g in collisions],
            }
        )
        return
    for left_out in ignored:
        say(f"ignored  {escape(left_out)}")
    for group in collisions:
        say(f"collide  {escape(', '.join(group))}")
    say(f"would log {plural(files, 'file')}, {human_size(size)}; {len(ignored):,} ignored")


def _check_collection(app: App, name: ArtifactName, options: VersionOptions) -> None:
    """The refusals that the commit would end with, before hours of copying."""
    there = app.session.catalog.try_collection(name.entity, name.project, name.collection)
    if there is None:
        return
    if there.kind == "portfolio":
        raise ConflictError(f"{name.qualified_collection} holds links; versions cannot be logged to it")
    if options.type and there.type and options.type != there.type:
        raise TypeConflictError(f"{name.qualified_collection} has the type {there.type}, not {options.type}")


def _log(
    app: App,
    path: str,
    rules: IgnoreRules | None,
    references: Mapping[str, RefEntry] | None,
    name: ArtifactName,
    options: VersionOptions,
    *,
    ttl: Ttl,
    allow_protected: bool,
) -> tuple[CommitReply, list[str]]:
    store, workers = app.session.store, app.settings.worker_count
    warnings: list[str] = []
    no_names: tuple[str, ...] = ()
    # The catalog row is made while the batch holds the store's lock: no sweep can come between
    # (store/base.py).
    with app.progress() as progress, store.begin((name.entity, name.project)) as batch:
        if references is not None:
            built = push_entries(batch, references)
            root, totals, ignored = built.root, built.totals, no_names
        elif Path(path).is_file():
            entry = push_file(batch, path, on_progress=progress)
            built = push_entries(batch, {os.fsdecode(entry.name): entry})
            root, totals, ignored = built.root, built.totals, no_names
        else:
            pushed = push_directory(batch, path, ignore=rules, on_progress=progress, workers=workers)
            root, totals, ignored = pushed.root, pushed.totals, pushed.ignored
            warnings += [
                f"one name where case or Unicode form does not count: {', '.join(g)}"
                for g in pushed.collisions
            ]
        sync(batch, progress, "sync")
        committed = app.session.catalog.commit(
            NewVersion(
                entity=name.entity,
                project=name.project,
                collection=name.collection,
                type=options.type or "",
                digest=root,
                size=totals.size,
                file_count=totals.file_count,
                description=options.description,
                metadata=options.metadata or {},
                aliases=options.aliases,
                tags=options.tags,
                ttl=ttl,
                allow_protected=allow_protected,
            )
        )
    if ignored:
        shown = ", ".join(ignored[:3]) + (", …" if len(ignored) > 3 else "")
        warnings.insert(0, f"left out {plural(len(ignored), 'name')}: {shown} (`--dry-run` lists them)")
    member, version = committed.member, committed.member.version
    reply = CommitReply(
        entity=member.entity,
        project=member.project,
        collection=member.collection,
        version=f"v{member.index}",
        created=committed.created,
        digest=version.digest,
        size=version.size,
        file_count=version.file_count,
        aliases=member.aliases,
        warnings=tuple(warnings),
    )
    return reply, list(ignored)
