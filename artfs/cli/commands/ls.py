"""`artfs ls`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, human_size, local_time, say, table
from artfs.cli.shapes import collection_shape, entry_shape, latest_of, member_shape
from artfs.cli.targets import (
    Target,
    collection_of,
    entry_at,
    open_manifest,
    parse_project,
    parse_target,
    resolve,
)
from artfs.errors import NotFoundError
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry
from artfs.model.manifest import Manifest
from artfs.model.records import Member


@artfs_command("ls")
@click.argument("name", required=False, shell_complete=complete_name)
@click.option("-l", "long", is_flag=True, help="More columns: digests, tags, kinds, link targets.")
@click.option("-R", "--recursive", is_flag=True, help="All files below, by path.")
@json_option
@pass_app
def command(app: App, name: str | None, long: bool, recursive: bool) -> None:
    """List projects, collections, versions or files.

    \b
    artfs ls                       the projects
    artfs ls PROJECT               its collections
    artfs ls PROJECT/COLLECTION    its versions
    artfs ls NAME:ALIAS[/PATH]     the files of a version

    \b
    Examples:
      artfs ls
      artfs ls vega/cars
      artfs ls -l vega/cars:latest
      artfs ls -R vega/cars:v0/images --json
    """
    if recursive and (name is None or ":" not in name):
        raise click.UsageError(
            "-R lists the files of a version: say which, for example PROJECT/COLLECTION:latest"
        )
    if name is None:
        _projects(app)
    elif ":" in name:
        _entries(app, parse_target(name, app.settings), long=long, recursive=recursive)
    elif "/" not in name.rstrip("/"):
        _collections(app, name.rstrip("/"), long=long)
    else:
        _versions(app, parse_target(name.rstrip("/"), app.settings), long=long)


def _projects(app: App) -> None:
    catalog = app.session.catalog
    rows = []
    for project in catalog.projects(app.settings.entity):
        collections = catalog.collections(project.entity, project.name)
        rows.append(
            {
                "name": f"{project.entity}/{project.name}",
                "entity": project.entity,
                "project": project.name,
                "collections": len(collections),
                "created_at": project.created_at,
                "updated_at": max((c.updated_at for c in collections), default=project.created_at),
            }
        )
    if app.json:
        emit_json(rows)
        return
    table(
        ["PROJECT", "COLLECTIONS", "UPDATED"],
        [[str(row["project"]), str(row["collections"]), local_time(row["updated_at"])] for row in rows],  # type: ignore[arg-type]
        right=[1],
    )
    if not rows:
        others = [entity for entity in catalog.entities() if entity != app.settings.entity]
        there = f"there are projects of {', '.join(others[:10])} (--entity {others[0]})" if others else ""
        app.note(
            f"no projects of {app.settings.entity} yet; "
            + (there or "`artfs log DIR PROJECT/NAME` makes a first version")
        )


def _collections(app: App, text: str, *, long: bool) -> None:
    entity, project = parse_project(text, app.settings)
    catalog = app.session.catalog
    if catalog.try_project(entity, project) is None:
        known = ", ".join(p.name for p in catalog.projects(entity)[:10])
        raise NotFoundError(
            f"no project {entity}/{project}; " + (f"there are: {known}" if known else "there is none yet")
        )
    listed = [(c, catalog.members(c.id)) for c in catalog.collections(entity, project)]
    if app.json:
        emit_json([collection_shape(collection, members) for collection, members in listed])
        return
    rows = []
    for collection, members in listed:
        latest = latest_of(members)
        row = [
            collection.name,
            collection.type or "-",
            str(len(members)),
            f"v{latest.index}" if latest else "-",
            human_size(latest.version.size) if latest else "-",
            local_time(collection.updated_at),
        ]
        rows.append(
            [*row, collection.kind, ", ".join(collection.tags), collection.description or ""] if long else row
        )
    header = ["COLLECTION", "TYPE", "VERSIONS", "LATEST", "SIZE", "UPDATED"]
    table([*header, "KIND", "TAGS", "DESCRIPTION"] if long else header, rows, right=[2, 3, 4])
    if not rows:
        app.note(f"the project {entity}/{project} has no collections")


def _versions(app: App, target: Target, *, long: bool) -> None:
    members = app.session.catalog.members(collection_of(app.session, target.name).id)
    if app.json:
        emit_json([member_shape(member) for member in members])
        return
    header = ["VERSION", "ALIASES", "SIZE", "FILES", "CREATED"]
    table(
        [*header, "DIGEST", "TAGS", "FROM", "DESCRIPTION"] if long else [*header, "DESCRIPTION"],
        [_version_row(member, long=long) for member in members],
        right=[2, 3],
    )
    if not members:
        app.note(f"the collection {target.name.qualified_collection} has no versions yet")


def _version_row(member: Member, *, long: bool) -> list[str]:
    version = member.version
    row = [
        f"v{member.index}",
        ", ".join(member.aliases),
        human_size(version.size),
        f"{version.file_count:,}",
        local_time(version.created_at),
    ]
    description = (version.description or "").split("\n")[0]
    if not long:
        return [*row, description if len(description) <= 60 else description[:59] + "…"]
    source = (
        f"{version.entity}/{version.project}/{version.collection}:v{version.source_index}"
        if member.is_link
        else "-"
    )
    return [*row, version.digest, ", ".join(version.tags), source, description]


# the files of a version -----------------------------------------------------------------------------------
def _entries(app: App, target: Target, *, long: bool, recursive: bool) -> None:
    member = resolve(app.session, target.name)
    manifest = open_manifest(app.session.store, member.version.digest)
    entry = entry_at(manifest, target) if target.path else None
    found = _below(manifest, target.path, entry, recursive=recursive)
    if app.json:
        emit_json([entry_shape(path, entry) for path, entry in found])
        return
    # Without -R the names alone, as ls shows a folder; with it, and for a single file, the path in the
    # version.
    prefix = target.path + "/" if target.path and not recursive and isinstance(entry, DirEntry) else ""
    shown = ((path.removeprefix(prefix), entry) for path, entry in found)
    if long:
        table(
            ["KIND", "SIZE", "DIGEST", "NAME"], [_entry_row(path, entry) for path, entry in shown], right=[1]
        )
    else:
        for path, entry in shown:
            say(escape(path) + ("/" if isinstance(entry, DirEntry) else ""))


def _below(
    manifest: Manifest, path: str, entry: Entry | None, *, recursive: bool
) -> Iterator[tuple[str, Entry]]:
    if entry is not None and not isinstance(entry, DirEntry):
        yield path, entry
    elif recursive:
        yield from (
            (found, inner) for found, inner in manifest.walk(path, include_dirs=True) if found != path
        )
    else:
        directory = manifest.directory(path)
        assert directory is not None
        for _, child in directory.entries():
            yield (f"{path}/" if path else "") + os.fsdecode(child.name), child


def _entry_row(path: str, entry: Entry) -> list[str]:
    if isinstance(entry, FileEntry):
        return ["file*" if entry.executable else "file", human_size(entry.size), entry.digest[:16], path]
    if isinstance(entry, DirEntry):
        return ["dir", human_size(entry.size), entry.digest[:16], path + "/"]
    if isinstance(entry, LinkEntry):
        return ["link", "-", "-", f"{path} -> {os.fsdecode(entry.target)}"]
    return ["ref", "-" if entry.size is None else human_size(entry.size), "-", f"{path} -> {entry.uri}"]
