"""Ways out of an artifact: into a directory, and the check of one."""

from __future__ import annotations

import os

from artfs.api.draft import StrPath
from artfs.api.version import LoggedArtifact
from artfs.errors import NotFoundError, VerificationError
from artfs.model.manifest import Manifest
from artfs.transfer.pull import pull
from artfs.transfer.verify import verify_directory

_SHOWN = 5


def default_root(state: LoggedArtifact) -> str:
    """Where `download` puts it: `source_name` in the settings' artifact_dir, absolute."""
    return os.path.abspath(state.session.settings.artifact_dir / state.source_name)


def download(
    state: LoggedArtifact,
    root: StrPath | None,
    path_prefix: StrPath | None,
    *,
    allow_missing_references: bool,
) -> str:
    """See Artifact.download."""
    session = state.session
    dest = default_root(state) if root is None else os.fspath(root)
    pulled = pull(
        session.store,
        Manifest(session.pages, state.member.version.digest),
        dest,
        path_prefix=None if path_prefix is None else os.fspath(path_prefix),
        workers=session.settings.worker_count,
    )
    if pulled.references and not allow_missing_references:
        more = f" and {len(pulled.references) - _SHOWN} more" if len(pulled.references) > _SHOWN else ""
        shown = ", ".join(pulled.references[:_SHOWN]) + more
        raise NotFoundError(
            f"references of {state.member.qualified_name} cannot be fetched: {shown}; "
            f"everything else was downloaded (allow_missing_references=True leaves them out)"
        )
    return dest


def verify(state: LoggedArtifact, root: StrPath | None) -> None:
    """See Artifact.verify."""
    session = state.session
    if root is None:
        root = default_root(state)
        if not os.path.lexists(root):
            download(state, root, None, allow_missing_references=True)
    shown = f"{os.fspath(root)} is not {state.member.qualified_name}"
    if not os.path.isdir(root):
        raise VerificationError(f"{shown}: there is no such directory")
    problems = verify_directory(
        session.store, state.member.version.digest, root, workers=session.settings.worker_count
    )
    if problems:
        lines = tuple(f"{problem} ({problem.kind})" for problem in problems)
        more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise VerificationError(f"{shown}: {'; '.join(lines[:_SHOWN])}{more}", lines)
