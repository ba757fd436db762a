"""Completion of names from the catalog, and the shells' scripts. Completing never makes a state folder and
never prints an error: the person is in the middle of a line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click
from click.shell_completion import BashComplete, CompletionItem, ShellComplete, get_completion_class

from artfs.cli.common import App
from artfs.errors import ArtfsError
from artfs.model.names import parse_name
from artfs.settings import Settings

SHELLS = ("bash", "zsh", "fish")
MAX_ITEMS = 500
PATIENCE_S = 2.0
"""How long a server may not answer: a person has pressed Tab, and cannot go on typing meanwhile."""


def complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Projects, then collections, then aliases and versions, one step at a time."""
    with contextlib.suppress(ArtfsError):
        settings = _settings(ctx)
        # What a server's names are kept in lies in the state folder, too.
        if settings.home.exists() if settings.server else settings.catalog_path.exists():
            return [CompletionItem(name) for name in _names(settings, incomplete)]
    return []


def complete_own_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The same of this machine's own catalog, whatever server is used."""
    with contextlib.suppress(ArtfsError):
        settings = _settings(ctx).with_changes(server="")
        if settings.catalog_path.exists():
            return [CompletionItem(name) for name in _names(settings, incomplete)]
    return []


def _settings(ctx: click.Context) -> Settings:
    settings = ctx.ensure_object(App).settings
    return settings.with_changes(network_timeout_s=min(settings.network_timeout_s, PATIENCE_S))


def _names(settings: Settings, incomplete: str) -> Iterator[str]:
    from artfs.api.session import open_session

    with open_session(settings) as session:
        catalog = session.catalog
        if ":" in incomplete:
            stem = incomplete.partition(":")[0]
            named = parse_name(stem, settings.entity, settings.project)
            collection = catalog.try_collection(named.entity, named.project, named.collection)
            members = catalog.members(collection.id) if collection else []
            suffixes = [alias for m in members for alias in m.aliases] + [
                f"v{m.index}" for m in reversed(members)
            ]
            found = [f"{stem}:{suffix}" for suffix in suffixes]
        elif "/" in incomplete:
            project = incomplete.partition("/")[0]
            found = [f"{project}/{c.name}" for c in catalog.collections(settings.entity, project)]
            if incomplete in found:
                found.append(incomplete + ":")
        else:
            found = [f"{p.name}/" for p in catalog.projects(settings.entity)]
        yield from [name for name in found if name.startswith(incomplete)][:MAX_ITEMS]


def complete_draft(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Drafts as PROJECT/NAME."""
    from artfs.store.staging import DraftArea

    with contextlib.suppress(ArtfsError):
        settings = ctx.ensure_object(App).settings
        names = [
            f"{d.info.project}/{d.info.name}"
            for d in DraftArea(settings.drafts_path).drafts(settings.entity, on_damaged=lambda error: None)
        ]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []


_BASH = """\
_artfs_completion() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} current word type value
    # bash splits words at ':' too, which artfs's names hold: split at blanks instead, and give back what
    # follows the last ':'.
    current=${line##*[[:space:]]}
    local before=${line%"$current"} count=0
    local IFS=$' \\t\\n'
    for word in $before; do count=$((count + 1)); done
    IFS=$'\\n'
    COMPREPLY=()
    local prefix=""
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then prefix=${current%:*}:; fi
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain)
                # After "PROJECT/" or ":" the name goes on.
                [[ $value == */ || $value == *: ]] && compopt -o nospace 2>/dev/null
                COMPREPLY+=("${value#"$prefix"}") ;;
        esac
    done < <(env COMP_WORDS="$line" COMP_CWORD=$count _ARTFS_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _artfs_completion artfs
"""


class ColonBash(BashComplete):
    """bash, with names that hold colons."""

    source_template = _BASH

    def source(self) -> str:
        # Not a template, and without click's check of the bash that happens to be on PATH here.
        return self.source_template


def script(shell: str, cli: click.Command) -> str:
    """The completion script for `shell` (one of SHELLS)."""
    cls: type[ShellComplete] | None = ColonBash if shell == "bash" else get_completion_class(shell)
    assert cls is not None
    return cls(cli, {}, "artfs", "_ARTFS_COMPLETE").source()
