"""What `artfs push` and `artfs pull` share: the two catalogs, what is to move, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import click

from artfs.api.session import Session, open_session
from artfs.cli.common import App
from artfs.cli.output import emit_json, escape, human_size, plural, say
from artfs.cli.targets import collection_of, parse_whole
from artfs.errors import NotFoundError, UsageError
from artfs.model.names import check_entity_name
from artfs.model.records import Collection
from artfs.settings import Settings, server_url
from artfs.transfer.exchange import Exchanged, Side, exchange

LOCAL = "local"
"""How --from and --to call this machine's own catalog."""


def chosen(settings: Settings, place: str | None, default: str) -> Settings:
    """The settings for a catalog: a server's URL, or "local". Raises UsageError."""
    wanted = default if place is None else place
    if wanted == LOCAL:
        return replace(settings, server="")
    if not wanted:
        raise UsageError("no server is known: say --to URL (or --from URL), or `artfs login URL` first")
    try:
        url = server_url(wanted)
    except ValueError as error:
        raise UsageError(f"bad URL {wanted!r}: {error}") from error
    return replace(settings, server=url)


@contextmanager
def two_sessions(source: Settings, target: Settings) -> Iterator[tuple[Session, Session]]:
    """Raises UsageError when they are the same."""
    if source.server == target.server:
        raise UsageError(f"both catalogs are the same: {source.server or LOCAL}")
    with open_session(source) as here, open_session(target) as there:
        yield here, there


def move(
    app: App, source: Settings, target: Settings, names: tuple[str, ...], *, everything: bool, entity: str | None,
    allow_protected: bool,
) -> None:
    """Moves and tells. Raises what `exchange` does."""
    if everything == bool(names):
        raise click.UsageError("say what to move (PROJECT, PROJECT/COLLECTION or PROJECT/COLLECTION:vN), or --all")
    if entity is not None:
        check_entity_name(entity)
    with two_sessions(source, target) as (here, there):
        collections, only = _wanted(here, names, everything)
        with app.progress() as progress:
            done = exchange(
                Side(here.catalog, here.store),
                Side(there.catalog, there.store),
                collections,
                entity=entity,
                only=only,
                allow_protected=allow_protected,
                on_progress=progress,
            )
    _tell(app, done, target.server or LOCAL)


def _wanted(
    session: Session, names: tuple[str, ...], everything: bool
) -> tuple[list[Collection], dict[int, set[int]]]:
    """The collections, and of some, by their ids, the indexes of the versions that are meant (of the others: all).

    All are moved together, whatever named them, so that links find what they lead to.
    """
    catalog = session.catalog
    found: dict[int, Collection] = {}
    only: dict[int, set[int]] = {}
    whole: set[int] = set()

    def take(collections: Iterable[Collection]) -> None:
        for collection in collections:
            found[collection.id] = collection
            whole.add(collection.id)

    if everything:
        for entity in catalog.entities():
            for project in catalog.projects(entity):
                take(catalog.collections(entity, project.name))
    for name in (each.rstrip("/") or each for each in names):
        if "/" not in name and ":" not in name:
            entity = session.settings.entity
            if catalog.try_project(entity, name) is None:
                raise NotFoundError(f"no project {entity}/{name}; `artfs ls` lists them")
            take(catalog.collections(entity, name))
            continue
        wanted = parse_whole(name, session.settings)
        if name.count("/") == 1 and ":" not in name and catalog.try_project(wanted.entity, wanted.project) is None:
            first, second = name.split("/")
            if catalog.try_project(first, second) is not None:
                raise NotFoundError(
                    f"no project {wanted.entity}/{first}: {name} means PROJECT/COLLECTION; for all of the project, say "
                    f"{second} --entity {first}"
                )
        collection = collection_of(session, wanted)
        if wanted.alias is None:
            take([collection])
        else:
            member = catalog.resolve(wanted.entity, wanted.project, wanted.collection, wanted.alias)
            found[collection.id] = collection
            only.setdefault(collection.id, set()).add(member.index)
    return list(found.values()), {key: indexes for key, indexes in only.items() if key not in whole}


def _tell(app: App, done: Exchanged, where: str) -> None:
    versions, links, left_out, nbytes = done.versions, done.links, done.left_out, done.nbytes
    if app.json:
        emit_json(
            {
                "to": where,
                "versions": [
                    {
                        "from": moved.source.qualified_name,
                        "name": moved.target.qualified_name,
                        "aliases": list(moved.target.aliases),
                        "created": moved.created,
                    }
                    for moved in versions
                ],
                "links": [link.qualified_name for link in links],
                "left_out": [link.qualified_name for link in left_out],
                "kept_aliases": done.kept,
                "size": nbytes,
            }
        )
        return
    for moved in versions:
        if moved.created:
            renamed = "" if moved.source.index == moved.target.index else f" (was v{moved.source.index})"
            say(escape(f"{moved.target.qualified_name}{renamed}"))
    for link in left_out:
        app.note(escape(f"note: {link.qualified_name} was left out: what it links to was not moved"))
    for alias in done.kept:
        app.note(f"note: {alias} stays as it is: it was changed there later than here")
    new = sum(moved.created for moved in versions)
    there = len(versions) - new
    also = f", {there:,} were there" if there else ""
    linked = f", {plural(len(links), 'link')}" if links else ""
    say(f"moved {plural(new, 'version')}{linked} to {escape(where)}: {human_size(nbytes)} travelled{also}")


