"""What opening artfs opens, and what importing it does not load."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import artfs
from artfs.api.ambient import session_for
from artfs.api.artifact import Artifact
from artfs.api.public import Api
from artfs.api.session import Session, open_session
from artfs.errors import CatalogError, UsageError
from artfs.settings import load_settings
from artfs.testing.inprocess import serving

FRAMEWORKS = {"click", "rich", "trio", "pyfuse3", "sqlalchemy", "alembic"}
HEAVY = FRAMEWORKS | {"asyncio", "msgspec", "artfs.api", "artfs.catalog", "artfs.store"}


def loaded_by(run_python: Any, code: str) -> set[str]:
    done = run_python(f"{code}\nimport sys\nprint('\\n'.join(sys.modules))")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_artfs_loads_nothing_of_it(run_python: Any) -> None:
    assert not loaded_by(run_python, "import artfs").intersection(HEAVY)


def test_naming_its_parts_loads_no_framework(run_python: Any) -> None:
    loaded = loaded_by(run_python, "import artfs; artfs.Artifact, artfs.init, artfs.Api, artfs.open_session")
    assert "artfs.api.session" in loaded
    assert not loaded.intersection(FRAMEWORKS)


@pytest.mark.embedded("httpx loads more")
def test_opening_an_existing_catalog_loads_no_alembic(session: Session, run_python: Any) -> None:
    loaded = loaded_by(run_python, "import artfs; artfs.open_session(artfs.load_settings()).close()")
    assert loaded.intersection(FRAMEWORKS) == {"sqlalchemy"}


def test_every_public_name() -> None:
    for name in artfs.__all__:
        assert getattr(artfs, name) is not None
        assert name in dir(artfs)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        artfs.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert artfs.errors.ArtfsError is artfs.ArtfsError


def test_open_session_makes_the_state_folder(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "new")
    with open_session(settings) as session:
        assert session.settings is settings
        assert session.catalog.entities() == []
        assert list(session.store.blobs()) == []
        assert repr(session) == f"<Session {tmp_path}/new>"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    session.close()
    with pytest.raises(CatalogError):
        session.catalog.entities()


def test_open_session_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="state folder"):
        open_session(load_settings(home=tmp_path / "file"))


def test_the_process_has_one_session_for_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = session_for()
    assert session_for() is first
    assert session_for(load_settings()) is first
    monkeypatch.setenv("ARTFS_HOME", str(tmp_path / "other"))
    second = session_for()
    assert second.settings.home == tmp_path / "other"
    first.catalog.entities()
    catalog = first.catalog
    del first
    gc.collect()
    with pytest.raises(CatalogError):
        catalog.entities()  # closed with the last who could use it
    second.close()


def test_sessions_with_a_server_leave_nothing_when_nobody_uses_them(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "server"
    home.mkdir()
    shutil.copy(template, home / "catalog.db")
    counts = []
    with serving(home) as url:
        monkeypatch.setenv("ARTFS_SERVER", url)
        artifact = Artifact("ds", "dataset")
        with artifact.new_file("f") as stream:
            stream.write("1")
        artifact.save("p")
        for number in range(6):
            monkeypatch.setenv("ARTFS_HOME", str(tmp_path / f"home{number}"))
            monkeypatch.setenv("ARTFS_CACHE_PATH", str(tmp_path / f"cache{number}"))
            Api().artifact("p/ds").download(tmp_path / f"out{number}")
            gc.collect()
            counts.append(len(os.listdir("/proc/self/fd")))
        session_for().close()
    # Each has six, four were made since; the server's own connections come and go.
    assert counts[-1] < counts[1] + 12
