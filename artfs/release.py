"""Which artfs this is."""

from __future__ import annotations


def release() -> str:
    """Its version ("0.1.0"); "unknown" when it runs from sources that are not installed."""
    from importlib.metadata import PackageNotFoundError, version  # takes 30 ms to load, which few need

    try:
        return version("artfs")
    except PackageNotFoundError:
        return "unknown"
