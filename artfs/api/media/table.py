"""Table: rows and columns, of text, numbers, times, arrays and other values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any, ClassVar, Literal, Self, get_args

from artfs.api.media import frames
from artfs.api.media.arrays import place_arrays, read_arrays
from artfs.api.media.base import Sink, Source, Value
from artfs.api.media.cells import clean, comparable, decoder, encode
from artfs.api.media.extras import need
from artfs.api.media.fields import as_object, bad, required
from artfs.api.media.fields import optional as optional_field
from artfs.api.media.types import (
    ANY,
    NONE,
    PRIMARY_KEY,
    DictOf,
    ForeignKey,
    NdArray,
    Plain,
    Type,
    declared,
    either,
    is_array,
    optional,
    type_from_json,
    type_of,
    without_none,
)
from artfs.errors import InvalidArgumentError

LogMode = Literal["IMMUTABLE", "MUTABLE", "INCREMENTAL"]
_DEFAULT_COLUMNS = ("Input", "Output", "Expected")
_PLAIN_CELLS = frozenset({type(None), bool, int, float, str})
_SHOWN_ROWS = 20
_SHOWN_CHARACTERS = 200


class Table(Value):
    """Rows of equal length, and a name and a type for each column.

    A column's type comes from its first cell that is not None, unless it is given; a cell of another type is a
    TypeError. Numbers are one type, whole or not. Cells may be text, numbers, truth values, times (kept to the
    millisecond; without a zone they are UTC), None, lists and dicts of these, arrays of numpy's, and values such as
    Image. `len` is the number of rows, and iterating gives them.

    Attributes:
        columns: names, in order.
        data: rows, lists of cells. Change it by the methods, which check types.
        log_mode: as given; stored with it.
        MAX_ARTIFACT_ROWS: an artifact takes no longer table. A limit of the format's readers; set it to change it.
    """

    kind = "table"
    MAX_ARTIFACT_ROWS: ClassVar[int] = 200_000

    def __init__(
        self,
        columns: Sequence[str | int] | None = None,
        data: Any = None,
        rows: Sequence[Sequence[Any]] | None = None,
        dataframe: Any = None,
        dtype: Any = None,
        optional: bool | Sequence[bool] = True,
        allow_mixed_types: bool = False,
        log_mode: LogMode | None = "IMMUTABLE",
    ) -> None:
        """Arguments:
            columns: None: those of the data frame; else "Input", "Output", "Expected".
            data: rows; an array (n, columns); a data frame of pandas or a table of pyarrow.
            rows: an older name of `data`.
            dataframe: a data frame of pandas or a table of pyarrow.
            dtype: the type of all columns, or one for each: a class (int, str, datetime, Image …), or what
                `Classes.get_type` returns. None: found out.
            optional: whether None may stand in a column; or one for each.
            allow_mixed_types: anything may stand in any column. Times and bytes in it come back as numbers and text.
        Raises TypeError for names or cells of other types; ValueError for a row of another length, a name that comes
        twice, another log_mode; MissingExtraError.
        """
        if log_mode not in (None, *get_args(LogMode)):
            raise InvalidArgumentError(f"log_mode is one of {', '.join(get_args(LogMode))}, not {log_mode!r}")
        self.log_mode: str = log_mode or "IMMUTABLE"
        given = next((part for part in (dataframe, data, rows) if part is not None), [])
        if frames.is_frame(given):
            names, given = frames.rows_of(given)
            columns = names if columns is None else columns
        elif is_array(given):
            given = [list(row) for row in given]
        self.columns: list[str | int] = list(_DEFAULT_COLUMNS if columns is None else columns)
        _check_columns(self.columns)
        self.data: list[list[Any]] = []
        wanted = _for_each(self.columns, dtype, "dtype")
        may_lack = _for_each(self.columns, optional, "optional")
        self._types = [
            _optional(ANY if allow_mixed_types else declared(one), none)
            for one, none in zip(wanted, may_lack, strict=True)
        ]
        # Which classes of plain cells each column has taken: for them nothing need be worked out again.
        self._taken: list[set[type]] = [set() for _ in self.columns]
        for row in given:
            self.add_data(*row)

    @classmethod
    def from_pandas(cls, frame: Any, **options: Any) -> Self:
        """Of a data frame, without its index. `options`: as for the constructor."""
        return cls(dataframe=frame, **options)

    @classmethod
    def from_arrow(cls, table: Any, **options: Any) -> Self:
        """Of a table of pyarrow. `options`: as for the constructor."""
        return cls(dataframe=table, **options)

    # rows and columns -----------------------------------------------------------------------------

    def add_data(self, *data: Any) -> None:
        """Adds a row. Raises ValueError for another length, TypeError for a cell of another type; the table is as
        before then."""
        if len(data) != len(self.columns):
            raise ValueError(
                f"This table expects {len(self.columns)} columns: {self.columns}, found {len(data)}"
            )
        row = [clean(cell) for cell in data]
        types = list(self._types)
        for index, cell in enumerate(row):
            if type(cell) not in self._taken[index]:
                types[index] = self._taking(types[index], cell, self.columns[index])
        for index, cell in enumerate(row):
            if type(cell) in _PLAIN_CELLS and type(without_none(types[index])) is Plain:
                self._taken[index].add(type(cell))
        self._types = types
        self.data.append(row)

    def add_row(self, *row: Any) -> None:
        """An older name of `add_data`."""
        self.add_data(*row)

    def add_column(self, name: str, data: Any, optional: bool = False) -> None:
        """Adds a column. `data`: a cell for each row. Raises as `add_data`."""
        cells = [clean(cell) for cell in data]
        if self.columns and len(cells) != len(self.data):
            raise ValueError(f"a column of this table has {len(self.data)} cells, not {len(cells)}")
        _check_columns([*self.columns, name])
        type_ = _optional(declared(None), optional)
        for cell in cells:
            type_ = self._taking(type_, cell, name)
        if not self.columns:
            self.data = [[] for _ in cells]
        for row, cell in zip(self.data, cells, strict=True):
            row.append(cell)
        self.columns.append(name)
        self._types.append(type_)
        self._taken.append(set())

    def add_computed_columns(self, fn: Callable[[int, dict[str | int, Any]], dict[str, Any]]) -> None:
        """Adds the columns that `fn(index, row)` returns, by name; a row is a dict of cells by column."""
        made: dict[str, list[Any]] = {}
        for index, row in self.iterrows():
            for name, cell in fn(index, dict(zip(self.columns, row, strict=True))).items():
                made.setdefault(name, []).append(cell)
        for name, cells in made.items():
            self.add_column(name, cells)

    def get_column(self, name: str | int, convert_to: Literal["numpy"] | None = None) -> Any:
        """A column's cells: a list, or an array. Raises KeyError when there is none; MissingExtraError."""
        if convert_to not in (None, "numpy"):
            raise InvalidArgumentError(f'convert_to is "numpy" or None, not {convert_to!r}')
        index = self._index(name)
        cells = [row[index] for row in self.data]
        return need("numpy", "a column as an array").array(cells) if convert_to == "numpy" else cells

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        """Each row with its number, from 0."""
        yield from enumerate(self.data)

    def get_index(self) -> list[int]:
        """The rows' numbers."""
        return list(range(len(self.data)))

    def index_ref(self, index: int) -> int:
        """The number of a row. Raises IndexError when there is none."""
        if not 0 <= index < len(self.data):
            raise IndexError(f"there is no row {index}")
        return index

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    # types ----------------------------------------------------------------------------------------

    @property
    def column_types(self) -> dict[str | int, str]:
        """What may stand in each column, in words."""
        return {name: str(type_) for name, type_ in zip(self.columns, self._types, strict=True)}

    def cast(self, col_name: str | int, dtype: Any, optional: bool = False) -> Type:
        """Gives a column another type, as for the constructor's `dtype`. No cell is changed. Raises TypeError, and
        leaves all as it is, when a cell cannot stand in such a column."""
        index = self._index(col_name)
        type_ = _optional(declared(dtype), optional)
        for row in self.data:
            type_ = self._taking(type_, row[index], col_name)
        self._types[index] = type_
        self._taken[index] = set()
        return type_

    def set_pk(self, col_name: str | int) -> None:
        """Says that the column's text names its rows. Raises TypeError when it is no text."""
        for cell in self.get_column(col_name):
            if not isinstance(cell, str):
                raise TypeError(f"a primary key is text; the column {col_name!r} has {type(cell).__name__}")
        self._types[self._index(col_name)] = PRIMARY_KEY

    def set_fk(self, col_name: str | int, table: Table, table_col: str) -> None:
        """Says that the column's text names rows of another table, by its column `table_col`. Raises TypeError when
        it is no text, KeyError when there is no such column."""
        table.get_column(table_col)
        self.cast(col_name, ForeignKey(table, table_col), optional=True)

    def _taking(self, type_: Type, cell: Any, name: str | int) -> Type:
        if type_ == PRIMARY_KEY and isinstance(cell, str):
            return type_
        found = type_of(cell)
        got = type_.takes(found)
        if got is None or not got.holds(cell):
            raise TypeError(f"the column {name!r} holds {type_}; {cell!r} is {found}")
        return got

    def _index(self, name: str | int) -> int:
        try:
            return self.columns.index(name)
        except ValueError:
            raise KeyError(f"there is no column {name!r}; there are {self.columns}") from None

    # other libraries ------------------------------------------------------------------------------

    def get_dataframe(self) -> Any:
        """A data frame of pandas. Raises MissingExtraError."""
        return frames.to_pandas(self.columns, self.data)

    def to_pandas(self) -> Any:
        """The same, by the name that pyarrow gives it."""
        return self.get_dataframe()

    def to_arrow(self) -> Any:
        """A table of pyarrow; an image or another file is {"bytes", "path"} in it. Raises MissingExtraError, and
        what pyarrow raises for a column of mixed types."""
        return frames.to_arrow(self.columns, self.data)

    # storing --------------------------------------------------------------------------------------

    def to_json(self, sink: Sink) -> dict[str, Any]:
        if len(self.data) > self.MAX_ARTIFACT_ROWS:
            raise InvalidArgumentError(
                f"a table of {len(self.data)} rows is longer than what an artifact takes ({self.MAX_ARTIFACT_ROWS}): "
                "add it in parts and a PartitionedTable of them, or set Table.MAX_ARTIFACT_ROWS"
            )
        types, elsewhere = self._place(sink)
        made: dict[str, Any] = {
            "_type": self.kind,
            "column_types": _types_json(self.columns, types, sink),
            "columns": self.columns,
            "data": [
                [None if index in elsewhere else encode(cell, sink) for index, cell in enumerate(row)]
                for row in self.data
            ],
            "log_mode": self.log_mode,
            "ncols": len(self.columns),
            "nrows": len(self.data),
        }
        if self.log_mode == "INCREMENTAL":
            made |= {"increment_num": 0, "previous_increments_paths": []}
        return made

    def _place(self, sink: Sink) -> tuple[list[Type], set[int]]:
        """Stores the columns of arrays in files of their own. Returns all columns' types, and which are stored so.

        One with None among its arrays stays in the JSON, as lists.
        """
        types = list(self._types)
        elsewhere = set()
        for index, type_ in enumerate(types):
            narrow = without_none(type_)
            if not isinstance(narrow, NdArray):
                continue
            cells = [row[index] for row in self.data]
            if cells and all(cell is not None for cell in cells):
                placed = place_arrays(cells, str(self.columns[index]), sink)
                types[index] = NdArray(narrow.shape, placed.path, str(self.columns[index]))
                elsewhere.add(index)
            else:
                lists = either(type_of(clean(cell.tolist())) for cell in cells if cell is not None)
                types[index] = lists
            types[index] = _optional(types[index], type_ != narrow)
        return types, elsewhere

    def type_json(self, sink: Sink) -> dict[str, Any]:
        """The JSON of all columns' types, for a column of tables."""
        return _types_json(self.columns, self._types, sink)

    @classmethod
    def from_json(cls, given: Any, source: Source) -> Self:
        fields = as_object(given, cls.kind)
        columns = required(fields, "columns", list)
        rows = required(fields, "data", list)
        if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
            raise bad("a row of the table has another length than its columns")
        try:
            table = cls(columns=columns, allow_mixed_types=True)
        except (TypeError, ValueError) as error:
            raise bad(str(error)) from None
        table.log_mode = optional_field(fields, "log_mode", str) or "IMMUTABLE"
        types = type_from_json(fields.get("column_types"), source) if "column_types" in fields else DictOf(())
        if not isinstance(types, DictOf):
            raise bad("the types of a table's columns are no object")
        by_name = dict(types.fields)
        table._types = [by_name.get(str(name), _optional(ANY, True)) for name in columns]
        for index, type_ in enumerate(table._types):
            narrow = without_none(type_)
            if isinstance(narrow, NdArray) and narrow.path:
                for row, cell in zip(rows, read_arrays(narrow, len(rows), source), strict=True):
                    row[index] = cell
            elif (decode := decoder(type_, source)) is not None:
                for row in rows:
                    row[index] = decode(row[index])
        table.data = rows
        return table

    def _key(self) -> object:
        return self.columns, comparable(self.data)

    # in a notebook --------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Table of {len(self.data)} rows: {', '.join(map(str, self.columns))}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(str(name))}</th>" for name in self.columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(_shortly(cell))}</td>" for cell in row) + "</tr>"
            for row in self.data[:_SHOWN_ROWS]
        )
        rest = len(self.data) - _SHOWN_ROWS
        more = f"<p>… and {rest} more rows</p>" if rest > 0 else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _shortly(cell: Any) -> str:
    text = "" if cell is None else str(cell)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _optional(type_: Type, none: bool) -> Type:
    return optional(type_) if none and type_ != NONE else type_


def _check_columns(columns: Sequence[str | int]) -> None:
    kinds = {type(name) for name in columns}
    if kinds not in (set(), {str}, {int}):
        raise TypeError(f"the names of columns must be all text, or all whole numbers, not {list(columns)}")
    if len(set(columns)) != len(columns):
        raise ValueError(f"a name of a column comes twice in {list(columns)}")


def _for_each(columns: Sequence[str | int], given: Any, what: str) -> list[Any]:
    if not isinstance(given, list | tuple):
        return [given] * len(columns)
    if len(given) != len(columns):
        raise ValueError(f"{what} has {len(given)} items for {len(columns)} columns")
    return list(given)


def _types_json(columns: Sequence[str | int], types: Sequence[Type], sink: Sink) -> dict[str, Any]:
    type_map = {str(name): type_.to_json(sink) for name, type_ in zip(columns, types, strict=True)}
    return {"wb_type": "typedDict", "params": {"type_map": type_map}}
