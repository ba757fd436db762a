"""docs/api.md is what the docstrings say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def page() -> str:
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text: str = module.page()
    return text


def test_the_api_page_is_made_from_the_docstrings(page: str) -> None:
    assert (ROOT / "docs" / "api.md").read_text() == page, "run: python docs/make_api.py"


def test_the_api_page_has_every_public_method(page: str) -> None:
    assert page.count("### Artifact.") >= 26
    assert "### Properties of Artifact" in page
