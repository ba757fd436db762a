from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from artfs.cli.main import COMMANDS, OTHER_WORDS, SECTIONS, cli
from artfs.cli.main import run as run_main
from artfs.testing.account import ROOT

from .conftest import Artfs

ENVIRONMENT = {"PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}"}
LOADED = """
import json, sys
from artfs.cli.main import run
code = run(sys.argv[1:])
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def loaded_by(*arguments: str) -> set[str]:
    """Modules that a command line loads."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def all_commands() -> list[tuple[str, click.Command]]:
    """Every command and command of a group, by its full name."""
    context = click.Context(cli)
    found = []
    for name in COMMANDS:
        made = cli.get_command(context, name)
        assert made is not None
        found.append((name, made))
        if isinstance(made, click.Group):
            found += [(f"{name} {below}", inner) for below, inner in sorted(made.commands.items())]
    return found


def test_help_loads_no_command_and_nothing_heavy() -> None:
    modules = loaded_by("--help")
    assert not any(module.startswith("artfs.cli.commands") for module in modules)
    assert not modules & {"sqlalchemy", "alembic", "rich", "trio", "pyfuse3", "artfs.model.tree"}


def test_a_listing_loads_neither_alembic_nor_rich(artfs: Artfs, cars: Path) -> None:
    artfs("log", cars, "vega/cars")
    modules = loaded_by("ls", "vega/cars")
    assert "sqlalchemy" in modules
    assert not modules & {"alembic", "rich", "trio", "pyfuse3", "artfs.transfer.push"}


def test_every_summary_is_that_of_its_command() -> None:
    context = click.Context(cli)
    for name, summary in COMMANDS.items():
        loaded = cli.get_command(context, name)
        assert loaded is not None
        assert loaded.name == name
        assert loaded.get_short_help_str(200) == summary


def test_help_shows_every_command_and_exit_code(artfs: Artfs) -> None:
    text = artfs("--help").out
    for title in SECTIONS:
        assert f"{title}:" in text
    for name in COMMANDS:
        assert f"\n  {name} " in text
    assert "130  interrupted" in text


@pytest.mark.parametrize("name", [name for name, _ in all_commands()])
def test_every_command_has_a_page_with_examples(artfs: Artfs, name: str) -> None:
    text = artfs(*name.split(), "--help").out
    assert text == artfs(*name.split(), "-h").out
    if name not in ("draft", "cache"):
        assert "Examples:" in text
        assert "--home" not in text.partition("Examples:")[2].partition("Options:")[2]
    assert max(map(len, text.splitlines())) <= 100


def test_global_options_stand_before_or_after(artfs: Artfs, tmp_path: Path, cars: Path) -> None:
    artfs("--home", tmp_path / "a", "log", cars, "p/c")
    artfs("log", cars, "p/c", "--home", tmp_path / "b", "-q")
    names = [
        [p["name"] for p in artfs("ls", "--home", tmp_path / home, "--json").json] for home in ("a", "b")
    ]
    assert names == [["local/p"], ["local/p"]]
    assert artfs("ls", "--json").json == []


def test_entity_and_project_complete_names(artfs: Artfs, cars: Path) -> None:
    made = artfs("--entity", "me", "--project", "mine", "log", cars, "cars", "--json").json
    assert made["name"] == "me/mine/cars:v0"
    assert artfs("info", "me/mine/cars:v0", "--json").json["digest"] == made["digest"]


def test_quiet_prints_results_only(artfs: Artfs, cars: Path) -> None:
    (cars / "x.swp").touch()
    result = artfs("-q", "log", cars, "p/c")
    assert result.err == ""
    assert result.out.startswith("committed local/p/c:v0")


def test_version(artfs: Artfs) -> None:
    assert artfs("--version").out.startswith("artfs ")


def test_nothing_said_shows_the_help(artfs: Artfs) -> None:
    result = artfs(code=2)
    assert result.out == ""
    assert "The mount:" in result.err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("--entity a/b ls", "bad entity name 'a/b'"),
        ("ls --project drafts", "bad project name 'drafts'"),
        ("frobnicate", "there is no command 'frobnicate' (see `artfs --help`)"),
        ("comit p/c", "there is no command 'comit'; did you mean `artfs commit`? (see `artfs --help`)"),
        ("rm p/c:v0", "there is no command 'rm'; did you mean `artfs delete`? (see `artfs --help`)"),
        ("ls --frobnicate", "No such option '--frobnicate'. (see `artfs ls --help`)"),
        ("diff", "Missing argument 'A'. (see `artfs diff --help`)"),
        (
            "completion",
            "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish (see `artfs completion --help`)",
        ),
        ("draft frobnicate", "No such command 'frobnicate'. (see `artfs draft --help`)"),
        (
            "completion tcsh",
            "Invalid value for '{bash|zsh|fish}': 'tcsh' is not one of 'bash', 'zsh', 'fish'.",
        ),
    ],
)
def test_bad_usage_is_one_line(refused: Callable[..., str], line: str, complaint: str) -> None:
    assert refused(*line.split(), code=2).startswith(complaint)


def test_a_bad_setting_is_one_line(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTFS_DEADLINE_S", "soon")
    assert "ARTFS_DEADLINE_S: bad value" in refused("ls", code=2)


@pytest.mark.parametrize("line", [["ls", "--json", "--bogus"], ["ls", "--bogus", "--json"], ["audit", "--json", "-n"]])
def test_bad_options_are_json_too_when_asked(artfs: Artfs, line: list[str]) -> None:
    result = artfs(*line, code=2)
    assert result.json["error"]["kind"] == "usage"
    assert result.json["error"]["message"] in result.err
    assert artfs("ls", "--bogus", "--", "--json", code=2).out == ""


def test_errors_are_json_too_when_asked(artfs: Artfs) -> None:
    result = artfs("ls", "nope", "--json", code=3)
    assert result.json == {
        "error": {
            "kind": "not-found",
            "message": "no project local/nope; there is none yet",
            "exit_code": 3,
        }
    }
    assert result.err == "artfs: no project local/nope; there is none yet\n"


def test_an_error_is_one_line_whatever_the_name(artfs: Artfs) -> None:
    result = artfs("info", "p/c\n\x1b[31m:v0", code=2)
    assert result.err.count("\n") == 1
    assert "\x1b" not in result.err


def test_debug_shows_the_traceback(artfs: Artfs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in artfs("ls", "nope", code=3).err
    assert "Traceback" in artfs("--debug", "ls", "nope", code=3).err
    monkeypatch.setenv("ARTFS_DEBUG", "1")
    assert "Traceback" in artfs("ls", "nope", code=3).err


class Bomb:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *arguments: object, **named: object) -> None:
        raise self.error


def test_a_bug_is_one_line_that_says_how_to_see_more(artfs: Artfs, monkeypatch: pytest.MonkeyPatch) -> None:
    command = cli.get_command(click.Context(cli), "completion")
    monkeypatch.setattr(command, "callback", Bomb(RuntimeError("a wheel\ncame off")))
    result = artfs("completion", "bash", code=70)
    assert result.err == (
        "artfs: internal error: RuntimeError: a wheel\\ncame off "
        "(run it again with --debug for the traceback, and please report it)\n"
    )
    assert "Traceback" in artfs("--debug", "completion", "bash", code=70).err


def test_ctrl_c(artfs: Artfs, monkeypatch: pytest.MonkeyPatch) -> None:
    command = cli.get_command(click.Context(cli), "completion")
    monkeypatch.setattr(command, "callback", Bomb(KeyboardInterrupt()))
    assert artfs("completion", "bash", code=130).err.splitlines()[-1] == "artfs: interrupted"


def test_exit_codes_reach_the_shell() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "artfs.cli", "ls", "nope"],
        capture_output=True,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "artfs: no project local/nope; there is none yet\n"


def test_a_reader_that_goes_away_is_no_error(artfs: Artfs, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number:0200}").touch()  # more than a pipe holds
    artfs("log", folder, "p/many")
    child = subprocess.Popen(
        [sys.executable, "-m", "artfs.cli", "ls", "p/many:v0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **ENVIRONMENT},
    )
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(10)
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


@pytest.mark.parametrize("line", ["ls", "ls --json", "cat p/c:v0/f", "cat p/c:v0/large", "--version", "ls --help"])
@pytest.mark.parametrize(("out", "why"), [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
def test_output_that_cannot_be_written_is_told(artfs: Artfs, tmp_path: Path, line: str, out: str, why: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("f")
    (tmp_path / "d" / "large").write_bytes(bytes(100_000))
    artfs("log", "d", "p/c")
    done = in_a_shell(f"{line} {out}")
    assert (done.returncode, done.stderr) == (9, f"artfs: writing to standard output failed: {why}\n")


@pytest.mark.parametrize("streams", ["2>&-", "2> /dev/full", "<&-"])
def test_work_is_done_whatever_the_other_streams_are(artfs: Artfs, tmp_path: Path, streams: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".DS_Store").touch()  # there is a note
    assert in_a_shell(f"log d p/c {streams}").returncode == 0
    assert in_a_shell(f"delete p/c:v0 --delete-aliases {streams}").returncode == 0
    assert in_a_shell(f"ls nope {streams}").returncode == 3


@pytest.mark.parametrize(
    ("environ", "is_plain"), [({}, False), ({"NO_COLOR": "1"}, True), ({"NO_COLOR": ""}, False), ({"TERM": "dumb"}, True)]
)
def test_a_terminal_that_wants_no_colour_gets_none(
    artfs: Artfs, two_versions: Path, environ: dict[str, str], is_plain: bool
) -> None:
    ours, theirs = os.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "artfs.cli", "ls"],
            stdout=theirs,
            env={**os.environ, **ENVIRONMENT, "TERM": "xterm", "NO_COLOR": "", **environ},
            check=True,
        )
        shown = os.read(ours, 10_000)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"PROJECT" in shown
    assert (b"\x1b[" not in shown) is is_plain


def in_a_shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m artfs.cli {line}"],
        capture_output=True,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        check=False,
    )


def test_ctrl_c_reaches_the_shell(tmp_path: Path) -> None:
    fifo = tmp_path / "metadata"
    os.mkfifo(fifo)
    child = subprocess.Popen(
        [sys.executable, "-m", "artfs.cli", "log", str(tmp_path), "p/c", "-m", f"@{fifo}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )
    with child, open(fifo, "wb"):  # opened by both: it is reading now
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        assert child.stderr.read().splitlines()[-1] == "artfs: interrupted"
    assert child.returncode == 130


def test_run_takes_the_process_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["artfs", "--version"])
    assert run_main() == 0
    assert capsys.readouterr().out.startswith("artfs ")


def test_other_words_for_commands_lead_to_commands() -> None:
    assert set(OTHER_WORDS.values()) <= set(COMMANDS)
    assert not set(OTHER_WORDS) & set(COMMANDS)
