"""Tables of pandas and pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from artfs.api.media.extras import need
from artfs.api.media.filevalue import FileValue


def is_frame(value: object) -> bool:
    """Whether it is a data frame of pandas or a table of pyarrow, without loading either."""
    return _library(value) in ("pandas", "pyarrow") and type(value).__name__ in ("DataFrame", "Table")


def _library(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def rows_of(frame: Any) -> tuple[list[Any], list[list[Any]]]:
    """The names of the columns, and the rows. Missing values are None, except in columns of numbers (NaN)."""
    if _library(frame) == "pyarrow":
        columns = [column.to_pylist() for column in frame.columns]
        names: list[Any] = list(frame.column_names)
    else:
        columns = [_pandas_column(frame.iloc[:, index]) for index in range(frame.shape[1])]
        names = [name if isinstance(name, str) else int(name) for name in frame.columns]
    return names, [list(row) for row in zip(*columns, strict=True)]


def _pandas_column(column: Any) -> list[Any]:
    cells = column.tolist()
    if getattr(column.dtype, "kind", "O") in "biufc":
        return list(cells)
    return [None if _is_missing(cell) else cell for cell in cells]


def _is_missing(cell: Any) -> bool:
    """Whether it is one of the values that pandas has for what is missing."""
    return type(cell).__name__ in ("NaTType", "NAType") or (isinstance(cell, float) and cell != cell)


def to_pandas(columns: Sequence[str | int], rows: list[list[Any]]) -> Any:
    pandas = need("pandas", "a data frame")
    return pandas.DataFrame.from_records(rows, columns=list(columns))


def to_arrow(columns: Sequence[str | int], rows: list[list[Any]]) -> Any:
    pyarrow = need("pyarrow", "a table of pyarrow")
    cells = {str(name): [_for_arrow(row[index]) for row in rows] for index, name in enumerate(columns)}
    return pyarrow.table({name: pyarrow.array(column) for name, column in cells.items()})


def _for_arrow(cell: Any) -> Any:
    if isinstance(cell, FileValue):
        return {"bytes": cell.read(), "path": cell.name}
    return cell.tolist() if hasattr(cell, "tolist") else cell
