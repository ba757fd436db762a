"""Libraries that only some values need. They are the extra `media`, and loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from artfs.errors import MissingExtraError

_PACKAGES = {"PIL": "Pillow", "av": "PyAV"}


def need(module: str, what: str) -> Any:
    """The module, imported. `what` needs it: a verb phrase, for the error. Raises MissingExtraError (an ImportError)."""
    try:
        return import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        raise MissingExtraError(
            f"{what} needs {_PACKAGES.get(top, top)}, which cannot be imported here ({error}); "
            "install it with: pip install 'artfs[media]'"
        ) from error
