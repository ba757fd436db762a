"""The options that say what a new version is: shared by `log` and `commit`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from artfs.cli.common import Function
from artfs.errors import InvalidMetadataError
from artfs.model.metadata import check_metadata
from artfs.model.names import check_alias, check_tag, check_type


@dataclass(frozen=True, slots=True)
class VersionOptions:
    """Checked. None: not given."""

    type: str | None
    description: str | None
    metadata: dict[str, Any] | None
    aliases: tuple[str, ...]
    tags: tuple[str, ...]


def version_options(function: Function) -> Function:
    """Adds --type, --alias, --tag, --description and --metadata; the command gets them as keyword arguments
    for `read_version_options`."""
    for option in reversed(
        [
            click.option("--type", "type_", metavar="TYPE", help="Artifact type, such as dataset or model."),
            click.option(
                "-a",
                "--alias",
                "alias",
                multiple=True,
                metavar="ALIAS",
                help="Give it this alias; repeatable.",
            ),
            click.option(
                "-t", "--tag", "tag", multiple=True, metavar="TAG", help="Give it this tag; repeatable."
            ),
            click.option("-d", "--description", metavar="TEXT", help="What this version is."),
            click.option(
                "-m",
                "--metadata",
                multiple=True,
                metavar="KEY=VALUE|@FILE",
                help="A VALUE that is valid JSON counts as such, any other as text; @FILE reads a JSON "
                "object (@- from stdin). Repeatable; later ones win.",
            ),
        ]
    ):
        function = option(function)
    return function


def read_version_options(
    *,
    type_: str | None,
    alias: Sequence[str],
    tag: Sequence[str],
    description: str | None,
    metadata: Sequence[str],
    collection: str = "",
) -> VersionOptions:
    """Checks what `version_options` gathered. Raises InvalidNameError, InvalidMetadataError."""
    return VersionOptions(
        type=None if type_ is None else check_type(type_, collection),
        description=description,
        metadata=read_metadata(metadata) if metadata else None,
        aliases=tuple(check_alias(name) for name in alias),
        tags=tuple(check_tag(name) for name in tag),
    )


def read_metadata(items: Sequence[str]) -> dict[str, Any]:
    """The object that `KEY=VALUE` and `@FILE` items make together. Raises InvalidMetadataError."""
    found: dict[str, Any] = {}
    for item in items:
        if item.startswith("@"):
            found |= _read_file(item[1:])
            continue
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InvalidMetadataError(f"bad metadata {item!r}: write KEY=VALUE or @FILE.json")
        try:
            found[key] = json.loads(value, parse_constant=_refuse)
        except (ValueError, RecursionError):
            found[key] = value
    return check_metadata(found)


def _refuse(name: str) -> object:
    """NaN and Infinity, which Python takes for JSON: as numbers they would be stored as null."""
    raise ValueError(name)


def _read_file(name: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidMetadataError(f"cannot read the metadata file {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidMetadataError(f"the metadata file {name} is not UTF-8 text") from error
    try:
        return check_metadata(text or "{}")
    except InvalidMetadataError as error:
        raise InvalidMetadataError(f"{name}: {error}") from error
