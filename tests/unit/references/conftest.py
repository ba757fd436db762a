"""A server of this test's own, and the rules of a state folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from artfs.references.trust import KnownSources, Trust
from artfs.settings import Settings
from artfs.testing.web import WebServer


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def trust(settings: Settings) -> Trust:
    """Knows nothing yet."""
    return Trust(settings, KnownSources(settings.home / "known"))
