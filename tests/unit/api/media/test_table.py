"""Tables: rows, columns, their types, and other libraries."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import artfs
from artfs.api.artifact import Artifact
from artfs.api.session import Session
from artfs.errors import InvalidArgumentError

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def column(*cells: Any, **options: Any) -> artfs.Table:
    return artfs.Table(["c"], [[cell] for cell in cells], **options)


def stored(table: artfs.Table) -> artfs.Table:
    artifact = Artifact("tables", "dataset")
    artifact.add(table, "it")
    artifact.save()
    back = artifact.get("it")
    assert isinstance(back, artfs.Table)
    return back


# what may stand in a column -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "type_"),
    [
        ([1, 2.5, None, np.int8(3), np.float32(0.5), float("nan")], "number or none"),
        (["a", None, np.str_("b")], "string or none"),
        ([True, np.bool_(False)], "boolean or none"),
        ([NOON, date(2026, 1, 1), np.datetime64("2026-01-01"), pd.NaT], "timestamp or none"),
        ([[1, 2], (3,), {4}, [], np.arange(3)], "list of number or none"),
        ([[1, "a", None]], "list of number or string or none or none"),
        ([{"a": 1, "b": "x"}, {"b": "y", "a": 2}], "{a: number, b: string} or none"),
        ([np.zeros((2, 3)), np.ones((2, 3))], "array of shape (2, 3) or none"),
        ([np.arange(151)], "array of shape (151,) or none"),
        ([b"text"], "bytes or none"),
        ([None, None], "unknown or none"),
        ([artfs.Html("x")], "html-file or none"),
        ([artfs.Table(["x"])], "table or none"),
        ([], "unknown or none"),
    ],
)
def test_types_are_found_out(cells: list[Any], type_: str) -> None:
    assert column(*cells).column_types == {"c": type_}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "a"),
        ("a", 1),
        (1, True),
        (True, 1),
        ("a", NOON),
        (1, [1]),
        ([1], ["a"]),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": "x"}),
        (np.zeros((2, 2)), np.zeros((3, 2))),
        (artfs.Html("x"), "x"),
    ],
)
def test_a_cell_of_another_type_is_refused(one: Any, other: Any) -> None:
    table = column(one)
    with pytest.raises(TypeError, match=r"the column 'c' holds .* or none; "):
        table.add_data(other)
    assert len(table) == 1
    mixed = column(one, other, allow_mixed_types=True)
    assert len(mixed) == 2


@pytest.mark.parametrize("cell", [object(), 1j, b"\xff", [object()]], ids=["object", "complex", "bytes", "list of objects"])
def test_what_no_table_can_hold(cell: Any) -> None:
    with pytest.raises(TypeError):
        column(cell)
    with pytest.raises(TypeError):
        column(cell, allow_mixed_types=True)


def test_none_where_it_may_not_be() -> None:
    with pytest.raises(TypeError, match="holds number; None is none"):
        column(1, None, optional=False)
    with pytest.raises(TypeError):
        column(None, optional=False)
    table = artfs.Table(["a", "b"], [[None, 1]], optional=[True, False])
    with pytest.raises(TypeError):
        table.add_data(1, None)


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        (int, 1, "a"),
        (float, 1, "a"),
        (str, "a", 1),
        (bool, True, 1),
        (datetime, NOON, 1),
        (artfs.Html, artfs.Html("x"), "x"),
        (artfs.Image, artfs.Image([[0, 255]]), artfs.Html("x")),
        (artfs.Classes([{"id": 3, "name": "x"}]).get_type(), 3, 4),
    ],
    ids=str,
)
def test_a_given_type(dtype: Any, good: Any, bad: Any) -> None:
    assert column(good, None, dtype=dtype).data == [[good], [None]]
    with pytest.raises(TypeError):
        column(bad, dtype=[dtype])


@pytest.mark.parametrize("dtype", ["int", object, 3])
def test_what_is_no_type(dtype: Any) -> None:
    with pytest.raises(TypeError, match="is no type of a column"):
        column(dtype=dtype)


def test_cast() -> None:
    table = artfs.Table(["a", "label"], [[1, 0], [2, 1]])
    with pytest.raises(TypeError):
        table.cast("a", str)
    assert table.column_types["a"] == "number or none"
    classes = artfs.Classes([{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}])
    assert str(table.cast("label", classes.get_type())) == "class id of [0, 1]"
    with pytest.raises(TypeError):
        table.add_data(1, 2)
    with pytest.raises(TypeError):
        table.add_data(1, None)
    table.cast("label", classes.get_type(), optional=True)
    table.add_data(1, None)
    with pytest.raises(KeyError):
        table.cast("nothing", str)


def test_a_column_of_class_numbers_names_its_classes(session: Session) -> None:
    table = column(0, 1)
    table.cast("c", artfs.Classes([{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]).get_type())
    back = stored(table)
    assert back.column_types == {"c": "class id of [0, 1]"}
    with pytest.raises(TypeError):
        back.add_data(2)
    assert stored(back) == table


# rows and columns ---------------------------------------------------------------------------------


def test_the_default_columns() -> None:
    assert artfs.Table().columns == ["Input", "Output", "Expected"]
    assert artfs.Table(data=[[1, 2, 3]]).data == [[1, 2, 3]]
    assert artfs.Table(rows=[[1, 2, 3]]).data == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("columns", "error"),
    [(["a", 1], TypeError), ([1.5], TypeError), ([True], TypeError), (["a", "a"], ValueError)],
)
def test_bad_columns(columns: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        artfs.Table(columns)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"This table expects 1 columns: \['c'\], found 2"):
        column().add_data(1, 2)
    with pytest.raises(InvalidArgumentError):
        column(log_mode="ALWAYS")
    with pytest.raises(ValueError, match="dtype has 2 items for 1 columns"):
        column(dtype=[int, int])
    with pytest.raises(InvalidArgumentError):
        column().get_column("c", convert_to="list")  # type: ignore[arg-type]


def test_rows() -> None:
    table = artfs.Table([0, 1], np.arange(4).reshape(2, 2))
    table.add_row(7, 8)
    assert list(table) == [[0, 1], [2, 3], [7, 8]]
    assert list(table.iterrows()) == [(0, [0, 1]), (1, [2, 3]), (2, [7, 8])]
    assert (len(table), table.get_index(), table.index_ref(2)) == (3, [0, 1, 2], 2)
    with pytest.raises(IndexError):
        table.index_ref(3)
    assert table.get_column(1) == [1, 3, 8]
    assert table.get_column(1, convert_to="numpy").sum() == 12


def test_columns() -> None:
    table = column(1, 2)
    table.add_column("text", ["x", "y"])
    table.add_column("maybe", np.array([0.5, 1.5]), optional=True)
    table.add_computed_columns(lambda index, row: {"double": row["c"] * 2, "index": index})
    assert table.columns == ["c", "text", "maybe", "double", "index"]
    assert table.data == [[1, "x", 0.5, 2, 0], [2, "y", 1.5, 4, 1]]
    assert table.column_types["text"] == "string"
    with pytest.raises(ValueError, match="2 cells, not 1"):
        table.add_column("short", [1])
    with pytest.raises(ValueError, match="twice"):
        table.add_column("c", [1, 2])
    with pytest.raises(TypeError):
        table.add_column("none", [1, None])
    assert len(table.columns) == 5


def test_keys() -> None:
    people = artfs.Table(["name", "age"], [["ada", 36]])
    with pytest.raises(TypeError, match="a primary key is text"):
        people.set_pk("age")
    people.set_pk("name")
    people.add_data("alan", 41)
    with pytest.raises(TypeError):
        people.add_data(1, 1)
    papers = artfs.Table(["by"], [["ada"]])
    with pytest.raises(KeyError):
        papers.set_fk("by", people, "surname")
    papers.set_fk("by", people, "name")
    assert papers.column_types["by"].startswith("key of the column 'name'")


# stored -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "back"),
    [
        ([1, 2.5, None, float("inf")], None),
        ([float("nan")], [None]),
        ([NOON + timedelta(microseconds=1500)], [NOON + timedelta(milliseconds=1)]),
        ([datetime(2026, 1, 1)], [datetime(2026, 1, 1, tzinfo=UTC)]),
        ([datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))], [datetime(2025, 12, 31, 22, tzinfo=UTC)]),
        ([date(1969, 12, 31)], [datetime(1969, 12, 31, tzinfo=UTC)]),
        ([{"when": NOON, "all": [1, 2]}], None),
        ([[NOON, NOON]], None),
        ([(1, 2)], [[1, 2]]),
        ([b"text"], None),
        ([artfs.Html("a"), None, artfs.Html("b")], None),
        ([[artfs.Html("a")]], None),
        ([artfs.Table(["x"], [[1]])], None),
        ([artfs.Classes([{"id": 0, "name": "x"}])], None),
        (["\ud800 \u4e2d"], None),
        ([{}], None),
    ],
    ids=str,
)
def test_cells_come_back(session: Session, cells: list[Any], back: list[Any] | None) -> None:
    table = column(*cells)
    found = stored(table)
    assert found == table
    assert found.get_column("c") == (cells if back is None else back)
    assert found.column_types.keys() == {"c"}
    found.add_data(cells[0])  # its types are still known


def test_arrays_come_back(session: Session) -> None:
    made = artfs.Table(
        ["file", "x/y", "text", "gaps"],
        [
            [np.arange(200), np.zeros((2, 3), "float32"), np.array([["a", "bc"]]), np.zeros((1, 2))],
            [np.arange(200) * 2, np.ones((2, 3), "float32"), np.array([["d", "e"]]), None],
        ],
    )
    found = stored(made)
    assert found == made
    assert found.data[1][1].dtype == np.float32
    assert found.data[1][0].tolist() == list(range(0, 400, 2))
    assert found.get_column("gaps") == [[[0, 0]], None], "beside None, arrays are stored as lists"
    assert stored(found) == made


def test_mixed_types_come_back_as_the_json_has_them(session: Session) -> None:
    found = stored(column(1, "a", NOON, artfs.Html("x"), [artfs.Html("y")], {"a": 1}, allow_mixed_types=True))
    assert found.get_column("c") == [1, "a", 1793534400000, artfs.Html("x"), [artfs.Html("y")], {"a": 1}]


def test_numbered_columns_come_back(session: Session) -> None:
    made = artfs.Table([0, 1], [[NOON, "x"]])
    found = stored(made)
    assert found == made
    assert found.columns == [0, 1]


def test_tables_differ() -> None:
    table = column(1, None)
    assert table == column(1, float("nan"))
    for other in (column(1), column(1, 2), artfs.Table(["d"], [[1], [None]]), [[1], [None]]):
        assert table != other


def test_modes_are_stored(session: Session) -> None:
    assert stored(column(1, log_mode="MUTABLE")).log_mode == "MUTABLE"
    assert stored(column(1, log_mode="INCREMENTAL")).log_mode == "INCREMENTAL"
    assert stored(column(1, log_mode=None)).log_mode == "IMMUTABLE"


def test_a_table_that_is_too_long(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert artfs.Table.MAX_ARTIFACT_ROWS == 200_000
    monkeypatch.setattr(artfs.Table, "MAX_ARTIFACT_ROWS", 2)
    artifact = Artifact("tables", "dataset")
    artifact.add(column(1, 2), "fits")
    with pytest.raises(InvalidArgumentError, match="a table of 3 rows is longer"):
        artifact.add(column(1, 2, 3), "long")
    assert len(artifact.manifest) == 1


# other libraries ----------------------------------------------------------------------------------


def test_pandas_there_and_back() -> None:
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "x": [0.5, float("nan")],
            "text": ["a", None],
            "when": pd.to_datetime(["2026-01-01", None]),
            "kind": pd.Categorical(["u", "v"]),
            "whole": pd.array([1, None], dtype="Int64"),
            "yes": [True, False],
        }
    )
    for table in (artfs.Table(dataframe=frame), artfs.Table(data=frame), artfs.Table.from_pandas(frame)):
        assert table.columns == list(frame.columns)
        assert table.data[0] == [1, 0.5, "a", datetime(2026, 1, 1), "u", 1, True]
        assert [type(cell) for cell in table.data[1]] == [int, float, type(None), type(None), str, type(None), bool]
    back = table.to_pandas()
    pd.testing.assert_frame_equal(back[["n", "x", "yes"]], frame[["n", "x", "yes"]])
    assert back["text"].isna().tolist() == [False, True]
    assert table.get_dataframe().shape == (2, 7)
    assert artfs.Table(["one"], pd.DataFrame({"a": [1]})).columns == ["one"]


def test_arrow_there_and_back() -> None:
    given = pa.table(
        {
            "n": [1, None],
            "text": ["a", "b"],
            "when": pa.array([NOON, None], pa.timestamp("us", "UTC")),
            "list": [[1.5], []],
            "dict": [{"a": 1}, {"a": 2}],
        }
    )
    table = artfs.Table.from_arrow(given)
    assert table.data == [[1, "a", NOON, [1.5], {"a": 1}], [None, "b", None, [], {"a": 2}]]
    back = table.to_arrow()
    assert back.equals(given)
    assert artfs.Table(data=given) == table


def test_files_and_arrays_in_arrow() -> None:
    page = artfs.Html("x")
    back = artfs.Table(["page", "array"], [[page, np.eye(2)]]).to_arrow()
    assert back.to_pylist() == [{"page": {"bytes": page.read(), "path": None}, "array": [[1, 0], [0, 1]]}]
    with pytest.raises(pa.ArrowInvalid):
        column(1, "a", allow_mixed_types=True).to_arrow()


def test_what_is_shown_is_short() -> None:
    table = column(*range(100))
    assert "… and 80 more rows" in table._repr_html_()
    assert repr(table) == "<Table of 100 rows: c>"
    assert len(column("x" * 10_000)._repr_html_()) < 1000
