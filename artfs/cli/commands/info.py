"""`artfs info`."""

from __future__ import annotations

import json
from typing import Any

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, fields, human_size, iso_time, local_time, plural
from artfs.cli.shapes import collection_shape, member_shape, run_shape
from artfs.cli.targets import collection_of, parse_whole, resolve
from artfs.client.control import running_mounts
from artfs.model.names import ArtifactName
from artfs.model.records import Member


@artfs_command("info")
@click.argument("name", shell_complete=complete_name)
@json_option
@pass_app
def command(app: App, name: str) -> None:
    """Show everything about a version or collection.

    PROJECT/COLLECTION shows the collection, PROJECT/COLLECTION:ALIAS a version.

    \b
    Examples:
      artfs info vega/cars
      artfs info vega/cars:latest
      artfs info vega/cars:@2026-11-01 --json
    """
    wanted = parse_whole(name, app.settings)
    if wanted.alias is None:
        _collection(app, wanted)
    else:
        _version(app, resolve(app.session, wanted))


def _collection(app: App, name: ArtifactName) -> None:
    collection = collection_of(app.session, name)
    members = app.session.catalog.members(collection.id)
    shape = collection_shape(collection, members)
    if app.json:
        emit_json(shape)
        return
    total = sum(member.version.size for member in members)
    fields(
        [
            ("collection", shape["name"]),
            ("type", collection.type),
            ("kind", collection.kind),
            ("description", collection.description or ""),
            ("tags", ", ".join(collection.tags)),
            ("versions", f"{len(members)} of {human_size(total)} in all" if members else "none yet"),
            ("aliases", ", ".join(f"{alias} = {version}" for alias, version in shape["aliases"].items())),
            ("created", local_time(collection.created_at)),
            ("updated", local_time(collection.updated_at)),
        ]
    )


def _version(app: App, member: Member) -> None:
    catalog, version = app.session.catalog, member.version
    others = [m for m in catalog.memberships(version.id) if m.id != member.id]
    logged_by = None if version.run_id is None else catalog.run(version.run_id)
    used_by = catalog.used_by(version.id)
    mounts = _mounted_at(app, member)
    if app.json:
        emit_json(
            {
                **member_shape(member),
                "memberships": [{"name": m.qualified_name, "aliases": list(m.aliases)} for m in others],
                "logged_by": None if logged_by is None else run_shape(logged_by),
                "used_by": [run_shape(run) for run in used_by],
                "mounted_at": mounts,
            }
        )
        return
    fields(
        [
            ("version", member.qualified_name),
            ("aliases", ", ".join(member.aliases)),
            ("tags", ", ".join(version.tags)),
            ("type", version.type),
            ("description", version.description or ""),
            (
                "content",
                f"{plural(version.file_count, 'file')}, {human_size(version.size)} ({version.size:,} bytes)",
            ),
            ("digest", version.digest),
            ("created", f"{local_time(version.created_at)} ({iso_time(version.created_at)})"),
            ("updated", "" if version.updated_at == version.created_at else local_time(version.updated_at)),
            ("expires", "" if version.expires_at is None else local_time(version.expires_at)),
            ("linked from", member_shape(member)["source"] if member.is_link else ""),
            ("also in", ", ".join(m.qualified_name for m in others)),
            ("logged by", "" if logged_by is None else f"run {logged_by.id} ({logged_by.name})"),
            ("used by", ", ".join(f"run {run.id} ({run.name})" for run in used_by)),
            ("mounted at", ", ".join(mounts)),
            *[(f"metadata.{key}", _value(value)) for key, value in version.metadata.items()],
        ]
    )


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _mounted_at(app: App, member: Member) -> list[str]:
    below = f"{member.project}/{member.collection}/v{member.index}"
    return [
        f"{mount.mountpoint}/{below}"
        if mount.entity == member.entity
        else f"{mount.mountpoint}/@{member.entity}/{below}"
        for mount in running_mounts(app.settings.run_path)
    ]
