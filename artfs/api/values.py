"""A run's config (and its like) as scripts use it: `run.config["lr"]`, `run.config.lr`, `run.config.update(...)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from artfs.errors import InvalidArgumentError
from artfs.model.metadata import check_metadata

_Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]


def as_values(given: Mapping[str, Any] | object | None) -> dict[str, Any]:
    """A deep copy of a dict of JSON values, or of the attributes of an object (argparse's Namespace); {} for None.

    The rules of metadata hold for the values; there may be any number of them. Raises InvalidMetadataError, TypeError.
    """
    values = dict(given if isinstance(given, Mapping) else {} if given is None else vars(given))
    for name, value in values.items():
        # An Artifact, which has a JSON form of its own.
        encode = getattr(value, "json_encode", None)
        if callable(encode):
            values[name] = encode()
    plain: dict[str, Any] = check_metadata({"values": values})["values"]
    return plain


class Values(dict[str, Any]):
    """JSON values by name; each is an attribute as well. What is put in is copied, checked and persisted at once; nothing
    can be taken out."""

    def __init__(self, values: Mapping[str, Any], save: Callable[[dict[str, Any]], None]) -> None:
        """`save` persists values that are new or changed."""
        super().__init__(values)
        object.__setattr__(self, "_save", save)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"there is no value {name!r}; there are: {', '.join(self) or 'none'}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def update(self, given: _Pairs | object = (), /, allow_val_change: bool | None = None, **more: Any) -> None:
        """Adds or replaces values, all of them or (when one cannot be stored) none.

        Arguments:
            given: a dict, or an object whose attributes are taken.
            allow_val_change: taken for the sake of scripts written for wandb; values may always change.
        Raises InvalidMetadataError, TypeError, CatalogError.
        """
        pairs = given if isinstance(given, Mapping) or not isinstance(given, Iterable) else dict(given)
        values = as_values(pairs) | as_values(more)
        if values:
            self._save(values)
            super().update(values)

    def setdefault(self, name: str, default: Any = None, /) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def setdefaults(self, given: Mapping[str, Any]) -> None:
        """Adds the values whose names are new."""
        self.update({name: value for name, value in given.items() if name not in self})

    def __reduce__(self) -> Any:
        # A copy (or pickle) is of the values, and no part of the run.
        return dict, (dict(self),)

    def as_dict(self) -> dict[str, Any]:
        """A plain dict of the same values."""
        return dict(self)

    def _fixed(self, *_: object) -> Any:
        raise InvalidArgumentError("a run's values can be changed, not removed")

    __delitem__ = __delattr__ = pop = popitem = clear = _fixed
