"""Types of a table's columns: what may stand in them, and their JSON (`wb_type` and `params`). No I/O but through a
Sink or Source.

A column begins with a type that knows nothing; each cell may tell more. `a.takes(b)` is the type that a column of type
`a` has after a cell of type `b`, and None when such a cell cannot stand there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Protocol

from artfs.api.media.base import Sink, Source, Value
from artfs.api.media.boxes import BoundingBoxes2D
from artfs.api.media.classes import Classes
from artfs.api.media.fields import bad, required
from artfs.api.media.image import Image
from artfs.api.media.mask import ImageMask

INLINE_ITEMS = 150
"""An array of one dimension and at most so many items stands in the JSON as a list."""

MAX_DEPTH = 100
"""Of types in types, in JSON."""


class Type(ABC):
    """Of a column or of a part of a cell."""

    @abstractmethod
    def to_json(self, sink: Sink) -> dict[str, Any]: ...

    @abstractmethod
    def takes(self, other: Type) -> Type | None: ...

    def holds(self, value: object) -> bool:
        """Whether a cell whose type it takes may stand there, too."""
        return True

    @abstractmethod
    def __str__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Plain(Type):
    name: str

    def to_json(self, sink: Sink) -> dict[str, Any]:
        return {"wb_type": self.name}

    def takes(self, other: Type) -> Type | None:
        if self in (ANY, other):
            return self
        return other if self == UNKNOWN and other != NONE else None

    def __str__(self) -> str:
        return self.name


ANY = Plain("any")
UNKNOWN = Plain("unknown")
NONE = Plain("none")
NUMBER = Plain("number")
STRING = Plain("string")
BOOLEAN = Plain("boolean")
TIMESTAMP = Plain("timestamp")
PRIMARY_KEY = Plain("primaryKey")


@dataclass(frozen=True, slots=True)
class Union(Type):
    """One of several."""

    members: tuple[Type, ...]

    def to_json(self, sink: Sink) -> dict[str, Any]:
        members = sorted((member.to_json(sink) for member in self.members), key=repr)
        return {"wb_type": "union", "params": {"allowed_types": members}}

    def takes(self, other: Type) -> Type | None:
        if isinstance(other, Union):
            got: Type | None = self
            for member in other.members:
                got = None if got is None else got.takes(member)
            return got
        if other in self.members:
            return self
        # What knows nothing yet is asked last, as it takes everything.
        for member in sorted(self.members, key=lambda member: member in (UNKNOWN, ANY)):
            got = member.takes(other)
            if got is not None:
                return Union(tuple(got if one is member else one for one in self.members))
        return None

    def holds(self, value: object) -> bool:
        return value is None or all(member.holds(value) for member in self.members)

    def __str__(self) -> str:
        return " or ".join(str(member) for member in self.members)


def optional(type_: Type) -> Type:
    """`type_`, or None."""
    if isinstance(type_, Union):
        return type_ if NONE in type_.members else Union((*type_.members, NONE))
    return type_ if type_ == NONE else Union((type_, NONE))


def without_none(type_: Type) -> Type:
    """The opposite of `optional`."""
    if not isinstance(type_, Union):
        return type_
    rest = tuple(member for member in type_.members if member != NONE)
    return rest[0] if len(rest) == 1 else Union(rest)


def either(types: Iterable[Type]) -> Type:
    """The narrowest type that takes all of them; of none: one that knows nothing."""
    members: list[Type] = []
    for type_ in types:
        for part in type_.members if isinstance(type_, Union) else (type_,):
            for index, member in enumerate(members):
                both = member.takes(part) or part.takes(member)
                if both is not None:
                    members[index] = both
                    break
            else:
                members.append(part)
    if not members:
        return UNKNOWN
    return members[0] if len(members) == 1 else Union(tuple(members))


@dataclass(frozen=True, slots=True)
class ListOf(Type):
    element: Type
    length: int = field(compare=False, default=0)

    def to_json(self, sink: Sink) -> dict[str, Any]:
        params = {"element_type": self.element.to_json(sink), "length": self.length}
        return {"wb_type": "list", "params": params}

    def takes(self, other: Type) -> Type | None:
        if not isinstance(other, ListOf):
            return None
        element = self.element if other.element == UNKNOWN else self.element.takes(other.element)
        return None if element is None else ListOf(element, max(self.length, other.length))

    def __str__(self) -> str:
        return f"list of {self.element}"


@dataclass(frozen=True, slots=True)
class DictOf(Type):
    fields: tuple[tuple[str, Type], ...]

    def to_json(self, sink: Sink) -> dict[str, Any]:
        type_map = {name: type_.to_json(sink) for name, type_ in self.fields}
        return {"wb_type": "typedDict", "params": {"type_map": type_map}}

    def takes(self, other: Type) -> Type | None:
        if not isinstance(other, DictOf) or [name for name, _ in self.fields] != [name for name, _ in other.fields]:
            return None
        fields = []
        for (name, mine), (_, theirs) in zip(self.fields, other.fields, strict=True):
            got = mine.takes(theirs)
            if got is None:
                return None
            fields.append((name, got))
        return DictOf(tuple(fields))

    def __str__(self) -> str:
        return "{" + ", ".join(f"{name}: {type_}" for name, type_ in self.fields) + "}"


@dataclass(frozen=True, slots=True)
class NdArray(Type):
    """An array. `path` and `key`: which member of which .npz file holds those of all rows; "" when none does yet."""

    shape: tuple[int, ...]
    path: str = field(compare=False, default="")
    key: str = field(compare=False, default="")

    def to_json(self, sink: Sink) -> dict[str, Any]:
        params: dict[str, Any] = {"shape": list(self.shape)}
        params["serialization_path"] = {"path": self.path, "key": self.key} if self.path else None
        return {"wb_type": "ndarray", "params": params}

    def takes(self, other: Type) -> Type | None:
        return self if self == other else None

    def __str__(self) -> str:
        return f"array of shape {self.shape}"


@dataclass(frozen=True, slots=True)
class PythonObject(Type):
    class_name: str

    def to_json(self, sink: Sink) -> dict[str, Any]:
        return {"wb_type": "pythonObject", "params": {"class_name": self.class_name}}

    def takes(self, other: Type) -> Type | None:
        return self if self == other else None

    def __str__(self) -> str:
        return self.class_name


def _const(value: object, *, is_set: bool = False) -> dict[str, Any]:
    return {"wb_type": "const", "params": {"val": value, "is_set": is_set}}


_Layers = dict[str, dict[int, str]]


@dataclass(frozen=True, slots=True)
class Images(Type):
    """Images. What is drawn on them: labels by number, by layer; the names of scores; the classes of all."""

    box_layers: _Layers = field(compare=False, default_factory=dict)
    mask_layers: _Layers = field(compare=False, default_factory=dict)
    scores: frozenset[str] = field(compare=False, default=frozenset())
    classes: dict[int, str] = field(compare=False, default_factory=dict)

    @classmethod
    def of(cls, image: Image) -> Images:
        scores = {name for layer in image.boxes.values() for box in layer.boxes for name in box.get("scores", ())}
        return cls(
            {key: dict(layer.class_labels) for key, layer in image.boxes.items()},
            {key: dict(layer.class_labels) for key, layer in image.masks.items()},
            frozenset(scores),
            image.classes.labels if image.classes is not None else {},
        )

    def takes(self, other: Type) -> Type | None:
        if not isinstance(other, Images):
            return None
        if other == self and not (other.box_layers or other.mask_layers or other.classes):
            return self
        return Images(
            _merged(self.box_layers, other.box_layers),
            _merged(self.mask_layers, other.mask_layers),
            self.scores | other.scores,
            self.classes | other.classes,
        )

    def to_json(self, sink: Sink) -> dict[str, Any]:
        def maps(layers: _Layers) -> dict[str, Any]:
            return {key: {str(number): name for number, name in labels.items()} for key, labels in layers.items()}

        params: dict[str, Any] = {}
        if self.box_layers:
            params["box_layers"] = _const({key: sorted(labels) for key, labels in self.box_layers.items()})
            params["box_class_maps"] = _const(maps(self.box_layers))
            params["box_score_keys"] = _const(sorted(self.scores), is_set=True)
        if self.mask_layers:
            params["mask_layers"] = _const({key: sorted(labels) for key, labels in self.mask_layers.items()})
            params["mask_class_maps"] = _const(maps(self.mask_layers))
        if self.classes:
            params["class_map"] = _const({str(number): name for number, name in self.classes.items()})
        return {"wb_type": "image-file", "params": params} if params else {"wb_type": "image-file"}

    def __str__(self) -> str:
        return "image-file"


def _merged(mine: _Layers, theirs: _Layers) -> _Layers:
    return {key: mine.get(key, {}) | theirs.get(key, {}) for key in {**mine, **theirs}}


class TableLike(Protocol):
    """What this module needs of a table."""

    def type_json(self, sink: Sink) -> dict[str, Any]: ...

    def get_column(self, name: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class TableCells(Type):
    """Tables. `first`: the one whose columns are told."""

    first: TableLike = field(compare=False)

    def to_json(self, sink: Sink) -> dict[str, Any]:
        return {"wb_type": "table", "params": {"column_types": self.first.type_json(sink)}}

    def takes(self, other: Type) -> Type | None:
        return self if isinstance(other, TableCells) else None

    def __str__(self) -> str:
        return "table"


@dataclass(frozen=True, slots=True)
class ClassIds(Type):
    """Numbers of classes."""

    classes: Classes

    def to_json(self, sink: Sink) -> dict[str, Any]:
        placed = self.classes.place_shared(sink)
        ids = [_const(number) for number in sorted(self.classes.labels)]
        return {
            "wb_type": "classesId",
            "params": {
                "classes_obj": {"type": "classes-file", "path": placed.path, "digest": placed.digest},
                "valid_ids": {"wb_type": "union", "params": {"allowed_types": ids}},
            },
        }

    def takes(self, other: Type) -> Type | None:
        return self if other in (self, NUMBER) else None

    def holds(self, value: object) -> bool:
        return value in self.classes.labels

    def __str__(self) -> str:
        return f"class id of {sorted(self.classes.labels)}"


@dataclass(frozen=True, slots=True)
class ForeignKey(Type):
    """Text that stands in a column of another table."""

    table: Value = field(compare=False)
    column: str

    def to_json(self, sink: Sink) -> dict[str, Any]:
        placed = sink.keep(self.table, lambda digest: f"t_{digest[:20]}")
        return {"wb_type": "foreignKey", "params": {"table": placed.path, "col_name": self.column}}

    def takes(self, other: Type) -> Type | None:
        return self if other in (self, STRING) else None

    def __str__(self) -> str:
        return f"key of the column {self.column!r} of another table"


@dataclass(frozen=True, slots=True)
class Raw(Type):
    """One that came from an artifact and is not known here. It takes everything, and is written as it was."""

    name: str
    params: dict[str, Any] = field(compare=False)

    def to_json(self, sink: Sink) -> dict[str, Any]:
        return {"wb_type": self.name, "params": self.params} if self.params else {"wb_type": self.name}

    def takes(self, other: Type) -> Type | None:
        return self

    def __str__(self) -> str:
        return self.name


# of a value ---------------------------------------------------------------------------------------

_BY_CLASS: dict[type, Type] = {
    type(None): NONE,
    bool: BOOLEAN,
    int: NUMBER,
    float: NUMBER,
    str: STRING,
    datetime: TIMESTAMP,
    date: TIMESTAMP,
    bytes: PythonObject("bytes"),
}


def type_of(value: object) -> Type:
    """Of a cell (as `cells.clean` makes it). Raises TypeError for what no table can hold."""
    plain = _BY_CLASS.get(type(value))
    if plain is not None:
        return plain
    if isinstance(value, Value):
        return _type_of_value(value)
    if isinstance(value, list):
        return ListOf(either(type_of(item) for item in value), len(value))
    if isinstance(value, dict):
        return DictOf(tuple((name, type_of(value[name])) for name in sorted(value)))
    if is_array(value):
        return NdArray(tuple(value.shape))  # type: ignore[attr-defined]
    for known, type_ in _BY_CLASS.items():
        if isinstance(value, known):
            return type_
    raise TypeError(f"a table cannot hold a {type(value).__name__}")


def _type_of_value(value: Value) -> Type:
    if isinstance(value, Image):
        return Images.of(value)
    if isinstance(value, Classes | BoundingBoxes2D | ImageMask):
        return ANY  # such cells have no type of their own in the format
    if value.kind == "table":
        return TableCells(value)  # type: ignore[arg-type] # a Table, which knows this module
    return Plain(value.kind)


def is_array(value: object) -> bool:
    """Whether it is numpy's ndarray, without loading numpy."""
    return type(value).__module__ == "numpy" and hasattr(value, "shape") and hasattr(value, "tolist")


def declared(dtype: object) -> Type:
    """What somebody means by a type: one of these, a class of Python's, or a class of values. None: not known yet.

    Raises TypeError.
    """
    if dtype is None:
        return UNKNOWN
    if isinstance(dtype, Type):
        return dtype
    if isinstance(dtype, type):
        if dtype in _BY_CLASS:
            return _BY_CLASS[dtype]
        if issubclass(dtype, Image):
            return Images()
        if issubclass(dtype, Value):
            return Plain(dtype.kind)
    raise TypeError(f"{dtype!r} is no type of a column")


# from JSON ----------------------------------------------------------------------------------------

_PLAIN_NAMES = frozenset(
    "any unknown none number string boolean timestamp primaryKey audio-file video-file html-file object3D-file "
    "bokeh-file joined-table partitioned-table".split()
)


def type_from_json(given: Any, source: Source, depth: int = 0) -> Type:
    """Raises BadObjectError."""
    if not isinstance(given, dict) or depth > MAX_DEPTH:
        raise bad("a column's type is malformed")
    name = required(given, "wb_type", str)
    params = given.get("params") or {}
    if not isinstance(params, dict):
        raise bad("a type's params must be an object")
    if name in _PLAIN_NAMES:
        return Plain(name)
    if name == "union":
        members = required(params, "allowed_types", list)
        return Union(tuple(type_from_json(member, source, depth + 1) for member in members))
    if name == "list" and "element_type" in params:
        length = params.get("length")
        element = type_from_json(params["element_type"], source, depth + 1)
        return ListOf(element, length if isinstance(length, int) else 0)
    if name == "typedDict":
        type_map = required(params, "type_map", dict)
        return DictOf(tuple((key, type_from_json(type_map[key], source, depth + 1)) for key in sorted(type_map)))
    if name == "ndarray":
        return _array_from_json(params)
    if name == "pythonObject":
        return PythonObject(str(params.get("class_name", "")))
    if name == "image-file":
        return Images()  # the images themselves say what is drawn on them
    if name == "classesId" and isinstance(params.get("classes_obj"), dict):
        classes = source.value(required(params["classes_obj"], "path", str))
        if isinstance(classes, Classes):
            return ClassIds(classes)
    if name == "foreignKey":
        return ForeignKey(source.value(required(params, "table", str)), str(params.get("col_name", "")))
    return Raw(name, params)


def _array_from_json(params: Mapping[str, Any]) -> NdArray:
    shape = params.get("shape")
    place = params.get("serialization_path")
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise bad("an array's shape must be whole numbers")
    array = NdArray(tuple(shape))
    if isinstance(place, dict):
        array = replace(array, path=required(place, "path", str), key=required(place, "key", str))
    return array
