from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.api.pathmap import PathMap, parents
from artfs.errors import ConflictError, PathNotFoundError

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)


def test_parents_deepest_first() -> None:
    assert list(parents("a/b/c")) == ["a/b", "a"]
    assert list(parents("a")) == []


def test_a_path_is_not_both_file_and_directory() -> None:
    paths: PathMap[int] = PathMap()
    paths.put("k/z", 1)
    with pytest.raises(ConflictError, match="'k' is a directory"):
        paths.put("k", 2)
    with pytest.raises(ConflictError, match="'k/z' is a file"):
        paths.put("k/z/y", 2)
    with pytest.raises(ConflictError, match="'k/z' is a file"):
        paths.put_empty_dir("k/z")
    assert dict(paths.items()) == {"k/z": 1}


def test_replacing_is_no_conflict() -> None:
    paths: PathMap[int] = PathMap()
    paths.put("k/z", 1)
    paths.put("k/z", 2)
    assert paths.get("k/z") == 2
    paths.remove("k/z")
    paths.put("k", 3)
    assert list(paths) == ["k"]


def test_empty_directories_are_kept_until_something_is_in_them() -> None:
    paths: PathMap[int] = PathMap()
    paths.put_empty_dir("e/f")
    assert paths.empty_dirs() == ["e/f"]
    with pytest.raises(ConflictError, match="'e/f' is a directory"):
        paths.put("e/f", 1)
    paths.put("e/f/g", 1)
    assert paths.empty_dirs() == []
    paths.remove("e/f")
    assert paths.empty_dirs() == []
    assert len(paths) == 0


def test_what_lies_above_an_empty_directory_is_a_directory() -> None:
    paths: PathMap[int] = PathMap()
    paths.put_empty_dir("e/f/g")
    paths.put_empty_dir("e/f/g")
    paths.put_empty_dir("e")
    for path in ("e", "e/f", "e/f/g"):
        assert paths.is_dir(path)
        with pytest.raises(ConflictError, match=f"'{path}' is a directory"):
            paths.put(path, 1)
    assert paths.empty_dirs() == ["e/f/g"]
    assert paths.remove("e/f") == []
    assert paths.empty_dirs() == []
    paths.put("e", 1)
    assert list(paths) == ["e"]


def test_remove_file_directory_or_nothing() -> None:
    paths: PathMap[int] = PathMap()
    for path in ("a", "d/x", "d/e/y", "dd"):
        paths.put(path, 0)
    assert sorted(paths.remove("d")) == ["d/e/y", "d/x"]
    assert sorted(paths) == ["a", "dd"]
    with pytest.raises(PathNotFoundError, match="'d'"):
        paths.remove("d")


@given(st.lists(st.tuples(PATHS, st.booleans())))
def test_directories_are_what_has_items_below(steps: list[tuple[str, bool]]) -> None:
    paths: PathMap[int] = PathMap()
    model: dict[str, int] = {}
    for path, put in steps:
        below = [item for item in model if item.startswith(path + "/")]
        if put:
            free = path in model or not (below or any(parent in model for parent in parents(path)))
            try:
                paths.put(path, 1)
                assert free
                model[path] = 1
            except ConflictError:
                assert not free
        else:
            gone = [path] if path in model else below
            try:
                assert sorted(paths.remove(path)) == sorted(gone)
            except PathNotFoundError:
                assert not gone
            for item in gone:
                del model[item]
    assert dict(paths.items()) == model
    for path in ("a", "a/a", "b", "b/c"):
        assert paths.is_dir(path) == any(item.startswith(path + "/") for item in model)
