import json

import pytest

from artfs.errors import CorruptError
from artfs.model.draft import DraftInfo, decode_draft, encode_draft

FULL = DraftInfo(
    entity="e",
    project="p",
    collection="c",
    name="c:latest",
    began_at="2026-11-01T00:00:00+00:00",
    base_version="v3",
    base_digest="0" * 64,
    base_membership=7,
    type="dataset",
    description="",
    metadata={"a": [1, None, 10**30, 0.5, "é"]},
    aliases=("best",),
    tags=("two words",),
)
EMPTY = DraftInfo(entity="e", project="p", collection="c", name="c", began_at="2026-11-01T00:00:00+00:00")


@pytest.mark.parametrize("info", [FULL, EMPTY])
def test_a_draft_comes_back_as_it_was_written(info: DraftInfo):
    assert decode_draft(encode_draft(info)) == info


def test_a_person_can_read_it():
    text = encode_draft(FULL).decode()
    assert '\n  "base_version": "v3"' in text
    assert json.loads(text)["aliases"] == ["best"]


def test_fields_of_a_later_version_are_ignored():
    assert decode_draft(encode_draft(EMPTY).replace(b"{", b'{"later": 1,', 1)) == EMPTY


@pytest.mark.parametrize(
    "bad", [b"", b"{}", b"[]", encode_draft(FULL)[:-20], b'{"entity": 3}', b"\xff", b"[" * 100_000]
)
def test_a_damaged_draft_is_an_error(bad: bytes):
    with pytest.raises(CorruptError, match="draft.json is damaged"):
        decode_draft(bad)
