"""A run's config (and its like) as scripts use it: `run.config["lr"]`, `run.config.lr`, `run.config.update(...)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from artfs.errors import InvalidArgumentError
from artfs.model.metadata import MAX_NESTING, check_json

_Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]


def as_pairs(given: Mapping[str, Any] | object | None) -> dict[str, Any]:
    """The items of a dict, or the attributes of an object (argparse's Namespace); {} for None. Raises TypeError for what
    has none."""
    if given is None:
        return {}
    try:
        return {str(name): value for name, value in (given if isinstance(given, Mapping) else vars(given)).items()}
    except TypeError:
        raise TypeError(f"values by name are wanted, such as a dict, not {type(given).__name__}") from None


def as_values(given: Mapping[str, Any] | object | None, what: str = "config") -> dict[str, Any]:
    """A deep copy of `as_pairs` as JSON; `what` they are, for messages.

    The rules of metadata hold for the values; there may be any number of them. An Artifact becomes its `json_encode`; it may
    be a value, but not stand inside of one. Raises InvalidMetadataError, InvalidArgumentError, ArtifactNotLoggedError,
    TypeError.
    """
    pairs = as_pairs(given)
    for name, value in pairs.items():
        if not is_artifact(value) and _holds_artifact(value, MAX_NESTING):
            raise InvalidArgumentError(f"{what}[{name!r}] holds an Artifact; it can only be a value by itself")
    return check_json(pairs, what)


def is_artifact(value: object) -> bool:
    """Whether it has a JSON form of its own."""
    return callable(getattr(value, "json_encode", None)) and not isinstance(value, type)


def _holds_artifact(value: object, depth: int) -> bool:
    if depth and isinstance(value, Mapping):
        return any(_holds_artifact(item, depth - 1) for item in value.values())
    if depth and isinstance(value, list | tuple):
        return any(_holds_artifact(item, depth - 1) for item in value)
    return is_artifact(value)


def _itself(value: object) -> object:
    return value


def _nothing(artifact: object) -> None:
    pass


class Values(dict[str, Any]):
    """JSON values by name; each is an attribute as well. What is put in is copied, checked and persisted at once; nothing
    can be taken out. An Artifact stays one, and its JSON form is persisted."""

    def __init__(
        self,
        values: Mapping[str, Any],
        save: Callable[[dict[str, Any]], None],
        *,
        what: str = "config",
        stands_for: Callable[[object], object] = _itself,
        on_artifact: Callable[[Any], None] = _nothing,
    ) -> None:
        """
        Arguments:
            save: persists values that are new or changed.
            what: they are, for messages.
            stands_for: what is put in for a given value.
            on_artifact: told of each Artifact that was put in.
        """
        super().__init__(values)
        for name, value in (
            ("_save", save), ("_what", what), ("_stands_for", stands_for), ("_on_artifact", on_artifact),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

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
        Raises InvalidMetadataError, InvalidArgumentError, TypeError, CatalogError.
        """
        pairs = as_pairs(given if isinstance(given, Mapping) or not isinstance(given, Iterable) else dict(given))
        shown = {name: self._stands_for(value) for name, value in (pairs | more).items()}
        values = as_values(shown, self._what)
        if not values:
            return
        self._save(values)
        artifacts = {name: value for name, value in shown.items() if is_artifact(value)}
        for artifact in artifacts.values():
            self._on_artifact(artifact)
        super().update(values | artifacts)

    def __ior__(self, given: Any) -> Self:  # type: ignore[override,misc]
        self.update(given)
        return self

    def setdefault(self, name: str, default: Any = None, /) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def setdefaults(self, given: Mapping[str, Any]) -> None:
        """Adds the values whose names are new."""
        self.update({name: value for name, value in given.items() if name not in self})

    def __reduce__(self) -> Any:
        # A copy (or pickle) is of the values as JSON, and no part of the run.
        return dict, (as_values(self),)

    def as_dict(self) -> dict[str, Any]:
        """A plain dict of the same values."""
        return dict(self)

    def _fixed(self, *_: object) -> Any:
        raise InvalidArgumentError("a run's values can be changed, not removed")

    __delitem__ = __delattr__ = pop = popitem = clear = _fixed
