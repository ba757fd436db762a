"""What is in files and artifacts, said without artfs's own functions where these are what is tested."""

from __future__ import annotations

import hashlib
from pathlib import Path

from artfs.api.artifact import Artifact


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Of a file, however large."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def paths(artifact: Artifact) -> list[str]:
    return sorted(artifact.manifest.entries)
