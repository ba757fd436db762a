"""A PostgreSQL server for tests: Debian's, in a temporary folder, without fsync, gone when the tests are.

It listens on a unix socket in that folder, which only root and its own user may enter, and on a free port of 127.0.0.1 with a
random password, for processes of other users.
"""

from __future__ import annotations

import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg

from artfs.catalog import open_catalog
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.postgresql.database import PostgresqlDatabase

PATIENCE_S = 60.0
_USER = "artfs"
_SETTINGS = {
    "fsync": "off", "full_page_writes": "off", "autovacuum": "off", "max_connections": "200", "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1", "log_line_prefix": "%m %p %d ",
}


def find_programs() -> Path:
    """The folder of initdb and postgres. Debian keeps them off the PATH, one folder a version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    elsewhere = shutil.which("initdb")
    if not found and not elsewhere:
        raise AssertionError("there is no PostgreSQL here: apt-get install postgresql (`make setup` does it)")
    return found[-1].parent if found else Path(str(elsewhere)).parent


class Postgres:
    """One cluster. `start` and `stop` may alternate; its address stays the same."""

    def __init__(self, folder: Path) -> None:
        """`folder`: empty and short (the path of a socket has 107 bytes at most); it is given to PostgreSQL's user."""
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self.port = _free_port()
        self.password = secrets.token_hex(16)
        self.programs = find_programs()
        self._account: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to be run by root.
            person = _person("postgres", "nobody")
            self._account = {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}
            os.chown(folder, person.pw_uid, person.pw_gid)
        folder.chmod(0o700)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._make()

    def _make(self) -> None:
        # Names must sort by their code points whatever the database's own order is, so it has one that does not.
        order = ["--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8"]
        password = self.folder / "password"
        password.write_text(self.password)
        done = subprocess.run(
            [
                self.programs / "initdb", f"--pgdata={self.data}", f"--username={_USER}", "--encoding=UTF8", *order,
                "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}", "--no-sync", "--no-instructions",
            ],
            check=False, capture_output=True, text=True, cwd="/", **self._account,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Returns when it takes connections."""
        settings = {**_SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            # It ends with us, however we end. Not by `user=`: a change of user takes that back.
            change = [f"--{name}={self._account[key]}" for name, key in (("reuid", "user"), ("regid", "group")) if self._account]
            self._process = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig=INT", *change, *(["--clear-groups"] if change else []),
                    self.programs / "postgres", "-D", self.data, *options,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with suppress(psycopg.OperationalError), self.connect():
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start:\n{self.log.read_text()}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: connections are ended; SIGQUIT: at once, as if the machine had failed. Idempotent."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
            self._process = None

    def url(self, name: str) -> str:
        """Of a database, over the socket."""
        return f"postgresql://{_USER}@/{name}?host={self.folder}&port={self.port}"

    def tcp_url(self, name: str) -> str:
        """Of a database, over 127.0.0.1."""
        return f"postgresql://{_USER}:{self.password}@127.0.0.1:{self.port}/{name}"

    def connect(self, name: str = "postgres") -> psycopg.Connection[Any]:
        """A connection in autocommit mode."""
        return psycopg.connect(self.url(name), autocommit=True)

    def execute(self, statement: str, name: str = "postgres") -> list[Any]:
        """Runs one statement in the database `name`; returns its rows, if it has any."""
        with self.connect(name) as connection, connection.execute(statement.encode()) as cursor:
            return cursor.fetchall() if cursor.description else []

    @cached_property
    def template(self) -> str:
        """The name of a database that holds an empty catalog."""
        self.execute("CREATE DATABASE template_catalog")
        open_catalog(self.url("template_catalog"), migrate=True).close()
        return "template_catalog"

    @contextmanager
    def database(self, template: str = "template1", options: str = "") -> Iterator[str]:
        """The name of a new database, which is gone afterwards. `options`: of CREATE DATABASE."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} {options}")
        try:
            yield name
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server."""
    with tempfile.TemporaryDirectory(prefix="artfs-pg-", dir="/tmp") as folder:
        server = Postgres(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _person(*names: str) -> pwd.struct_passwd:
    for name in names:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError(f"this machine has no user {' or '.join(names)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def opened(url: str, **options: float) -> Iterator[SqlCatalog]:
    """A catalog with connections of its own. `options`: of PostgresqlDatabase."""
    database = PostgresqlDatabase(url, **options)  # type: ignore[arg-type]
    yield SqlCatalog(database)
    database.close()


def name_of(url: str) -> str:
    """The database in one of the fixtures' URLs."""
    return url.partition("?")[0].rpartition("/")[2]


def one_line(error: BaseException) -> str:
    """What it says, which is one line, and not of a library."""
    assert "\n" not in str(error)
    assert "sqlalche" not in str(error)
    return str(error)
