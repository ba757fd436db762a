"""Making, checking and refusing catalog files."""

import errno
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from subprocess import Popen

import pytest

from artfs.catalog import open_catalog
from artfs.catalog.sql.migrate import migrate
from artfs.catalog.sql.sqlite.database import SqliteDatabase
from artfs.catalog.sql.sqlite.opening import open_file
from artfs.errors import CatalogError, CatalogVersionError, StorageError, UsageError
from artfs.testing.catalog_contract.making import C, E, P, log

StartPython = Callable[..., Popen[str]]

def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_new_catalog_is_private_and_in_wal_mode(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with open_catalog(tmp_path / "new" / "home" / "catalog.db") as catalog:
            log(catalog, 1)
            files = {path.name: path.stat().st_mode & 0o777 for path in catalog.database.path.parent.iterdir()}
            assert catalog.database.path.parent.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)
    assert set(files) == {"catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db.lock"}
    assert set(files.values()) == {0o600}
    assert pragma(catalog.database.path, "journal_mode") == "wal"


def test_closing_leaves_one_file_and_its_lock(tmp_path: Path) -> None:
    with open_catalog(tmp_path / "home" / "catalog.db") as catalog:
        log(catalog, 1)
        catalog.change_token()
    assert {path.name for path in catalog.database.path.parent.iterdir()} == {"catalog.db", "catalog.db.lock"}


@pytest.mark.parametrize("name", ["a b", "100%25?mode=ro", "#x;y", "é\n"])
def test_any_path_will_do(tmp_path: Path, template: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    path = Path(shutil.copy(template, tmp_path / name / "catalog.db"))
    with open_catalog(path) as catalog:
        log(catalog, 1)
    with open_catalog(str(path)) as catalog:
        assert catalog.resolve(E, P, C, "latest").index == 0


def test_a_url_will_do(empty_catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_catalog(f"sqlite:///{empty_catalog}") as catalog:
        assert catalog.database.path == empty_catalog
    monkeypatch.chdir(empty_catalog.parent)
    with open_catalog(f"sqlite:///{empty_catalog.name}") as catalog:
        assert catalog.database.path == empty_catalog
    for wrong in ("mongodb://host/db", "mysql:///db", "sqlite://", "sqlite:///", ""):
        with pytest.raises(UsageError, match="not a catalog"):
            open_catalog(wrong)


def test_opening_a_catalog_imports_neither_alembic_nor_the_orm_nor_what_servers_need(
    empty_catalog: Path, python: StartPython
) -> None:
    code = (
        "import sys; from artfs.catalog import open_catalog\n"
        "assert 'sqlalchemy' not in sys.modules\n"
        "open_catalog(sys.argv[1]).projects('local')\n"
        "print([name for name in ('alembic', 'mako', 'sqlalchemy.orm', 'psycopg', 'sqlalchemy.dialects.postgresql',"
        " 'artfs.catalog.sql.ledger.schema', 'artfs.model.access') if name in sys.modules])"
    )
    out, err = python(code, empty_catalog).communicate()
    assert (out, err) == ("[]\n", "")


def test_processes_that_open_a_new_catalog_at_once_all_succeed(tmp_path: Path, python: StartPython) -> None:
    path = tmp_path / "catalog.db"
    code = "import sys; from artfs.catalog import open_catalog; open_catalog(sys.argv[1]).create_project('e', sys.argv[2])"
    processes = [python(code, path, f"p{number}") for number in range(4)]
    assert [process.communicate()[1] for process in processes] == [""] * 4
    with open_catalog(path) as catalog:
        assert [project.name for project in catalog.projects("e")] == ["p0", "p1", "p2", "p3"]


def test_a_creation_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    path.touch()
    with open_catalog(path) as catalog:
        catalog.create_project(E, P)
    # And one step later: WAL is on, but no table is there.
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert path.stat().st_size > 0
    with open_catalog(path) as catalog:
        assert catalog.projects(E) == []


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The whole migration is one transaction: with a table in the way of the last step, the first is undone."""
    path = tmp_path / "catalog.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE run_versions (x)")
    database = SqliteDatabase(path)
    with pytest.raises(CatalogError, match="already exists"):
        migrate(database)
    database.close()
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert tables == [("run_versions",)]
        assert connection.execute("PRAGMA application_id").fetchone() == (0,)


def test_preparing_waits_for_whoever_else_prepares(tmp_path: Path) -> None:
    with (tmp_path / "catalog.db.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CatalogError, match="another process has been preparing"):
            open_file(tmp_path / "catalog.db", busy_timeout_s=0.05)
    assert not (tmp_path / "catalog.db").exists()


def test_a_backup_can_be_opened(tmp_path: Path, empty_catalog: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    with open_catalog(empty_catalog) as catalog:
        log(catalog, 1, metadata={"n": 1})
        catalog.backup(copies / "copy.db")
        log(catalog, 2)
    assert [found.name for found in copies.iterdir()] == ["copy.db"]
    with open_catalog(copies / "copy.db") as copy:
        assert copy.resolve(E, P, C, "latest").version.metadata == {"n": 1}
        assert log(copy, 3).index == 1


# what is refused --------------------------------------------------------------------------------------------------


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    assert "sqlalche" not in str(error)
    return str(error)


def test_a_newer_schema_is_refused(empty_catalog: Path) -> None:
    with closing(sqlite3.connect(empty_catalog)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(CatalogVersionError, match=r"newer artfs .*9999.*: update artfs") as caught:
        open_catalog(empty_catalog)
    one_line(caught.value)


@pytest.mark.parametrize("content", [b"no database at all, but long enough to have a header" * 9, b"x"])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(content)
    with pytest.raises(CatalogError, match="is not a catalog: it is no SQLite database") as caught:
        open_catalog(path)
    one_line(caught.value)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
        connection.commit()
    content = path.read_bytes()
    with pytest.raises(CatalogError, match="database of another program") as caught:
        open_catalog(path)
    one_line(caught.value)
    assert path.read_bytes() == content


def test_a_catalog_without_its_revision_is_refused(empty_catalog: Path) -> None:
    with closing(sqlite3.connect(empty_catalog)) as connection:
        connection.execute("DELETE FROM alembic_version")
        connection.commit()
    with pytest.raises(CatalogError, match="damaged"):
        open_catalog(empty_catalog)


def test_a_damaged_catalog_is_refused(empty_catalog: Path) -> None:
    content = bytearray(empty_catalog.read_bytes())
    content[100:8192] = bytes(8092)
    empty_catalog.write_bytes(content)
    with pytest.raises(CatalogError) as caught:
        open_catalog(empty_catalog)
    one_line(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no regular file"):
        open_catalog(tmp_path)


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        open_catalog(tmp_path / "file" / "catalog.db")
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)
    one_line(caught.value)


@pytest.fixture
def others_home() -> Iterator[Path]:
    """A folder that an ordinary user can reach (pytest's own belong to whoever runs the tests)."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_file_that_may_not_be_written_is_refused(
    others_home: Path, template: Path, python: StartPython
) -> None:
    path = Path(shutil.copy(template, others_home / "catalog.db"))
    code = (
        # root may write everything, so it becomes somebody else; what it needs is loaded before.
        "import os, sys; from artfs.catalog import open_catalog; from artfs.catalog.sql.sqlite import opening\n"
        "from artfs.errors import StorageError\n"
        "path = sys.argv[1]; folder = os.path.dirname(path)\n"
        "if os.getuid() == 0:\n"
        "    for name in (path, folder): os.chown(name, 12345, 12345)\n"
        "    os.setresuid(12345, 12345, 12345)\n"
        "for modes in sys.argv[2:]:\n"
        "    file_mode, folder_mode = (int(mode, 8) for mode in modes.split(','))\n"
        "    os.chmod(path, file_mode); os.chmod(folder, folder_mode)\n"
        "    try: open_catalog(path)\n"
        "    except StorageError as error: print(error.errno, str(error).count(chr(10)))\n"
        "    os.chmod(folder, 0o755)"
    )
    out, err = python(code, path, "444,755", "000,755", "600,555", "600,000").communicate()
    wanted = (errno.EROFS, errno.EACCES, errno.EROFS, errno.EACCES)
    assert (out, err) == ("".join(f"{number} 0\n" for number in wanted), "")
