"""JoinedTable: two tables, and the column that both have."""

from __future__ import annotations

from typing import Any, Self

from artfs.api.media.base import NAME_DIGITS, Sink, Source, Value
from artfs.api.media.fields import as_object, bad, required
from artfs.api.media.partitioned import PartitionedTable
from artfs.api.media.table import Table
from artfs.model.names import check_path

AnyTable = Table | PartitionedTable


class JoinedTable(Value):
    """Two tables that are read as one.

    Attributes:
        table1, table2: a Table or PartitionedTable; or the path of one in the artifact that this is added to.
        join_key: the column that both have.
    """

    kind = "joined-table"

    def __init__(self, table1: AnyTable | str, table2: AnyTable | str, join_key: str) -> None:
        """Raises TypeError for other tables and keys, InvalidNameError for a bad path."""
        if not isinstance(join_key, str):
            raise TypeError(f"the join key is the name of a column, not {join_key!r}")
        self.table1 = _check_table(table1)
        self.table2 = _check_table(table2)
        self.join_key = join_key

    def to_json(self, sink: Sink) -> dict[str, Any]:
        return {
            "_type": self.kind,
            "table1": _place(self.table1, "t1_", sink),
            "table2": _place(self.table2, "t2_", sink),
            "join_key": self.join_key,
        }

    @classmethod
    def from_json(cls, given: Any, source: Source) -> Self:
        fields = as_object(given, cls.kind)
        tables = [source.value(required(fields, key, str)) for key in ("table1", "table2")]
        if not all(isinstance(table, AnyTable) for table in tables):
            raise bad("what is joined are no tables")
        one, two = tables
        return cls(one, two, required(fields, "join_key", str))  # type: ignore[arg-type] # checked above

    def get_dataframe(self) -> Any:
        """A data frame of pandas with the rows of both whose keys are equal; other columns that both have end in
        "_1" and "_2". Raises TypeError for tables that are paths, MissingExtraError."""
        if isinstance(self.table1, str) or isinstance(self.table2, str):
            raise TypeError("a joined table has no rows before it is fetched from an artifact")
        one, two = self.table1.get_dataframe(), self.table2.get_dataframe()
        return one.merge(two, on=self.join_key, suffixes=("_1", "_2"))

    def _key(self) -> object:
        return self.table1, self.table2, self.join_key

    def __repr__(self) -> str:
        return f"<JoinedTable {self.table1!r} {self.table2!r} on {self.join_key!r}>"


def _check_table(table: object) -> AnyTable | str:
    if isinstance(table, str):
        return check_path(table)
    if isinstance(table, AnyTable):
        return table
    raise TypeError(f"a JoinedTable joins a Table, a PartitionedTable, or the path of one, not {type(table).__name__}")


def _place(table: AnyTable | str, prefix: str, sink: Sink) -> str:
    # Named after what it holds: so the same tables make the same artifact, whenever they are made.
    return table if isinstance(table, str) else sink.keep(table, lambda digest: prefix + digest[:NAME_DIGITS]).path
