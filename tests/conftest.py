"""What every test gets: no state but its own, and no warning that it did not announce."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from artfs.settings import Settings, load_settings
from artfs.testing.account import Account, open_fuse_device, ordinary_account
from artfs.testing.logcheck import LogCheck
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.postgres import Postgres
from artfs.testing.postgres import postgres as postgres_server
from artfs.testing.torture import PROPERTY, Table, Tally

# How long an example takes is the machine's business.
hypothesis.settings.register_profile("artfs", deadline=None)
hypothesis.settings.load_profile("artfs")

# For the details of a failed assert. Here, because tests of several folders import them.
pytest.register_assert_rewrite("artfs.testing.catalog_contract", "artfs.testing.store_contract", "artfs.testing.bucket_contract")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--with-server", action="store_true", help="Every workspace has a server of its own instead of the embedded catalog."
    )
    parser.addoption(
        "--scale", choices=["short", "full"], default="short", help="How much torture: some minutes of it, or all."
    )


def pytest_configure(config: pytest.Config) -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        # Whoever runs the tests in the background of a shell ignores them, and so would all programs that tests interrupt.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    config.addinivalue_line("markers", "embedded(why): of the embedded catalog and its store only")
    Workspace.with_server = bool(config.getoption("--with-server"))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Table())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if Workspace.with_server:
        left_out = [item for item in items if item.get_closest_marker("embedded")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def private_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads or writes the state folder or the config file of whoever runs the tests."""
    config = tmp_path / "config.toml"
    config.touch()
    monkeypatch.setenv("ARTFS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ARTFS_CONFIG", str(config))
    monkeypatch.setenv("ARTFS_CACHE_PATH", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def log_check() -> Iterator[LogCheck]:
    with LogCheck() as check:
        yield check


@pytest.fixture
def expect_log(log_check: LogCheck) -> Callable[..., None]:
    """`expect_log(pattern, level=logging.WARNING, count=None)`: announces a log record; see LogCheck.expect."""
    return log_check.expect


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`scale(short, full)`: the one that `--scale` asks for."""
    return lambda short, full: full if request.config.getoption("--scale") == "full" else short


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """`tally(what, times=1)`: counts what this test tries, for the table at the end."""
    made = Tally()
    yield made
    if not made.tried:
        made(re.split(r"[:;.]( |$)", (request.module.__doc__ or request.module.__name__).splitlines()[0])[0])
    request.node.user_properties.append((PROPERTY, made.tried))


@pytest.fixture
def settings(private_environment: None) -> Settings:
    """Settings with a state folder of this test's own, made."""
    made = load_settings()
    made.make_home()
    return made


@pytest.fixture(scope="session")
def ordinary() -> Iterator[Account]:
    """An account without privileges."""
    with ordinary_account() as account:
        yield account


@pytest.fixture
def workspaces() -> Iterator[ExitStack]:
    """Removes the workspaces of a test, after its daemons have ended."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def workspace(workspaces: ExitStack) -> Workspace:
    """A state folder and a mountpoint, of whoever runs the tests."""
    made = Workspace()
    workspaces.callback(made.remove)
    return made


@pytest.fixture
def ordinary_workspace(workspaces: ExitStack, ordinary: Account) -> Workspace:
    """A state folder and a mountpoint of an account without privileges."""
    made = Workspace(ordinary)
    workspaces.callback(made.remove)
    return made


@pytest.fixture
def make_daemon(workspaces: ExitStack) -> Iterator[Callable[..., Daemon]]:
    """`make_daemon(workspace, arguments=(), environ=None)`: a Daemon, not started; ended and checked afterwards."""
    open_fuse_device()
    with ExitStack() as stack:

        def make(workspace: Workspace, *arguments: Any, **options: Any) -> Daemon:
            daemon = Daemon(workspace, *arguments, **options)
            stack.callback(daemon.check_log)
            stack.callback(daemon.close)
            return daemon

        yield make


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of these tests' own; it takes a second to make."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of a database with an empty catalog."""
    with postgres.database(postgres.template) as name:
        yield postgres.url(name)


@pytest.fixture
def daemon(workspace: Workspace, make_daemon: Callable[..., Daemon]) -> Daemon:
    """A running daemon over `workspace`; its mountpoint is `daemon.mountpoint`."""
    return make_daemon(workspace).start()
