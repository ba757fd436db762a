"""`artfs usage`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.output import emit_json, escape, human_size, say, table
from artfs.cli.targets import parse_project
from artfs.wire.control import Progress

if TYPE_CHECKING:
    from artfs.wire.messages import ProjectUsage


READING_TREES_S = 600.0
"""How long a server may take for one project: it reads all its trees."""


@artfs_command("usage")
@click.argument("place", required=False, metavar="[PROJECT]")
@json_option
@pass_app
def command(app: App, place: str | None) -> None:
    """Show how much room projects and collections take.

    Of one PROJECT, or of all. SIZE adds up all versions; UNIQUE counts each blob once, so what versions share is in it
    once. What collections share is in the UNIQUE of each, and once in the project's. On a server the project's number
    is what its quota limits: also what was sent and is in no version (yet), and what `artfs gc` has not freed yet.

    \b
    Examples:
      artfs usage
      artfs usage vision --json
    """
    with app.progress() as view:
        found = list(_usages(app, place, lambda project: view(Progress(f"reading {project}", 0, 0, 0, 0))))
    if app.json:
        emit_json(
            [
                {
                    "entity": each.entity, "project": each.project, "blobs": each.blobs, "unique_size": each.nbytes,
                    "quota": each.quota,
                    "collections": [
                        {"name": one.name, "versions": one.versions, "size": one.size, "unique_size": one.nbytes}
                        for one in each.collections
                    ],
                }
                for each in found
            ]
        )
        return
    if not found:
        say(f"there are no projects of {escape(app.settings.entity)}")
        return
    rows = []
    for each in found:
        for one in each.collections:
            rows.append([f"{each.project}/{one.name}", str(one.versions), human_size(one.size), human_size(one.nbytes), ""])
        count, size = sum(one.versions for one in each.collections), sum(one.size for one in each.collections)
        quota = "" if each.quota is None else f"of {human_size(each.quota)}"
        rows.append([each.project, str(count), human_size(size), human_size(each.nbytes), quota])
    table(["WHERE", "VERSIONS", "SIZE", "UNIQUE", "QUOTA"], rows)


def _usages(app: App, place: str | None, on_project: Callable[[str], None]) -> Iterator[ProjectUsage]:
    catalog = app.session.catalog
    if place is None:
        entity = app.settings.entity
        names = [project.name for project in catalog.projects(entity)]
    else:
        entity, name = parse_project(place, app.settings)
        catalog.collections(entity, name)  # says what there is instead
        names = [name]
    if app.session.remote is not None:
        from artfs.wire.blobroutes import USAGE

        with app.connected() as http:
            for name in names:
                on_project(name)
                yield http.call(USAGE, {"entity": entity, "project": name}, timeout_s=READING_TREES_S)
        return
    from artfs.transfer.usage import usage_of

    for name in names:
        on_project(name)
        yield usage_of(catalog, app.session.store, entity, name)
