"""Ways out of an artifact: into a directory, and the check of one.

`checkout` deletes, so it must know whose a directory is. One that artfs made, or found empty, gets an extended attribute
with its own inode number (so that a copy of it is nobody's). Where the file system has no such attributes, a directory
that holds something is taken for somebody else's.
"""

from __future__ import annotations

import os
import pwd
import re
from contextlib import suppress
from pathlib import Path

from artfs.api.draft import StrPath
from artfs.api.onefile import folder_of
from artfs.api.references import download_references
from artfs.api.telling import told
from artfs.api.version import LoggedArtifact
from artfs.errors import ConflictError, StorageError, VerificationError
from artfs.model.manifest import Manifest
from artfs.transfer.clear import clear
from artfs.transfer.landing import is_landing
from artfs.transfer.pull import pull
from artfs.transfer.verify import verify_directory

_SHOWN = 5
_MADE = "user.artfs.made"


def default_root(state: LoggedArtifact) -> str:
    """Where `download` puts it: `source_name` in the settings' artifact_dir, absolute."""
    return os.path.abspath(state.session.settings.artifact_dir / state.source_name)


def checkout_root(state: LoggedArtifact) -> str:
    """Where `checkout` puts it: the collection's name, without a version, in the settings' artifact_dir, absolute."""
    return os.path.abspath(state.session.settings.artifact_dir / state.member.collection)


def download(
    state: LoggedArtifact,
    root: StrPath | None,
    path_prefix: StrPath | None,
    *,
    allow_missing_references: bool,
    workers: int | None = None,
) -> str:
    """See Artifact.download. `workers` None: as the settings say."""
    session = state.session
    dest = default_root(state) if root is None else folder_of(root)
    manifest = Manifest(session.pages, state.member.version.digest)
    ours = _is_free(dest)
    try:
        with told() as on_progress:
            pulled = pull(
                session.store,
                manifest,
                dest,
                path_prefix=None if path_prefix is None else os.fspath(path_prefix),
                on_progress=on_progress,
                workers=session.settings.worker_count if workers is None else workers,
            )
    finally:
        if ours:
            _mark(dest)
    if pulled.references:
        download_references(
            session.references, manifest, pulled.references, dest, allow_missing=allow_missing_references
        )
    return dest


def checkout(state: LoggedArtifact, root: StrPath | None) -> str:
    """See Artifact.checkout."""
    dest = checkout_root(state) if root is None else folder_of(root)
    _check_may_replace(dest, state.session.settings.home)
    manifest = Manifest(state.session.pages, state.member.version.digest)
    if os.path.isdir(dest):
        clear(manifest, dest, conflicts_only=True)
    download(state, dest, None, allow_missing_references=False)
    # Last, so that nothing is lost for a version that cannot be read.
    clear(manifest, dest, conflicts_only=False)
    return dest


def verify(state: LoggedArtifact, root: StrPath | None) -> None:
    """See Artifact.verify."""
    session = state.session
    if root is None:
        root = default_root(state)
        if not os.path.lexists(root):
            download(state, root, None, allow_missing_references=True)
    root = folder_of(root)
    shown = f"{os.fspath(root)} is not {state.member.qualified_name}"
    if not os.path.isdir(root):
        raise VerificationError(f"{shown}: there is no such directory")
    with told() as on_progress:
        problems = verify_directory(
            session.store,
            state.member.version.digest,
            root,
            on_progress=on_progress,
            workers=session.settings.worker_count,
        )
    if problems:
        lines = tuple(f"{problem} ({problem.kind})" for problem in problems)
        more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise VerificationError(f"{shown}: {'; '.join(lines[:_SHOWN])}{more}", lines)


# whose a directory is -----------------------------------------------------------------------------


def _is_free(path: str) -> bool:
    """Whether nothing is there, or an empty directory."""
    try:
        return all(is_landing(name) for name in os.listdir(path))
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _mark(path: str) -> None:
    with suppress(OSError):
        os.setxattr(path, _MADE, str(os.stat(path).st_ino).encode())


def _is_ours(path: str) -> bool:
    try:
        return os.getxattr(path, _MADE) == str(os.stat(path).st_ino).encode()
    except OSError:
        return False


def _check_may_replace(path: str, state_folder: Path) -> None:
    """Raises ConflictError for a directory that a checkout must not delete from."""
    real = os.path.realpath(path)
    homes = {os.path.realpath(os.path.expanduser("~"))}
    with suppress(KeyError):  # a user whom the machine does not know
        homes.add(os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir))
    state = os.path.realpath(state_folder)
    if real == "/":
        why = "it is the root of the file system"
    elif real in homes - {"/"}:
        why = "it is your home directory"
    elif any(_is_below(home, real) for home in homes):
        why = "your home directory is in it"
    elif real == state or _is_below(state, real) or _is_below(real, state):
        why = f"artfs keeps everything in {state}"
    elif mounts := [mount for mount in _mounts() if mount == real or _is_below(mount, real)]:
        why = "it is a mount" if real in mounts else f"{mounts[0]} is a mount"
    elif not _is_free(path) and not _is_ours(path):
        if not os.path.isdir(real):
            raise ConflictError(f"cannot check out to {path}: it is not a directory")
        why = "it is not empty, and artfs did not make it"
    else:
        return
    raise ConflictError(f"{path} is no place for a checkout, which deletes: {why}; use a new directory, or download()")


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _mounts() -> list[str]:
    """Where all file systems are mounted, as proc_pid_mountinfo(5) has them. Raises StorageError."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise StorageError.wrap(error, "looking for mounts") from error
    return [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4]) for line in lines]
