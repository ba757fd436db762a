"""What a server knows us by, and where that is kept.

In this order: the setting `token` (ARTFS_TOKEN), the systemd credential `artfs-token`, what `artfs login` kept for the server: in
the system's keyring where there is one, otherwise in `tokens.json` beside the config file (mode 0600).
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from artfs.errors import StorageError, UsageError
from artfs.settings import Settings, config_path, service_environment

CREDENTIAL = "artfs-token"
_SERVICE = "artfs"
_IN_KEYRING = {"keyring": True}


class Credentials:
    """The tokens that this account keeps, by server. `folder`: where the config file is. `path`: the file that has them."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or config_path().parent
        self.path = self._folder / "tokens.json"

    def find(self, settings: Settings) -> str:
        """The token for `settings.server`; "": none is known. Raises UsageError for files that others could read or that
        cannot be read."""
        if settings.token:
            return settings.token
        folder = service_environment().credentials
        if folder is not None:
            try:
                return (folder / CREDENTIAL).read_text().strip()
            except FileNotFoundError:
                pass
            except (OSError, UnicodeError) as error:
                raise UsageError(f"cannot read the credential {folder / CREDENTIAL}: {error}") from error
        kept = self._read().get(settings.server)
        if kept == _IN_KEYRING:
            return _from_keyring(settings.server)
        return kept if isinstance(kept, str) else ""

    def all_kept(self) -> list[str]:
        """Every token that can be had without asking the keyring, of any server; of files that others can read, too."""
        found = []
        folder = service_environment().credentials
        if folder is not None:
            with suppress(OSError):
                found.append((folder / CREDENTIAL).read_text(errors="surrogateescape").strip())
        with suppress(OSError, ValueError):
            tokens = json.loads(self.path.read_text(encoding="utf-8"))
            found += [kept for kept in tokens.values() if isinstance(kept, str)] if isinstance(tokens, dict) else []
        return found

    def keep(self, server: str, token: str) -> str:
        """Keeps it, in the place of what was kept; returns where, for people. `token` "": nothing is kept."""
        tokens = self._read()
        if not token:
            self.forget(server)
            return "nowhere"
        keyring = usable_keyring()
        if keyring is not None:
            try:
                keyring.set_password(_SERVICE, server, token)
            except keyring.errors.KeyringError:
                keyring = None  # locked, or the person said no
        tokens[server] = _IN_KEYRING if keyring is not None else token
        self._write(tokens)
        return "the keyring" if keyring is not None else str(self.path)

    def forget(self, server: str) -> bool:
        """Whether there was one."""
        tokens = self._read()
        kept = tokens.pop(server, None)
        if kept is None:
            return False
        if kept == _IN_KEYRING and (keyring := usable_keyring()) is not None:
            try:
                keyring.delete_password(_SERVICE, server)
            except keyring.errors.KeyringError as error:
                raise StorageError(f"the keyring does not give up the token of {server}: {error}") from error
        self._write(tokens)
        return True

    def _read(self) -> dict[str, Any]:
        try:
            with self.path.open(encoding="utf-8") as file:
                status = os.fstat(file.fileno())
                tokens = json.load(file)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"cannot read {self.path}: {error}; `artfs login` writes it anew when it is gone") from error
        if status.st_mode & 0o077 or status.st_uid not in (os.geteuid(), 0):
            raise UsageError(f"others can read {self.path}, which has tokens: `chmod 600` it, and have the tokens revoked")
        if not isinstance(tokens, dict):
            raise UsageError(f"cannot read {self.path}: it is no JSON object; `artfs login` writes it anew when it is gone")
        return tokens

    def _write(self, tokens: dict[str, Any]) -> None:
        write_private(self.path, json.dumps(tokens, indent=1).encode() + b"\n", 0o600)


def usable_keyring() -> ModuleType | None:
    """The package `keyring`, when it is installed and this machine has a place to keep secrets."""
    try:
        import keyring
        import keyring.errors
        from keyring.backends import fail, null
    except ImportError:
        return None
    if isinstance(keyring.get_keyring(), fail.Keyring | null.Keyring):
        return None
    found: ModuleType = keyring
    return found


def _from_keyring(server: str) -> str:
    keyring = usable_keyring()
    if keyring is None:
        raise UsageError(f"the token of {server} is in a keyring that cannot be reached from here; set ARTFS_TOKEN")
    try:
        return keyring.get_password(_SERVICE, server) or ""
    except keyring.errors.KeyringError as error:
        raise UsageError(f"the keyring does not give the token of {server}: {error}") from error


def write_private(path: Path, data: bytes, mode: int) -> None:
    """Replaces a file in one step; its folder is made 0700 when missing. Raises StorageError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = path.resolve() if path.is_symlink() else path
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            os.fchmod(descriptor, mode)
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise StorageError.wrap(error, f"writing {path}") from error


def set_server(server: str, path: Path | None = None, *, entity: str | None = None) -> Path:
    """Writes the setting `server` to the config file, "" removes it; and `entity`, when it is given. The rest of the file stays
    as it is. Returns the file."""
    path = path or config_path()
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        text, mode = "", 0o600
    except (OSError, UnicodeError) as error:
        raise UsageError(f"cannot read the config file {path}: {error}") from error
    changed = _with_setting(text, "server", server)
    if entity is not None:
        changed = _with_setting(changed, "entity", entity)
    if changed != text:
        write_private(path, changed.encode(), mode)
    return path


def _with_setting(text: str, name: str, value: str) -> str:
    """A config file's text with a setting in the place of what it had; "": without it."""
    line = f"{name} = {json.dumps(value)}\n" if value else ""
    changed, count = re.subn(rf"^[ \t]*{name}[ \t]*=.*(?:\n|\Z)", lambda found: line, text, flags=re.MULTILINE)
    return changed if count else text + ("\n" if text and not text.endswith("\n") else "") + line
