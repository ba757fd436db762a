"""`artfs status`."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Any

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.output import (
    emit_json,
    escape,
    fields,
    human_size,
    local_time,
    on_terminal,
    plural,
    say,
    table,
)
from artfs.client.control import DaemonClient, running_mounts
from artfs.errors import AccessError, ArtfsError
from artfs.release import release
from artfs.store.staging import DraftArea
from artfs.wire.control import MountRecord

STATUS_TIMEOUT_S = 5.0
WATCH_S = 2.0


@artfs_command("status")
@click.option("-w", "--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@json_option
@pass_app
def command(app: App, watch: bool) -> None:
    """Show running mounts, drafts, sizes and transfers.

    What this state folder holds, or the server that is used and what the cache has of it; which daemons serve it, what they
    are fetching and what went wrong lately; and what drafts wait for a commit. With --json, each mount has the daemon's own
    counters under "daemon".

    \b
    Examples:
      artfs status
      artfs status --watch
      artfs status --json
    """
    while True:
        shape = _shape(app)
        if app.json:
            emit_json(shape)
        else:
            if watch and on_terminal():
                click.clear()
            _show(app, shape)
        if not watch:
            return
        time.sleep(WATCH_S)


def _shape(app: App) -> dict[str, Any]:
    mounts = [_mount_shape(record) for record in running_mounts(app.settings.run_path)]
    drafts = [
        {"entity": d.info.entity, "project": d.info.project, "name": d.info.name, "base": d.info.base_version,
         "waits": d.info.pending is not None, "problem": d.info.problem}
        for d in DraftArea(app.settings.drafts_path).drafts(on_damaged=lambda error: app.note(escape(str(error))))
    ]
    shape: dict[str, Any] = {"home": str(app.settings.home), "mounts": mounts, "drafts": drafts}
    if app.settings.server:
        return {**shape, "server": _server_shape(app), "cache": _cache_shape(app)}
    return {**shape, **_totals(app)}


def _show(app: App, shape: dict[str, Any]) -> None:
    pairs = [("state folder", shape["home"])]
    if app.settings.server:
        server, cache = shape["server"], shape["cache"]
        state = "answers" if server["online"] else f"cannot be reached: {server['reason']}"
        if server["latency_s"] is not None:
            state += f" in {server['latency_s'] * 1000:.0f} ms"
        if server["refused"]:
            state += f", but does not let us in: {server['refused']}"
        pairs += [
            ("server", f"{server['url']} {state}"),
            (
                "cache",
                f"{plural(cache['blobs'], 'blob')}, {human_size(cache['size'])} of {human_size(cache['limit'])}; "
                f"{human_size(cache['free'])} free on its disk ({cache['path']})",
            ),
        ]
    else:
        pairs += [
            (
                "catalog",
                f"{plural(shape['projects'], 'project')}, {plural(shape['collections'], 'collection')}, "
                f"{plural(shape['versions'], 'version')} of {human_size(shape['versions_size'])} in all",
            ),
            (
                "store",
                f"{plural(shape['blobs'], 'blob')}, {human_size(shape['blobs_size'])}; "
                f"{human_size(shape['free'])} free on its disk",
            ),
        ]
    fields([(name, escape(text)) for name, text in pairs])
    say()
    mounts, drafts = shape["mounts"], shape["drafts"]
    if not mounts:
        say("no mount is running; `artfs mount DIR` starts one")
    table(
        ["MOUNT", "PID", "SINCE", "ENTITY", "STATE"],
        [[m["mountpoint"], str(m["pid"]), local_time(m["started_at"]), m["entity"], _state(m)] for m in mounts],
    )
    for mount in mounts:
        _show_errors(mount)
    if drafts:
        say()
        table(
            ["DRAFT", "BASE", "STATE"],
            [
                [f"{d['entity']}/{d['project']}/{d['name']}", d["base"] or "empty", _draft_state(d, mounts)]
                for d in drafts
            ],
        )


def _state(mount: dict[str, Any]) -> str:
    if mount["error"]:
        return str(mount["error"])
    daemon = mount["daemon"]
    other = "" if mount["release"] in ("", release()) else f"; artfs {mount['release']} until it is mounted again"
    return _doing(daemon) + other


def _doing(daemon: dict[str, Any]) -> str:
    if "server" not in daemon:
        return "answers"
    if not daemon["server"]["online"]:
        return f"offline for {daemon['server']['away_for_s']:.0f} s: {daemon['server']['reason']}"
    moving = daemon["transfers"]["waiting"] + daemon["transfers"]["under_way"]
    came = human_size(daemon["transfers"]["nbytes"])
    reads, waited = daemon["transfers"].get("reads", 0), daemon["transfers"].get("waited", 0)
    # Who waited is a read as well, once it was answered.
    hits = f", {max(reads - waited, 0) / reads:.0%} of {plural(reads, 'read')} from the cache" if reads else ""
    return f"online; {came} fetched{hits}" + (f", {plural(moving, 'piece')} coming" if moving else "")


def _show_errors(mount: dict[str, Any]) -> None:
    errors = ((mount["daemon"] or {}).get("transfers") or {}).get("errors") or []
    for error in errors[-5:]:
        when = datetime.fromtimestamp(error["at"], UTC)
        say(f"  {local_time(when)}  {escape(error['message'])}")


def _draft_state(draft: dict[str, Any], mounts: list[dict[str, Any]]) -> str:
    if draft["waits"]:
        return "waits for the server"
    if draft["problem"]:
        return f"was not committed: {escape(draft['problem'])}"
    label = f"{draft['project']}/{draft['name']}"
    for mount in mounts:
        told = ((mount["daemon"] or {}).get("drafts") or {}).get(label)
        if told is not None and mount["entity"] == draft["entity"]:
            if told["sealed"]:
                return "is being committed"
            if told["writers"]:
                return f"{plural(told['writers'], 'file')} open for writing"
    return ""


def _server_shape(app: App) -> dict[str, Any]:
    remote = app.session.remote
    assert remote is not None
    remote.reach.on_move = lambda is_online, what: None  # it is what the answer says
    refused = []

    def ping() -> None:
        try:
            remote.ping()
        except AccessError as error:
            refused.append(str(error))

    remote.reach.probe(ping)
    return {
        "url": remote.server,
        "online": not remote.reach.is_troubled,
        "refused": "".join(refused),
        "reason": remote.reach.reason,
        "latency_s": remote.reach.latency_s,
    }


def _cache_shape(app: App) -> dict[str, Any]:
    remote = app.session.remote
    assert remote is not None
    status = remote.fetcher.cache.status()
    return {
        "path": status.path,
        "size": status.nbytes,
        "blobs": status.count,
        "limit": status.limit,
        "free": status.free,
    }


def _mount_shape(record: MountRecord) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "mountpoint": record.mountpoint,
        "pid": record.pid,
        "entity": record.entity,
        "started_at": datetime.fromisoformat(record.started_at),
        "release": record.release,
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
