from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from artfs.client.credentials import Credentials, set_server
from artfs.errors import UsageError
from artfs.settings import load_settings

SERVER = "https://artfs.example.org"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "config"


def find(folder: Path, server: str = SERVER, **more: Any) -> str:
    return Credentials(folder).find(load_settings(server=server, **more))


def test_a_token_is_kept_in_a_file_of_ones_own(folder: Path) -> None:
    where = Credentials(folder).keep(SERVER, "artfs_one")
    assert where == str(folder / "tokens.json")
    assert (folder / "tokens.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert find(folder) == "artfs_one"
    assert find(folder, "https://other.example.org") == ""
    Credentials(folder).keep("http://localhost:1", "artfs_two")
    assert (find(folder), find(folder, "http://localhost:1")) == ("artfs_one", "artfs_two")
    assert Credentials(folder).forget(SERVER)
    assert not Credentials(folder).forget(SERVER)
    assert (find(folder), find(folder, "http://localhost:1")) == ("", "artfs_two")


def test_a_file_that_others_can_read_is_refused(folder: Path) -> None:
    Credentials(folder).keep(SERVER, "artfs_one")
    (folder / "tokens.json").chmod(0o640)
    with pytest.raises(UsageError, match="others can read"):
        find(folder)
    (folder / "tokens.json").chmod(0o600)
    for text in ("{", "[1]"):
        (folder / "tokens.json").write_text(text)
        with pytest.raises(UsageError, match="cannot read"):
            find(folder)


def test_the_environment_comes_first_then_systemd(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Credentials(folder).keep(SERVER, "artfs_file")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert find(folder) == "artfs_file"
    (tmp_path / "artfs-token").write_text("artfs_systemd\n")
    assert find(folder) == "artfs_systemd"
    monkeypatch.setenv("ARTFS_TOKEN", "artfs_env")
    assert find(folder) == "artfs_env"


def fake_keyring(kept: dict[tuple[str, str], str], *, locked: bool = False) -> dict[str, types.ModuleType]:
    """The parts of the package `keyring` that are used."""
    keyring, errors, backends = (types.ModuleType(name) for name in ("keyring", "keyring.errors", "keyring.backends"))
    fail, null = types.ModuleType("keyring.backends.fail"), types.ModuleType("keyring.backends.null")

    class KeyringError(Exception):
        pass

    def use(act: Any) -> Any:
        if locked:
            raise KeyringError("locked")
        return act()

    fail.Keyring = type("Keyring", (), {})  # type: ignore[attr-defined]
    null.Keyring = type("Keyring", (), {})  # type: ignore[attr-defined]
    errors.KeyringError = KeyringError  # type: ignore[attr-defined]
    backends.fail, backends.null = fail, null  # type: ignore[attr-defined]
    keyring.errors, keyring.backends = errors, backends  # type: ignore[attr-defined]
    keyring.get_keyring = lambda: object()  # type: ignore[attr-defined]
    keyring.set_password = lambda service, name, text: use(lambda: kept.update({(service, name): text}))  # type: ignore[attr-defined]
    keyring.get_password = lambda service, name: use(lambda: kept.get((service, name)))  # type: ignore[attr-defined]
    keyring.delete_password = lambda service, name: use(lambda: kept.pop((service, name)))  # type: ignore[attr-defined]
    return {
        "keyring": keyring, "keyring.errors": errors, "keyring.backends": backends, "keyring.backends.fail": fail,
        "keyring.backends.null": null,
    }


def install(monkeypatch: pytest.MonkeyPatch, modules: dict[str, types.ModuleType]) -> None:
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_a_keyring_is_used_where_there_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[str, str], str] = {}
    install(monkeypatch, fake_keyring(kept))
    assert Credentials(folder).keep(SERVER, "artfs_one") == "the keyring"
    assert kept == {("artfs", SERVER): "artfs_one"}
    assert "artfs_one" not in (folder / "tokens.json").read_text()
    assert find(folder) == "artfs_one"
    assert Credentials(folder).forget(SERVER)
    assert kept == {}


def test_a_keyring_that_is_locked_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_keyring({}, locked=True))
    assert Credentials(folder).keep(SERVER, "artfs_one") == str(folder / "tokens.json")
    assert find(folder) == "artfs_one"
    (folder / "tokens.json").write_text(json.dumps({SERVER: {"keyring": True}}))
    with pytest.raises(UsageError, match="locked"):
        find(folder)


def test_without_the_package_what_is_in_a_keyring_cannot_be_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    Credentials(folder).keep(SERVER, "artfs_one")
    (folder / "tokens.json").write_text(json.dumps({SERVER: {"keyring": True}}))
    with pytest.raises(UsageError, match="ARTFS_TOKEN"):
        find(folder)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f'server = "{SERVER}"\n'),
        ('entity = "me"', f'entity = "me"\nserver = "{SERVER}"\n'),
        ('# mine\nserver = "http://old"\nentity = "me"\n', f'# mine\nserver = "{SERVER}"\nentity = "me"\n'),
    ],
)
def test_the_config_file_keeps_everything_else(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(before)
    path.chmod(0o644)
    set_server(SERVER, path)
    assert path.read_text() == after
    assert path.stat().st_mode & 0o777 == 0o644
    assert load_settings({"ARTFS_CONFIG": str(path)}).server == SERVER
    set_server("", path)
    assert path.read_text() == "".join(line for line in after.splitlines(True) if not line.startswith("server"))


def test_a_config_file_is_made_when_missing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.toml"
    set_server("", path)
    assert not path.exists()
    set_server(SERVER, path)
    assert path.stat().st_mode & 0o777 == 0o600
