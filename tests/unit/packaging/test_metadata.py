"""pyproject.toml, docs/dependencies.md and the Makefile say the same."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", text)[0].lower() for text in requirements}  # type: ignore[index]


def documented(heading: str) -> set[str]:
    """The bold words that begin the lines below `heading` in docs/dependencies.md, and the bold ones next to them."""
    text = (ROOT / "docs" / "dependencies.md").read_text()
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, f"docs/dependencies.md has no section {heading}"
    return {name.lower() for name in re.findall(r"\*\*([\w.-]+)\*\*", section[1])}


def test_every_dependency_has_its_sentence(project: dict[str, Any]) -> None:
    assert documented("Always") == names(project["dependencies"])


@pytest.mark.parametrize("extra", ["demo", "dev", "fsspec", "media", "s3", "server"])
def test_every_extra_has_its_sentence(project: dict[str, Any], extra: str) -> None:
    assert documented(f"`artfs[{extra}]`") == names(project["optional-dependencies"][extra])


def test_every_debian_package_has_its_sentence() -> None:
    makefile = (ROOT / "Makefile").read_text()
    wanted = {name for line in re.findall(r"^APT\w* := (.*)$", makefile, re.MULTILINE) for name in line.split()}
    assert documented("From Debian") == wanted - {"python3"}


def test_every_dependency_is_imported_somewhere(project: dict[str, Any]) -> None:
    sources = [path for folder in ("artfs", "daemon/artfsd") for path in (ROOT / folder).rglob("*.py")]
    imported = {
        match.lower()
        for path in sources
        for match in re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(), re.MULTILINE)
    }
    assert names(project["dependencies"]) <= imported


def test_the_commands_are_installed(project: dict[str, Any]) -> None:
    ours = set(project["scripts"].values())
    installed = {point.name: point for point in entry_points(group="console_scripts") if point.value in ours}
    assert installed.keys() == project["scripts"].keys()
    for point in installed.values():
        assert callable(point.load())
