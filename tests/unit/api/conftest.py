"""Real catalog, real store, in a folder of the test's own. The process's own session follows ARTFS_HOME,
which `private_environment` sets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import artfs
from artfs.api.ambient import session_for
from artfs.api.artifact import Artifact
from artfs.api.session import Session
from artfs.catalog import open_catalog
from artfs.settings import Settings
from artfs.testing.inprocess import serving
from artfs.testing.mount import Workspace

MakeFiles = Callable[..., Path]
LogFiles = Callable[..., Artifact]
RunPython = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Making a catalog runs the migrations, which takes a while: most tests begin with a copy."""
    path = tmp_path_factory.mktemp("template") / "catalog.db"
    open_catalog(path).close()
    return path


@pytest.fixture
def session(
    settings: Settings, template: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Session]:
    """The process's own session; the current directory is the test's own, too (`./artifacts` is below it)."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with ExitStack() as stack:
        if Workspace.with_server:
            home = tmp_path / "server"
            home.mkdir()
            shutil.copy(template, home / "catalog.db")
            monkeypatch.setenv("ARTFS_SERVER", stack.enter_context(serving(home)))
        else:
            shutil.copy(template, settings.catalog_path)
        opened = stack.enter_context(closing(session_for()))
        yield opened


@pytest.fixture(scope="module")
def log_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """`log_once(folder)`: a state folder with the version local/p/ds:v0 of these files, for tests that each begin with a
    copy of it (`open_copy`): logging waits for the disk."""

    def log(folder: Path) -> Path:
        home = tmp_path_factory.mktemp("logged")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ARTFS_HOME", str(home))
            artifact = Artifact("ds", "dataset")
            artifact.add_dir(folder)
            artifact.save("p")
            session_for().close()
        return home

    return log


@pytest.fixture
def open_copy(settings: Settings) -> Iterator[Callable[[Path], Session]]:
    """`open_copy(home)`: the process's own session, whose state folder is a copy of `home`."""
    opened: list[Session] = []

    def open_copied(home: Path) -> Session:
        shutil.copytree(home, settings.home, dirs_exist_ok=True)
        opened.append(session_for())
        return opened[-1]

    yield open_copied
    for session in opened:
        session.close()


@pytest.fixture
def run_python() -> RunPython:
    """`run_python(code)`: in a new interpreter that imports the same artfs."""

    def run(code: str) -> subprocess.CompletedProcess[str]:
        environ = os.environ | {"PYTHONPATH": str(Path(artfs.__file__).parents[1])}
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)

    return run


@pytest.fixture
def make_files(tmp_path: Path) -> MakeFiles:
    """`make_files("folder", {"a/b.txt": "text"})`: a folder with these files, a str ending in "/" is a
    directory."""

    def make(folder: str, files: dict[str, str | bytes]) -> Path:
        root = tmp_path / folder
        root.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = root / name
            if name.endswith("/"):
                path.mkdir(parents=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return root

    return make


@pytest.fixture
def log_files(session: Session) -> LogFiles:
    """`log_files("name", {"a.txt": "text"}, type="dataset")`: the files as a new version in the default
    project."""

    def log(name: str, files: dict[str, str], type: str = "dataset") -> Artifact:
        artifact = Artifact(name, type)
        for path, text in files.items():
            with artifact.new_file(path) as stream:
                stream.write(text)
        artifact.save()
        return artifact

    return log
