"""What the README tells people to type exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from artfs.cli.main import COMMANDS
from artfs.cli.mount_helper import FLAGS, parse

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
TYPED = "\n".join(block or inline for block, inline in re.findall(r"^    (.*)$|`([^`\n]+)`", README, re.MULTILINE))


def test_every_command_of_artfs_exists() -> None:
    named = set(re.findall(r"(?:^|[$&|] |/)artfs ([a-z]+)\b", TYPED, re.MULTILINE))
    assert named
    assert named <= COMMANDS.keys()


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"\bmake ([a-z]+)", TYPED))
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test"} <= targets
    assert all(re.search(rf"^(?:\w+ )*{target}(?: \w+)*:", makefile, re.MULTILINE) for target in targets)


def test_every_debian_package_is_named() -> None:
    makefile = (ROOT / "Makefile").read_text()
    wanted = {name for line in re.findall(r"^APT\w* := (.*)$", makefile, re.MULTILINE) for name in line.split()}
    assert wanted <= set(re.findall(r"[\w-]+", README))


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"\]\(([\w./-]+)\)", README) + re.findall(r"`((?:systemd|docs|bench)/[\w./@-]+)`", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_fstab_line_is_understood() -> None:
    lines = re.findall(r"^    (artfs  /\S+  artfs  \S+  0  0)$", README, re.MULTILINE)
    assert lines
    for line in lines:
        source, directory, _, options, *_ = line.split()
        assert str(parse([source, directory, "-o", options]).mountpoint) == directory


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_every_flag_of_the_mount_helper_is_named(flag: str) -> None:
    assert f"`{flag}`" in README
