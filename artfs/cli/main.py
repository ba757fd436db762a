"""The `artfs` command: a group whose commands are imported when they are called, and the one place that turns
errors into a line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from artfs.cli import exits
from artfs.cli.common import App, TellsOfOutput, global_options, without_collection
from artfs.cli.output import escape, note, say, to_stdout
from artfs.errors import ArtfsError, ForbiddenError, NotFoundError
from artfs.release import release
from artfs.settings import DEFAULT_ENTITY, wants_no_color

SECTIONS: dict[str, dict[str, str]] = {
    "The mount": {
        "mount": "Mount the catalog as folders.",
        "umount": "End a mount.",
        "status": "Show running mounts, drafts, sizes and transfers.",
    },
    "Making versions": {
        "log": "Make a version from a directory, a file or a URI, without the mount.",
        "commit": "Turn a draft into the next version.",
        "draft": "List, compare, start and abandon drafts.",
    },
    "Looking at versions": {
        "ls": "List projects, collections, versions or files.",
        "info": "Show everything about a version or collection.",
        "diff": "Show what changed between two versions.",
        "get": "Copy a version, folder or file out.",
        "cat": "Write a file of a version to standard output.",
        "lineage": "Draw what a version was made from, and what was made from it.",
        "verify": "Check every byte of a version, the store or a folder.",
    },
    "Changing versions": {
        "alias": "Show, add and remove aliases of a version.",
        "tag": "Show, add and remove tags of a version.",
        "link": "Link a version to a collection of links, or to a registry.",
        "collection": "Rename, describe and tag a collection.",
        "ttl": "Show and set how long versions live.",
        "protect": "Show, add and remove protected aliases of a project.",
        "delete": "Delete versions or collections.",
    },
    "The cache": {
        "cache": "Look after the blobs of servers that this machine keeps.",
        "pin": "Fetch a version and keep it in the cache.",
        "unpin": "Let the cache forget a version again.",
        "prefetch": "Fetch what will be read into the cache.",
    },
    "Servers": {
        "serve": "Serve a catalog to other machines.",
        "push": "Move versions to a server.",
        "pull": "Move versions from a server to this machine's own catalog.",
        "login": "Use the catalog of a server.",
        "logout": "Use this machine's own catalog again.",
        "token": "Make, list, change and revoke tokens of a server.",
        "audit": "Show who changed what on a server.",
        "quota": "Show or set how much room a project may take on a server.",
    },
    "Upkeep": {
        "usage": "Show how much room projects and collections take.",
        "gc": "Free what no version needs.",
        "backup": "Copy the catalog and the store somewhere safe.",
        "restore": "Make a state folder from a backup.",
        "doctor": "Check this machine, say what is wrong, and mend it.",
        "debug": "Write one archive for a bug report.",
        "completion": "Print the completion script for a shell.",
    },
}
"""Every command by section with its one-line summary, here so that `artfs --help` imports none of them (a
test compares)."""

COMMANDS: dict[str, str] = {
    name: summary for section in SECTIONS.values() for name, summary in section.items()
}

OTHER_WORDS = {
    "add": "log", "checkout": "get", "clone": "get", "cp": "get", "download": "get", "history": "ls", "list": "ls",
    "put": "log", "remove": "delete", "rm": "delete", "show": "info", "unmount": "umount", "upload": "log",
}  # fmt: skip
"""What other programs call it, and what artfs does."""


class Root(TellsOfOutput, click.Group):
    """The group: knows its commands by name and imports `artfs.cli.commands.NAME` when one is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with without_collection():
            module = importlib.import_module(f"artfs.cli.commands.{cmd_name}")
        loaded = module.command
        assert isinstance(loaded, click.Command)
        return loaded

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches  # 5 ms, for mistakes only

            near = [OTHER_WORDS[name]] if name in OTHER_WORDS else get_close_matches(name, COMMANDS)
            hint = f"; did you mean {' or '.join(f'`artfs {each}`' for each in near)}?" if near else ""
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*global_options(hidden=False), *super().get_params(ctx)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()), col_max=14)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(n, help=s) for n, s in COMMANDS.items() if n.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            with to_stdout():
                sys.stdout.flush()
            return result
        except BrokenPipeError as error:
            # Not an OSError any more, or click would make it exit 1.
            raise _ReaderGoneError from error
        finally:
            ctx.ensure_object(App).close()


class _ReaderGoneError(Exception):
    pass


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    say(f"artfs {release()}")
    ctx.exit()


EPILOG = (
    "\b\nNames are [ENTITY/]PROJECT/COLLECTION[:ALIAS | :vN | :@TIME]; without an alias, latest is meant.\n"
    "Global options may stand before or after the command.\n\n\b\nExit codes:\n"
    + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in exits.MEANINGS.items())
)


@click.group(
    "artfs",
    cls=Root,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Print the version and exit.",
)
def cli() -> None:
    """Version datasets and models, and mount them as folders.

    \b
    artfs log ./cars vega/cars          make a version from a folder
    artfs mount ~/artfs                 see every version under ~/artfs/vega/cars/
    artfs ls vega/cars                  list its versions
    """


def run(args: Sequence[str] | None = None) -> int:
    """Runs one command line (None: sys.argv) and returns its exit code; errors are printed here and nowhere
    else."""
    app = App()
    try:
        result = cli.main(
            args=None if args is None else list(args), prog_name="artfs", standalone_mode=False, obj=app,
            color=False if wants_no_color() else None,
        )
        return result if isinstance(result, int) else exits.OK
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return exits.USAGE
    except click.ClickException as error:
        app.json = app.json or _wants_json(sys.argv[1:] if args is None else args)
        return _report(app, "usage", _with_hint(error), exits.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return _report(app, "interrupted", "interrupted", exits.INTERRUPTED)
    except _ReaderGoneError:
        _drop_stdout()
        return exits.BROKEN_PIPE
    except ArtfsError as error:
        if app.debug:
            traceback.print_exc()
        message = str(error) + _entity_hint(app, error)
        return _report(app, error.kind, message, exits.exit_code(error), getattr(error, "paths", ()))
    except Exception as error:
        if app.debug:
            traceback.print_exc()
            return exits.INTERNAL
        where = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _report(
            app,
            "internal",
            f"internal error: {where} (run it again with --debug for the traceback, and please report it)",
            exits.INTERNAL,
        )


def main() -> NoReturn:
    """The console script."""
    # A name that the terminal's encoding cannot show must not end a listing.
    _open_standard_streams()
    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        code = exits.BROKEN_PIPE
    except OSError:
        _drop_stdout()
        code = code or exits.STORAGE
    if code == exits.INTERRUPTED:
        # All is cleared up. The interpreter's own end would wait for threads that wait for a server.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _wants_json(args: Sequence[str]) -> bool:
    """Of a command line that click gave up before it came to the option."""
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options


def _with_hint(error: click.ClickException) -> str:
    # One line: click lists the choices of an argument below each other.
    text = error.format_message().replace("\n\t", " ")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{text} (see `{error.ctx.command_path} --help`)"
    return text


def _entity_hint(app: App, error: ArtfsError) -> str:
    """For whoever uses a server's catalog and did not say whose projects are meant."""
    if not isinstance(error, NotFoundError | ForbiddenError) or not re.search(rf"\b{DEFAULT_ENTITY}\b", str(error)):
        return ""
    try:
        settings = app.settings
    except ArtfsError:
        return ""
    if not settings.server or settings.entity != DEFAULT_ENTITY:
        return ""
    return f" (names without an entity are of {DEFAULT_ENTITY}; --entity NAME, ARTFS_ENTITY or the config file say another)"


def _report(app: App, kind: str, message: str, code: int, paths: Sequence[str] = ()) -> int:
    """One line on stderr, below it the paths when the line cannot name them all, and with --json the same as
    an object on stdout."""
    if app.json:
        error = {"kind": kind, "message": message, "exit_code": code}
        with contextlib.suppress(OSError):
            click.echo(json.dumps({"error": error | ({"paths": list(paths)} if paths else {})}, indent=2))
    note(f"artfs: {escape(message)}")
    if any(path not in message for path in paths):
        for path in paths:
            note(f"  {escape(path)}")
    return code


def _open_standard_streams() -> None:
    """Whoever closed them (`>&-`) gets ends that take nothing: otherwise the next file that is opened would be where others
    print, and sys.stdout is None."""
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):  # writing to a stdout for reading is EBADF
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _drop_stdout() -> None:
    # Otherwise the interpreter's own flush at exit complains about the pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
