"""`artfs get`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from artfs.api.references import download_references
from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, human_size, plural, say
from artfs.cli.targets import entry_at, open_manifest, parse_target, resolve
from artfs.errors import ConflictError, StorageError
from artfs.model.entry import DirEntry, Entry, FileEntry, RefEntry
from artfs.model.manifest import Manifest, build_manifest
from artfs.model.records import Member
from artfs.model.tree import PageCache
from artfs.transfer.pull import pull


class PartOf(Manifest):
    """A directory of a version as a manifest of its own. Its links may lead out of it, as they may in the
    version."""

    def __init__(self, whole: Manifest, path: str, entry: DirEntry) -> None:
        super().__init__(whole.source, entry.digest)
        self._whole = whole
        self._prefix = path + "/"

    def walk(self, below: str = "", *, include_dirs: bool = False) -> Iterator[tuple[str, Entry]]:
        start = (self._prefix + below).rstrip("/")
        for path, entry in self._whole.walk(start, include_dirs=include_dirs):
            if path.startswith(self._prefix):
                yield path.removeprefix(self._prefix), entry


@artfs_command("get")
@click.argument("name", shell_complete=complete_name)
@click.argument("dest", required=False, type=click.Path())
@click.option(
    "--overwrite",
    is_flag=True,
    help="Write into a folder that holds something: files that differ are replaced.",
)
@click.option(
    "--hard-links",
    is_flag=True,
    help="Give files of the store itself instead of copies: read-only, and only on the store's own disk.",
)
@json_option
@pass_app
def command(app: App, name: str, dest: str | None, overwrite: bool, hard_links: bool) -> None:
    """Copy a version, folder or file out.

    NAME[/PATH] is a version, or a folder or file in one (then with its alias:
    PROJECT/COLLECTION:latest/PATH). The content of a version or folder becomes the content of the folder
    DEST, which is made; a file becomes the file DEST, or a file in it when DEST is a folder. Every byte is
    checked on the way. Without DEST: ./artifacts/COLLECTION:vN, where Artifact.download() puts it, too.

    With --overwrite, files in DEST that are equal stay, different ones are replaced, and what the version
    does not have is left alone.

    Copies share their bytes with the store where the disk can do that (btrfs, xfs). Where it cannot,
    --hard-links saves the room: the files are then those of the store, mode 0444, and whoever makes one
    writable and edits it damages every version that holds it. Executable files are copied all the same.

    \b
    Examples:
      artfs get vega/cars:v0 ./cars
      artfs get vega/cars:latest/images ./images
      artfs get vega/cars:latest/cars.csv .
    """
    target = parse_target(name, app.settings)
    member = resolve(app.session, target.name)
    manifest = open_manifest(app.session.store, member.version.digest)
    place = Path(dest) if dest is not None else _default_place(app, member)
    if target.path:
        entry = entry_at(manifest, target)
        if isinstance(entry, FileEntry | RefEntry):
            manifest, place = _one_file(entry, place, into=dest is None or dest.endswith("/"))
            overwrite = _check_file(place / os.fsdecode(_only_name(manifest)), overwrite=overwrite)
        elif isinstance(entry, DirEntry):
            manifest = PartOf(manifest, target.path, entry)
        else:
            raise ConflictError(
                f"{name} is a symbolic link, not a file; `artfs ls -l {name}` shows where it leads"
            )
    if not overwrite and dest is not None:
        _refuse_full(place)
    with app.progress() as progress:
        done = pull(
            app.session.store,
            manifest,
            place,
            on_progress=progress,
            workers=app.settings.worker_count,
            hard_links=hard_links,
        )
    if done.references:
        download_references(
            app.session.references, manifest, done.references, str(place), allow_missing=False
        )
    if app.json:
        emit_json(
            {
                "name": member.qualified_name,
                "digest": member.version.digest,
                "path": str(place.absolute()),
                "written": done.written,
                "written_size": done.nbytes,
                "unchanged": done.unchanged,
                "links": done.links,
                "references": done.references,
            }
        )
        return
    unchanged = f", {done.unchanged:,} there already" if done.unchanged else ""
    what = f"{plural(done.written, 'file')} ({human_size(done.nbytes)}){unchanged}"
    if done.references:
        what += f", {plural(len(done.references), 'reference')}"
    say(escape(f"got {member.qualified_name}{'/' + target.path if target.path else ''}: {what} in {place}"))


def _default_place(app: App, member: Member) -> Path:
    return app.settings.artifact_dir / f"{member.collection}:v{member.index}"


def _one_file(entry: FileEntry | RefEntry, place: Path, *, into: bool) -> tuple[Manifest, Path]:
    """A manifest of the file alone, called as it shall be called, and the folder that it goes to."""
    if not into and not place.is_dir():
        name, place = place.name, place.parent
    else:
        name = os.fsdecode(entry.name)
    built = build_manifest({name: entry})
    return Manifest(PageCache(dict(built.objects).__getitem__), built.root), place


def _only_name(manifest: Manifest) -> bytes:
    directory = manifest.directory()
    assert directory is not None
    return directory.at(0).name


def _check_file(path: Path, *, overwrite: bool) -> bool:
    """Refuses to replace a file without --overwrite; True: the folder that it goes to may hold other
    things."""
    if not overwrite and os.path.lexists(path):
        raise ConflictError(f"{path} exists; --overwrite replaces it")
    return True


def _refuse_full(place: Path) -> None:
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ConflictError(f"{place} is a file; give a folder that is empty or does not exist") from None
    except OSError as error:
        raise StorageError.wrap(error, f"looking into {place}") from error
    if names:
        raise ConflictError(
            f"{place} is not empty; --overwrite replaces files that differ and leaves the others alone"
        )
