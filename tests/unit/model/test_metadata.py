import json
from collections import UserDict
from datetime import UTC, date, datetime
from enum import Enum, IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import InvalidMetadataError
from artfs.model.names import check_metadata


class Array:
    """Has NumPy's way to a plain form."""

    def __init__(self, value: object) -> None:
        self.value = value

    def tolist(self) -> object:
        return self.value


class Colour(IntEnum):
    RED = 1


class Shape(str, Enum):  # noqa: UP042 (what people have)
    ROUND = "round"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, {}),
        ("", {}),
        ({}, {}),
        ('{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ('{"a": NaN}', {"a": None}),
        ({"a": float("nan")}, {"a": None}),
        ({1: "x", None: "y", False: "z", 2.5: "w"}, {"1": "x", "null": "y", "false": "z", "2.5": "w"}),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({"a": {3, 1, 2}}, {"a": [1, 2, 3]}),
        ({"a": frozenset(["y", "x"])}, {"a": ["x", "y"]}),
        ({"a": b"text"}, {"a": "text"}),
        ({"a": b"\xff"}, {"a": "\ufffd"}),
        ({"a": datetime(2026, 11, 1, tzinfo=UTC)}, {"a": "2026-11-01T00:00:00+00:00"}),
        ({"a": date(2026, 11, 1)}, {"a": "2026-11-01"}),
        ({"a": slice(1, None, 2)}, {"a": {"slice_start": 1, "slice_stop": None, "slice_step": 2}}),
        ({"a": Array([1.5, float("nan")])}, {"a": [1.5, None]}),
        ({"a": Array(3)}, {"a": 3}),
        ({"a": Colour.RED}, {"a": 1}),
        ({Shape.ROUND: Shape.ROUND}, {"round": "round"}),
        ({"a": 10**30}, {"a": 10**30}),
        (UserDict({"a": UserDict({"b": 1})}), {"a": {"b": 1}}),
        ({"n": {str(i): i for i in range(500)}}, {"n": {str(i): i for i in range(500)}}),
    ],
)
def test_metadata_becomes_plain_json(value: object, plain: dict[str, object]):
    assert check_metadata(value) == plain


def test_metadata_is_a_deep_copy():
    inner = [1]
    copy = check_metadata({"a": inner})
    inner.append(2)
    assert copy == {"a": [1]}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("[1]", "must be a JSON object"),
        ("3", "must be a JSON object"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ({"a": float("inf")}, r"metadata\['a'\] is infinite"),
        ({"a": [0, {"b": float("-inf")}]}, r"metadata\['a'\]\[1\]\['b'\] is infinite"),
        ('{"a": Infinity}', "infinite"),
        ({"a": "\ud800"}, "UTF-8"),
        ({"\ud800": 1}, "UTF-8"),
        ({str(i): i for i in range(101)}, "101 keys at the top level; at most 100"),
    ],
)
def test_bad_metadata(value: object, why: str):
    with pytest.raises(InvalidMetadataError, match=why):
        check_metadata(value)


@pytest.mark.parametrize("text", ["[1]", "3", "null"])
def test_text_of_what_is_no_object_is_a_type_error_too(text: str):
    with pytest.raises(TypeError, match="must be a JSON object"):
        check_metadata(text)


def test_a_hundred_keys_are_allowed():
    assert len(check_metadata({str(i): i for i in range(100)})) == 100


def test_metadata_that_holds_itself():
    loop: dict[str, object] = {}
    loop["loop"] = loop
    with pytest.raises(InvalidMetadataError, match="nested"):
        check_metadata(loop)


@pytest.mark.parametrize(
    "value", [3, [1], ("a",), b"{}", 1.5, True, object(), {"a": object()}, {("x",): 1}, {b"k": 1}]
)
def test_values_of_another_type(value: object):
    with pytest.raises(TypeError):
        check_metadata(value)


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), plain_values, max_size=6))
def test_what_is_json_already_stays_as_it_is(value: dict[str, object]):
    assert check_metadata(value) == value
    assert check_metadata(json.dumps(value)) == value
