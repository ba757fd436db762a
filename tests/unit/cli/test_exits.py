from __future__ import annotations

import pytest

from artfs.cli import exits
from artfs.errors import AliasInUseError, ArtfsError, BadBlobError, InvalidNameError, NotFoundError, all_kinds


def test_every_kind_has_a_code() -> None:
    assert set(exits.BY_KIND) == set(all_kinds())


def test_every_code_has_a_meaning() -> None:
    assert set(exits.BY_KIND.values()) <= set(exits.MEANINGS)
    assert all(exits.MEANINGS.values())


def test_no_failure_is_a_success() -> None:
    assert exits.OK not in exits.BY_KIND.values()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidNameError("x"), 2),
        (NotFoundError("x"), 3),
        (AliasInUseError("x"), 4),
        (BadBlobError("x"), 8),
        (ArtfsError("x"), 1),
    ],
)
def test_codes_are_stable(error: ArtfsError, code: int) -> None:
    assert exits.exit_code(error) == code
