"""PartitionedTable: all tables of a folder, as one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Self

from artfs.api.media.base import Sink, Source, Value
from artfs.api.media.extras import need
from artfs.api.media.fields import as_object, bad, required
from artfs.api.media.table import Table
from artfs.errors import InvalidNameError
from artfs.model.names import check_path


class PartitionedTable(Value):
    """The tables of a folder of the artifact, which are added to it one by one, as one.

    Attributes:
        parts_path: the folder.
    """

    kind = "partitioned-table"

    def __init__(self, parts_path: str) -> None:
        """Raises InvalidNameError for a bad path."""
        self.parts_path = check_path(parts_path)
        self._source: Source | None = None

    def to_json(self, sink: Sink) -> dict[str, Any]:
        return {"_type": self.kind, "parts_path": self.parts_path}

    @classmethod
    def from_json(cls, given: Any, source: Source) -> Self:
        try:
            value = cls(required(as_object(given, cls.kind), "parts_path", str))
        except InvalidNameError as error:
            raise bad(str(error)) from None
        value._source = source
        return value

    @cached_property
    def paths(self) -> list[str]:
        """Where its parts are in the artifact that it was got from, sorted. None of them before."""
        if self._source is None:
            return []
        return [path for path in self._source.below(self.parts_path) if path.endswith(Table.suffix())]

    def parts(self) -> Iterator[Table]:
        """Its parts in the order of their paths, each read when it is asked for. Raises BadObjectError."""
        for path in self.paths:
            assert self._source is not None
            part = self._source.value(path)
            if not isinstance(part, Table):
                raise bad(f"{path!r} is no table")
            yield part

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        """All rows, each with its number in its part."""
        for part in self.parts():
            yield from part.iterrows()

    def __iter__(self) -> Iterator[list[Any]]:
        return (row for _, row in self.iterrows())

    def get_dataframe(self) -> Any:
        """A data frame of pandas with all rows. Raises MissingExtraError."""
        pandas = need("pandas", "a data frame")
        parts = [part.get_dataframe() for part in self.parts()]
        return pandas.concat(parts, ignore_index=True) if parts else pandas.DataFrame()

    def _key(self) -> object:
        return self.parts_path

    def __repr__(self) -> str:
        return f"<PartitionedTable {self.parts_path!r}>"
