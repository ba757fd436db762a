"""Classes: what the numbers in masks, boxes and tables mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from artfs.api.media.base import Placed, Sink, Source, Value
from artfs.api.media.fields import as_number, as_object, bad, required

if TYPE_CHECKING:
    from artfs.api.media.types import ClassIds


class Classes(Value):
    """Numbers and names of classes.

    Attributes:
        class_set: a list of {"id": int, "name": str}, in the order in which they were given.
    """

    kind = "classes"

    def __init__(self, class_set: Sequence[Mapping[str, Any]]) -> None:
        """Raises TypeError for what is no such list; ValueError for an id that comes twice."""
        self.class_set: list[dict[str, Any]] = []
        seen: set[int] = set()
        given: Iterable[object] = class_set
        for one in given:
            number, name = (as_number(one.get("id")), one.get("name")) if isinstance(one, Mapping) else (None, None)
            if not isinstance(number, int) or isinstance(number, bool) or not isinstance(name, str):
                raise TypeError(f'a class is {{"id": a whole number, "name": text}}, not {one!r}')
            if number in seen:
                raise ValueError(f"the class id {number} is given twice")
            seen.add(number)
            self.class_set.append({"id": number, "name": name})

    @classmethod
    def of_labels(cls, labels: Mapping[int, str]) -> Self:
        """From names by number."""
        return cls([{"id": number, "name": labels[number]} for number in sorted(labels)])

    @property
    def labels(self) -> dict[int, str]:
        """Names by number."""
        return {one["id"]: one["name"] for one in self.class_set}

    def get_type(self) -> ClassIds:
        """The type of a table's column that holds these numbers: `table.cast("label", classes.get_type())`."""
        from artfs.api.media.types import ClassIds  # types knows of Classes

        return ClassIds(self)

    def place_shared(self, sink: Sink) -> Placed:
        """Adds it under a name that is made of what it holds, so that all who have these classes share one file."""
        # As the reference makes it, so that its readers' files and ours are called the same.
        digits = hashlib.md5(str(self.class_set).encode(), usedforsecurity=False).hexdigest()
        return sink.keep(self, lambda _: f"media/classes/{digits}_cls")

    def to_json(self, sink: Sink) -> dict[str, Any]:
        return {"_type": self.kind, "class_set": self.class_set}

    @classmethod
    def from_json(cls, given: Any, source: Source) -> Self:
        try:
            return cls(required(as_object(given, cls.kind), "class_set", list))
        except (TypeError, ValueError) as error:
            raise bad(str(error)) from None

    def _key(self) -> object:
        return self.class_set

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.class_set)

    def __len__(self) -> int:
        return len(self.class_set)

    def __repr__(self) -> str:
        return f"Classes({self.class_set!r})"


def check_labels(labels: object) -> dict[int, str]:
    """Names of classes by number, copied. Raises TypeError."""
    if isinstance(labels, Mapping):
        plain = {as_number(number): name for number, name in labels.items()}
        if all(isinstance(number, int) and isinstance(name, str) for number, name in plain.items()):
            return plain
    raise TypeError("class labels must be names (text) by number (whole)")
