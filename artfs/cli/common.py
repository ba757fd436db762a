"""What every command shares: the global options, the open session, the `--json` flag and the command
class."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from artfs.cli.output import escape, note, on_terminal, to_stdout
from artfs.cli.progress import ProgressView
from artfs.errors import UsageError
from artfs.model.names import check_entity_name, check_project_name
from artfs.settings import Settings, load_settings

if TYPE_CHECKING:
    from artfs.api.session import Session
    from artfs.client.http import Http

Function = TypeVar("Function", bound=Callable[..., Any])


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Imports in it are some 15 % quicker: they make many objects that all stay, which the cyclic collector would
    look through again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class App:
    """One run of the command line: what the global options said, and what was opened for it.

    Attributes:
        overrides: the settings given as options (home, entity, project).
        quiet: print results and errors only.
        debug: show tracebacks.
        json: the command was asked for JSON (errors are then JSON on stdout, too).
    """

    def __init__(self) -> None:
        self.overrides: dict[str, str] = {}
        self.quiet = False
        self.debug = False
        self.json = False
        self._session: Session | None = None

    @functools.cached_property
    def settings(self) -> Settings:
        """Raises UsageError for a bad setting, InvalidNameError for a bad entity or project."""
        settings = load_settings(None, **self.overrides)
        check_entity_name(settings.entity)
        check_project_name(settings.project)
        return settings

    @property
    def session(self) -> Session:
        """The state folder, opened on first use; closed when the command ends."""
        if self._session is None:
            # Here and not above: SQLAlchemy costs more than most commands, and several need no catalog.
            with without_collection():
                from artfs.api.session import open_session

                self._session = open_session(self.settings)
            if self._session.remote is not None:
                self._session.remote.reach.on_move = self._network_moved
                self._session.remote.reach.on_stale = lambda why: self.note(f"names are as they were last seen ({why})")
        return self._session

    @contextlib.contextmanager
    def connected(self) -> Iterator[Http]:
        """A connection to the server that the settings name, for calls that are not those of a catalog; a person is told when it
        does not answer."""
        from artfs.client.credentials import Credentials
        from artfs.client.http import Http
        from artfs.client.reach import Reach

        http = Http.of(self.settings, Credentials().find(self.settings))
        reach = Reach(self.settings.server, patience_s=self.settings.network_timeout_s)
        reach.on_move = self._network_moved
        http.on_contact = reach.contact
        try:
            yield http
        finally:
            reach.close()
            http.close()

    def _network_moved(self, is_online: bool, what: str) -> None:
        server = self.settings.server
        self.note(f"{server} answers again" if is_online else f"{server} does not answer ({what}); trying again")

    def need_own_catalog(self, instead: str) -> None:
        """For what works on this machine's own catalog only. `instead`: what there is with a server. Raises UsageError."""
        if self.settings.server:
            raise UsageError(
                f"this is for the catalog of this machine, and {self.settings.server} is used; {instead} "
                "(with ARTFS_SERVER= before the command, set to nothing, it works on this machine's own)"
            )

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def progress(self) -> ProgressView:
        """A view to pass as `on_progress`, as a context manager."""
        return ProgressView(quiet=self.quiet or self.json)

    def note(self, text: str) -> None:
        """Tells a person something that is not the result (stderr), escaped; nothing with --quiet."""
        if not self.quiet:
            note(escape(text))


HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
pass_app = click.make_pass_decorator(App, ensure=True)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is None or value is False:
        return
    app = ctx.ensure_object(App)
    assert param.name is not None
    if param.name in ("quiet", "debug"):
        setattr(app, param.name, True)
    else:
        app.overrides[param.name] = value


def global_options(*, hidden: bool) -> list[click.Parameter]:
    """The options that may stand before or after the command's name; after it they are not repeated in its
    help."""
    shared: dict[str, Any] = {"expose_value": False, "hidden": hidden, "callback": _remember}
    return [
        click.Option(
            ["--home"],
            metavar="DIR",
            help="State folder: catalog, store, drafts. [env: ARTFS_HOME]",
            **shared,
        ),
        click.Option(
            ["--entity"],
            metavar="NAME",
            help="Whose projects; completes a name without one. [env: ARTFS_ENTITY]",
            **shared,
        ),
        click.Option(
            ["--project"],
            metavar="NAME",
            help="Completes a name without a project. [env: ARTFS_PROJECT]",
            **shared,
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            help="Print results and errors only: no progress, no notes.",
            **shared,
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            envvar="ARTFS_DEBUG",
            help="Show the traceback of an error. [env: ARTFS_DEBUG=1]",
            **shared,
        ),
    ]


class TellsOfOutput(click.Command):
    """click prints the help while it parses."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with to_stdout():
            return super().parse_args(ctx, args)


class Command(TellsOfOutput):
    """A click command that takes the global options, too."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *global_options(hidden=True)]


class Group(TellsOfOutput, click.Group):
    """A click group whose commands take the global options, too."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *global_options(hidden=True)]


def artfs_command(name: str, group: click.Group | None = None) -> Callable[[Callable[..., Any]], Command]:
    """Makes a function an artfs command called `name` (of `group`, if given); its docstring is the help."""

    def make(function: Callable[..., Any]) -> Command:
        made = click.command(name, cls=Command, context_settings=HELP_OPTIONS)(function)
        if group is not None:
            group.add_command(made)
        return made

    return make


def _set_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(App).json = True


def json_option(function: Function) -> Function:
    """Adds `--json`; the command reads `app.json`."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set_json,
        help="Print JSON: bytes, UTC times, names as they are.",
    )(function)


def protected_option(function: Function) -> Function:
    """Adds `--allow-protected`, for what gives, moves or removes aliases."""
    return click.option(
        "--allow-protected",
        is_flag=True,
        envvar="ARTFS_ALLOW_PROTECTED",
        help="Also protected aliases. [env: ARTFS_ALLOW_PROTECTED=1]",
    )(function)


def yes_option(function: Function) -> Function:
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def agreed(question: str, *, yes: bool) -> bool:
    """Whether to go on: asks when a person sits at the terminal and `yes` is False; otherwise the command
    line is the answer."""
    if yes or not on_terminal():
        return True
    return click.confirm(escape(question), err=True)
