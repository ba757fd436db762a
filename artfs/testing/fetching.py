"""Fetchers in tests."""

from __future__ import annotations

from artfs.model.records import Content
from artfs.transfer.fetch import Fetcher
from artfs.transfer.largeblob import LargeBlob

WAIT_S = 5.0
"""How long something may take that comes at once, in seconds."""


def large(fetcher: Fetcher, content: Content) -> LargeBlob:
    """One more use of it."""
    return fetcher.large(content.digest, content.size, content.blocks)
