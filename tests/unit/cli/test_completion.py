from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from artfs.cli.common import App
from artfs.cli.completion import SHELLS
from artfs.cli.main import cli
from artfs.settings import Settings
from artfs.testing.account import ROOT

from .conftest import Artfs

LINES = r"""
source "$1"
complete() { :; }
IFS=$'\n'
while read -r COMP_LINE; do
    COMP_POINT=${#COMP_LINE}
    COMPREPLY=()
    _artfs_completion artfs
    printf '%s\n' "${COMPREPLY[*]//$'\n'/ }" | tr '\n' ' '
    echo
done
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts(artfs: Artfs, shell: str) -> None:
    result = artfs("completion", shell)
    assert "_ARTFS_COMPLETE" in result.out
    assert result.err.startswith("# to install: ")
    assert artfs("completion", shell, "-q").err == ""


@pytest.fixture
def bash(artfs: Artfs, two_versions: Path, tmp_path: Path) -> list[str]:
    """A bash that completes lines given on its stdin."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "artfs"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m artfs.cli "$@"\n')
    program.chmod(0o755)
    (tmp_path / "artfs.bash").write_text(artfs("completion", "bash").out)
    (tmp_path / "lines").write_text(LINES)
    return ["bash", "--norc", str(tmp_path / "lines"), str(tmp_path / "artfs.bash")]


def test_bash(bash: list[str], tmp_path: Path) -> None:
    lines = {
        "artfs xy": "",
        "artfs ls -l vega/c": "vega/cars ",
        "artfs ls vega/cars:": "old latest v1 v0 ",
        "artfs diff vega/cars:v0 vega/cars:l": "latest ",
    }
    done = subprocess.run(
        bash,
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}",
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        },
        check=True,
    )
    assert done.stderr == ""
    assert dict(zip(lines, done.stdout.splitlines(), strict=True)) == {
        line: answer or " " for line, answer in lines.items()
    }


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        ("um", ["umount"]),
        ("ls ", ["vega/"]),
        ("ls vega/cars", ["vega/cars", "vega/cars:"]),
        ("ls boats/", []),
        ("ls boats/x:", []),
        ("info local/vega/cars:o", ["local/vega/cars:old"]),
        ("ls cars:", []),
        ("--project vega ls cars:l", ["cars:latest"]),
        ("ls --entity me v", []),
        ("--home nowhere ls v", []),
        ("--home nowhere commit v", []),
        ("commit v", ["vega/cars:latest"]),
        ("draft ab", ["abandon"]),
        ("log --t", ["--type", "--tag", "--ttl"]),
        ("completion b", ["bash"]),
    ],
)
def test_answers(artfs: Artfs, two_versions: Path, tmp_path: Path, line: str, answers: list[str]) -> None:
    artfs("draft", "from", "vega/cars")
    *arguments, incomplete = line.split(" ")
    shell = ShellComplete(cli, {"obj": App()}, "artfs", "_ARTFS_COMPLETE")
    assert [item.value for item in shell.get_completions(arguments, incomplete)] == answers
    assert not (tmp_path / "nowhere").exists()


def test_a_broken_catalog_completes_nothing(artfs: Artfs, settings: Settings) -> None:
    settings.catalog_path.write_bytes(b"this is no catalog" * 1000)
    shell = ShellComplete(cli, {"obj": App()}, "artfs", "_ARTFS_COMPLETE")
    assert shell.get_completions(["ls"], "v") == []
