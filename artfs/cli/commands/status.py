"""`artfs status`."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.output import emit_json, fields, human_size, local_time, plural, say, table
from artfs.client.control import DaemonClient, running_mounts
from artfs.errors import ArtfsError
from artfs.store.staging import DraftArea
from artfs.wire.control import MountRecord

STATUS_TIMEOUT_S = 5.0


@artfs_command("status")
@json_option
@pass_app
def command(app: App) -> None:
    """Show running mounts, drafts and sizes.

    What this state folder holds, which daemons serve it, and what drafts wait for a commit. With --json, each
    mount has the daemon's own counters under "daemon".

    \b
    Examples:
      artfs status
      artfs status --json
    """
    mounts = [_mount_shape(record) for record in running_mounts(app.settings.run_path)]
    drafts = [
        {"entity": d.info.entity, "project": d.info.project, "name": d.info.name, "base": d.info.base_version}
        for d in DraftArea(app.settings.drafts_path).drafts()
    ]
    totals = _totals(app)
    if app.json:
        emit_json({"home": str(app.settings.home), "mounts": mounts, "drafts": drafts, **totals})
        return
    fields(
        [
            ("state folder", str(app.settings.home)),
            (
                "catalog",
                f"{plural(totals['projects'], 'project')}, {plural(totals['collections'], 'collection')}, "
                f"{plural(totals['versions'], 'version')} of {human_size(totals['versions_size'])} in all",
            ),
            (
                "store",
                f"{plural(totals['blobs'], 'blob')}, {human_size(totals['blobs_size'])}; "
                f"{human_size(totals['free'])} free on its disk",
            ),
        ]
    )
    say()
    if not mounts:
        say("no mount is running; `artfs mount DIR` starts one")
    table(
        ["MOUNT", "PID", "SINCE", "ENTITY", "STATE"],
        [
            [
                m["mountpoint"],
                str(m["pid"]),
                local_time(m["started_at"]),
                m["entity"],
                m["error"] or "answers",
            ]
            for m in mounts
        ],
    )
    if drafts:
        say()
        table(
            ["DRAFT", "BASE"],
            [[f"{d['entity']}/{d['project']}/{d['name']}", d["base"] or "empty"] for d in drafts],
        )


def _mount_shape(record: MountRecord) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "mountpoint": record.mountpoint,
        "pid": record.pid,
        "entity": record.entity,
        "started_at": datetime.fromisoformat(record.started_at),
        "daemon": None,
        "error": None,
    }
    try:
        shape["daemon"] = DaemonClient(record.socket).call("status", timeout_s=STATUS_TIMEOUT_S)
    except ArtfsError as error:
        shape["error"] = str(error)
    return shape


def _totals(app: App) -> dict[str, int]:
    catalog, store = app.session.catalog, app.session.store
    entities = catalog.entities()
    projects = [project for entity in entities for project in catalog.projects(entity)]
    collections = sum(len(catalog.collections(project.entity, project.name)) for project in projects)
    versions = catalog.versions()
    sizes = [size for _, size in store.blobs()]
    disk = os.statvfs(app.settings.home)
    return {
        "projects": len(projects),
        "collections": collections,
        "versions": len(versions),
        "versions_size": sum(member.version.size for member in versions),
        "blobs": len(sizes),
        "blobs_size": sum(sizes),
        "free": disk.f_bavail * disk.f_frsize,
    }
