from __future__ import annotations

from typing import Any

import msgspec
import pytest

from artfs.errors import ArtfsError, DraftBusyError, RateLimitedError, StorageError, all_kinds
from artfs.wire.errors import error_fields, error_from


@pytest.mark.parametrize("cls", all_kinds().values(), ids=lambda cls: cls.kind)
def test_an_error_comes_out_as_it_went_in(cls: type[ArtfsError]) -> None:
    error = cls("it said 'é'")
    again = error_from(msgspec.json.decode(msgspec.json.encode(error_fields(error))))
    assert type(again) is cls
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_its_own_fields_come_along() -> None:
    for error in (DraftBusyError("x", ("a", "b")), StorageError("x", 28), RateLimitedError("x", 2.5)):
        again = error_from(msgspec.json.decode(msgspec.json.encode(error_fields(error))))
        assert vars(again) == vars(error)


def test_names_that_are_no_text_can_be_told() -> None:
    assert error_fields(ArtfsError("no \udcff"))["message"] == "no \\udcff"


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"kind": None}, {"kind": "of tomorrow", "message": "m"}, {"kind": "storage", "errno": "28"},
        {"kind": "draft-busy", "paths": [1, 2]}, {"kind": "draft-busy", "paths": "abc"},
        {"kind": "rate-limited", "retry_after_s": True},
        {"kind": "error", "message": ["x"]}, {"kind": "error", "self": 1},
    ],
)
def test_whatever_the_other_side_writes_is_an_error_of_ours(fields: dict[str, Any]) -> None:
    error = error_from(fields)
    assert isinstance(error, ArtfsError)
    assert str(error)
    assert vars(error) == vars(type(error)("m"))
