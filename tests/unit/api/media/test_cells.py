"""Whatever stands in a table comes back from its JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any, BinaryIO

from hypothesis import given, settings
from hypothesis import strategies as st

from artfs.api.media.base import Placed, Value
from artfs.api.media.content import Content, digest_of
from artfs.api.media.table import Table
from artfs.errors import BadObjectError


class Shelf:
    """A Sink and a Source, in memory."""

    def __init__(self) -> None:
        self.files: dict[str, Content] = {}

    def place(self, content: Content, name: Callable[[str], str]) -> Placed:
        path = name(content.sha256)
        self.files[path] = content
        return Placed(path, content.sha256)

    def keep(self, value: Value, name: Callable[[str], str]) -> Placed:
        raise AssertionError("these tables hold no others")

    def refer(self, uri: str, folder: str) -> str:
        raise AssertionError("these tables hold no references")

    def open(self, path: str) -> BinaryIO:
        return self.files[path].open()

    def digest(self, path: str) -> str:
        with self.open(path) as stream:
            return digest_of(stream)

    def uri(self, path: str) -> None:
        return None

    def value(self, path: str) -> Value:
        raise BadObjectError("these tables hold no others")

    def inline(self, given: dict[str, Any]) -> None:
        return None

    def below(self, folder: str) -> Iterator[str]:
        return iter(())


MOMENTS = st.datetimes(timezones=st.none() | st.just(UTC))
CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | MOMENTS | st.dates(),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=5), parts, max_size=4),
    max_leaves=10,
)


@settings(deadline=None)
@given(cell=CELLS)
def test_any_cell_comes_back(cell: Any) -> None:
    shelf = Shelf()
    table = Table(["c"], [[cell]])
    made = json.dumps(table.to_json(shelf), sort_keys=True)
    back = Table.from_json(json.loads(made), shelf)
    assert back == table
    assert json.dumps(back.to_json(shelf), sort_keys=True) == made
    back.add_data(cell)


@settings(deadline=None)
@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=5))
def test_mixed_columns_come_back(rows: list[list[Any]]) -> None:
    shelf = Shelf()
    table = Table([0, 1], rows, allow_mixed_types=True)
    made = json.loads(json.dumps(table.to_json(shelf), sort_keys=True))
    assert Table.from_json(made, shelf) == table


KEYS = ["wb_type", "params", "type_map", "allowed_types", "c", "shape", "element_type", "length"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda parts: st.lists(parts, max_size=3)
    | st.dictionaries(st.sampled_from(KEYS), parts),
    max_leaves=12,
)
NAMES = st.sampled_from(["union", "list", "typedDict", "ndarray", "timestamp", "foreignKey", "classesId", "image-file"])
PARAMS = st.fixed_dictionaries({"allowed_types": JSON, "element_type": JSON, "length": JSON})
TYPES = st.fixed_dictionaries({"wb_type": NAMES, "params": JSON | PARAMS})


@settings(deadline=None)
@given(column_type=JSON | TYPES, cell=JSON)
def test_hostile_types_are_refused_or_read(column_type: Any, cell: Any) -> None:
    given = {
        "_type": "table",
        "columns": ["c"],
        "data": [[cell]],
        "column_types": {"wb_type": "typedDict", "params": {"type_map": {"c": column_type}}},
    }
    try:
        Table.from_json(given, Shelf())
    except BadObjectError as error:
        assert str(error)
