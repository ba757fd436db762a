"""docs/cli.md against the command line: every command, option, exit code, example and key of `--json`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from artfs.api.session import Session
from artfs.cli import exits
from artfs.cli.common import global_options
from artfs.cli.main import COMMANDS, cli
from artfs.testing.account import ROOT
from artfs.testing.serving import ServerProcess, artfs_serve

from .conftest import Artfs

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield prefix + name, found
        if isinstance(found, click.Group):
            yield from commands(found, f"{prefix}{name} ")


ALL = dict(commands(cli))
NAMES = sorted(ALL)


def section(name: str) -> str:
    """What the page says about a command: from its heading to the next one."""
    found = re.search(rf"^#+ `artfs {re.escape(name)}`\n(.*?)(?=^#)", PAGE + "\n#", re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/cli.md has no section for artfs {name}"
    return found[1]


def options(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option)]


def test_the_page_has_no_other_commands() -> None:
    assert sorted(re.findall(r"^#+ `artfs (.*)`$", PAGE, re.MULTILINE)) == NAMES
    assert set(COMMANDS) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_options(name: str) -> None:
    text = section(name)
    known = {spelling for option in options(ALL[name]) for spelling in option.opts}
    for spelling in known:
        assert re.search(rf"`[^`\n]*{spelling}\b", text), f"{spelling} of artfs {name} is not in docs/cli.md"
    table = re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)
    for spelling in re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", " ".join(table)):
        assert spelling in known, f"docs/cli.md invents {spelling} for artfs {name}"


def test_global_options() -> None:
    for option in global_options(hidden=False):
        for spelling in option.opts:
            assert re.search(rf"^\| `[^`]*{spelling}\b", PAGE, re.MULTILINE)


def test_exit_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert {int(code): meaning.strip() for code, meaning, _ in rows} == exits.MEANINGS
    kinds = {kind: int(code) for code, _, listed in rows for kind in re.findall(r"`([^`]+)`", listed)}
    assert kinds == exits.BY_KIND


def parsed(line: str) -> None:
    """Parses a command line as it would be run, without running it."""
    words = shlex.split(line, comments=True)
    assert words.pop(0) == "artfs"
    while words and words[0].startswith("--"):
        del words[: 2 if words[0] in ("--home", "--entity", "--project") else 1]
    command: click.Command = cli
    name = ""
    context = click.Context(cli, info_name="artfs")
    while isinstance(command, click.Group) and words:
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name!r} in {line!r}"
        command = found
    command.make_context(name, words, parent=context)


def examples(text: str) -> list[str]:
    """The calls of artfs in shell lines: parts of pipes and lists, without redirections and substitutions."""
    lines = re.findall(r"^ +\$ (.*)$", text, re.MULTILINE)
    found = []
    for line in lines:
        for part in re.split(r"&&|\||;", re.sub(r'"\$\((.*)\)"', r"; \1", line)):
            call = re.sub(r"[<>].*", "", part).strip()
            if call.startswith("artfs "):
                found.append(call)
    return found


@pytest.mark.parametrize("line", examples(PAGE))
def test_examples_of_the_page_parse(line: str) -> None:
    parsed(line)


README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", examples(README))
def test_examples_of_the_readme_parse(line: str) -> None:
    parsed(line)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("draft", "cache")])
def test_examples_of_the_help_are_on_the_page(name: str) -> None:
    text = ALL[name].help or ""
    shown = re.findall(r"^ +(\S.*)$", text.partition("Examples:")[2], re.MULTILINE)
    assert shown
    for line in shown:
        assert f"    $ {line}\n" in section(name)


def keys(value: Any) -> set[str]:
    """Every key at every depth, but for those of the user's own objects (metadata, aliases by name) and of details."""
    if isinstance(value, list):
        return {key for item in value for key in keys(item)}
    if isinstance(value, dict):
        own = {key for name in value if name not in ("metadata", "aliases", "detail") for key in keys(value[name])}
        return set(value) | own
    return set()


def documented_keys(name: str) -> set[str]:
    """Words in code style in the command's section, and in those that it refers to."""
    words, todo, done = set[str](), [name], set[str]()
    while todo:
        name = todo.pop()
        if name not in done:
            done.add(name)
            words |= set(re.findall(r"`([a-z_]+)`", section(name)))
            todo += re.findall(r"(?:as for|as in|see)\s`(?:artfs )?([a-z ]+)`", section(name))
    return words


JSON_LINES = [
    ("ls", []),
    ("ls", ["vega"]),
    ("ls", ["vega/cars:v0"]),
    ("ls", ["-R", "vega/cars:v0"]),
    ("diff", ["vega/cars"]),
    ("alias", ["vega/cars"]),
    ("alias", ["vega/cars:v0", "best"]),
    ("tag", ["vega/cars"]),
    ("tag", ["vega/cars:v0", "x"]),
    ("link", ["vega/cars:v0", "vega/links", "best"]),
    ("collection", ["vega/cars", "--tag", "x"]),
    ("ttl", ["vega/cars"]),
    ("ttl", ["vega/cars:v0", "3d"]),
    ("ttl", ["--default", "vega", "3d"]),
    ("protect", ["vega", "prod"]),
    ("lineage", ["vega/cars:v0"]),
    ("info", ["vega/cars"]),
    ("info", ["vega/cars:v0"]),
    ("log", ["cars", "vega/new"]),
    ("log", ["cars", "vega/new", "--dry-run"]),
    ("get", ["vega/cars:v0", "out"]),
    ("verify", ["vega/cars:v0", "cars"]),
    ("verify", ["--store"]),
    ("delete", ["--delete-aliases", "vega/cars:v0"]),
    ("usage", []),
    ("usage", ["vega"]),
    ("gc", []),
    ("backup", ["bk"]),
    ("status", []),
    ("doctor", []),
    ("debug", ["-o", "report.tar.gz"]),
    ("umount", ["--all"]),
    ("draft list", []),
    ("draft from", ["vega/cars:v0"]),
    ("draft diff", ["vega/cars:latest"]),
    ("draft abandon", ["vega/cars:latest"]),
    ("commit", ["vega/cars:latest"]),
    ("token create", ["ann", "--grant", "vega=writer"]),
    ("token list", []),
    ("token grant", ["bob", "vega/*", "reader"]),
    ("token revoke", ["bob"]),
    ("audit", []),
    ("cache status", []),
    ("cache pins", []),
    ("cache clean", []),
    ("cache verify", []),
]


@pytest.mark.parametrize(("name", "arguments"), JSON_LINES)
def test_keys_of_json(
    artfs: Artfs, two_versions: Path, session: Session, name: str, arguments: list[str]
) -> None:
    version = session.catalog.resolve("local", "vega", "cars", "v0").version
    session.catalog.link(version.id, "local", "shared", "best")
    session.catalog.record_use(session.catalog.create_run("local", "vega").id, version.id)
    if name in ("draft list", "draft diff", "draft abandon", "commit"):
        made = artfs("draft", "from", "vega/cars", "--json").json
        (Path(made["files_path"]) / "new").touch()
    if name.startswith("token") or name == "audit":
        artfs("token", "create", "bob", "--admin")
    code = {"verify": 0 if "--store" in arguments else 1, "doctor": None}.get(name, 0)
    shown = artfs(*name.split(), *arguments, "--json", code=code).json
    documented = documented_keys(name)
    assert keys(shown) or name in ("umount", "cache pins")
    assert keys(shown) <= documented, f"docs/cli.md lacks {sorted(keys(shown) - documented)}"


OVER_A_SERVER = [
    ("push", ["vega"]),
    ("pull", ["vega"]),
    ("pin", ["vega/cars:v0"]),
    ("unpin", ["vega/cars:v0"]),
    ("prefetch", ["vega/cars:v0"]),
    ("quota", ["vega", "1G"]),
    ("usage", ["vega"]),
    ("status", []),
    ("gc", ["--dry-run"]),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with artfs_serve("--home", tmp_path_factory.mktemp("server"), "--no-auth", environ={"ARTFS_CONFIG": "/dev/null"}) as server:
        yield server


@pytest.mark.parametrize(("name", "arguments"), OVER_A_SERVER)
def test_keys_of_json_over_a_server(
    artfs: Artfs, two_versions: Path, server: ServerProcess, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str]
) -> None:
    artfs("push", "vega", "--to", server.url)
    monkeypatch.setenv("ARTFS_SERVER", server.url)
    if name == "unpin":
        artfs("pin", *arguments)
    shown = artfs(name, *arguments, "--json").json
    assert keys(shown)
    assert keys(shown) <= documented_keys(name), f"docs/cli.md lacks {sorted(keys(shown) - documented_keys(name))}"


def test_keys_of_json_of_restore(artfs: Artfs, two_versions: Path) -> None:
    artfs("backup", "bk")
    shown = artfs("restore", "bk", "--home", "again", "--json").json
    assert keys(shown)
    assert keys(shown) <= documented_keys("restore")


def test_every_listing_is_tried() -> None:
    with_json = {name for name in NAMES if any("--json" in option.opts for option in options(ALL[name]))}
    # mount is tried where a mount is.
    assert with_json == {name for name, _ in JSON_LINES} | {name for name, _ in OVER_A_SERVER} | {"restore", "mount"}
