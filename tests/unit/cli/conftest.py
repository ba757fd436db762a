"""The command line run in this process: `artfs("log", path, "p/c")` on a state folder of the test's own."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.api.session import Session, open_session
from artfs.cli.main import run
from artfs.settings import Settings
from artfs.testing.account import ROOT
from artfs.testing.commandresult import Result

Artfs = Callable[..., Result]


@pytest.fixture(autouse=True)
def thaw() -> Iterator[None]:
    """Undoes gc.freeze, which a command line may call as it owns its process."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State folders that tests begin with a copy of, as making them anew takes longer than most tests: `empty`, and `two`,
    which is what `two_versions` describes; `cars` is the folder that its v1 was made of."""
    root = tmp_path_factory.mktemp("prepared")
    make_cars(root / "cars")
    (root / "config.toml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARTFS_CONFIG", str(root / "config.toml"))
        patch.setenv("ARTFS_HOME", str(root / "two"))
        lines = [
            ["ls", "-q", "--home", str(root / "empty")],
            ["log", "-q", str(root / "cars"), "vega/cars", "--alias", "old", "-m", "rows=1"],
            ["log", "-q", str(root / "cars"), "vega/cars", "-d", "more rows", "-t", "checked"],
        ]
        codes = [run(lines[0]), run(lines[1])]
        change_cars(root / "cars")
        assert [*codes, run(lines[2])] == [0, 0, 0]
    return root


def make_cars(root: Path) -> None:
    (root / "images").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "cars.csv").write_text("name,year\nbeetle,1938\n")
    (root / "images" / "show.sh").write_text("#!/bin/sh\n")
    (root / "images" / "show.sh").chmod(0o755)
    (root / "big.bin").write_bytes(bytes(range(256)) * 5000)
    (root / "link").symlink_to("images/show.sh")


def change_cars(root: Path) -> None:
    (root / "cars.csv").write_text("name,year\nbeetle,1938\nmini,1959\n")
    (root / "new.txt").write_text("new\n")
    (root / "images" / "show.sh").unlink()
    (root / "link").unlink()


@pytest.fixture
def artfs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prepared: Path
) -> Artfs:
    """Runs `artfs ARGUMENTS` in tmp_path, on an empty state folder. `code`: the exit code that is expected (0); None: any."""
    monkeypatch.chdir(tmp_path)
    # A child finds the packages, wherever the test's working folder is.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'daemon'}")
    shutil.copytree(prepared / "empty", tmp_path / "home", dirs_exist_ok=True)

    def call(*arguments: str | os.PathLike[str], code: int | None = 0) -> Result:
        capsys.readouterr()
        found = run([os.fspath(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert code in (found, None), f"exit code {found}\n{captured.out}{captured.err}"
        return Result(found, captured.out, captured.err)

    return call


@pytest.fixture
def refused(artfs: Artfs) -> Callable[..., str]:
    """Runs a command line that must fail with `code` and one line on stderr; returns that line without "artfs: "."""

    def call(*arguments: str | os.PathLike[str], code: int) -> str:
        result = artfs(*arguments, code=code)
        assert result.out == ""
        assert result.err.startswith("artfs: ")
        assert result.err.endswith("\n")
        assert result.err.count("\n") == 1
        return result.err.removeprefix("artfs: ").rstrip("\n")

    return call


@pytest.fixture
def session(artfs: Artfs, settings: Settings) -> Iterator[Session]:
    """The same state folder, open."""
    with open_session(settings) as opened:
        yield opened


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    """A folder: two small files, one of them executable and in a folder, one of three blocks, a link, an empty folder."""
    make_cars(tmp_path / "cars")
    return tmp_path / "cars"


@pytest.fixture
def two_versions(artfs: Artfs, cars: Path, prepared: Path, tmp_path: Path) -> Path:
    """vega/cars with v0 (alias old) and v1 (a file changed, one added, two removed), as `cars` is then."""
    shutil.rmtree(tmp_path / "home")
    shutil.copytree(prepared / "two", tmp_path / "home")
    change_cars(cars)
    return cars
