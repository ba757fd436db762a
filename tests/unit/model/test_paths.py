import os
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import InvalidNameError
from artfs.model.names import check_component, check_path
from artfs.testing import strategies


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("x", "x"),
        ("./x//y/", "x/y"),
        ("x/./y/.", "x/y"),
        (b"x/\xff", "x/\udcff"),
        (PurePosixPath("a/b"), "a/b"),
        ("a/b:c", "a/b:c"),
        ("ab:c", "ab:c"),
        ("1:x", "1:x"),
        ("a\\b", "a\\b"),
        ("line\nbreak", "line\nbreak"),
        (" lead/trail ", " lead/trail "),
        (".hidden/...", ".hidden/..."),
        ("e\u0301", "e\u0301"),
        ("\U0001f600", "\U0001f600"),
        ("x" * 255, "x" * 255),
        ("/".join("d" * 600), "/".join("d" * 600)),
    ],
)
def test_paths_have_one_spelling(path, normal: str):
    assert check_path(path) == normal


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "names no file"),
        (".", "names no file"),
        ("./", "names no file"),
        ("/", "must be relative"),
        ("/x", "must be relative"),
        ("//x", "must be relative"),
        ("\\x", "must be relative"),
        ("./\\x", "must be relative"),
        ("\\\\host\\share", "must be relative"),
        ("C:x", "drive letter"),
        ("c:\\x", "drive letter"),
        ("C:", "drive letter"),
        ("./C:x", "drive letter"),
        ("..", "'..' is not allowed"),
        ("a/..", "'..' is not allowed"),
        ("a/../b", "'..' is not allowed"),
        ("a\\..\\b", "'..' is not allowed"),
        ("..\\b", "'..' is not allowed"),
        ("a\0", "NUL"),
        (b"\0", "NUL"),
        ("x" * 256, "256 bytes"),
        ("中" * 86, "258 bytes"),
        ("\ud800", "cannot be a file name"),
    ],
)
def test_bad_paths(bad: str | bytes, why: str):
    with pytest.raises(InvalidNameError, match="invalid artifact path") as caught:
        check_path(bad)
    assert why in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, ["x"]])
def test_a_path_is_text_bytes_or_path_like(value: object):
    with pytest.raises(TypeError):
        check_path(value)  # type: ignore[arg-type]


@given(strategies.paths() | st.text("ab./\\:C\0", max_size=12))
def test_normalising_is_idempotent_and_safe(path: str):
    try:
        normal = check_path(path)
    except InvalidNameError:
        return
    assert check_path(normal) == normal
    assert PurePosixPath(normal) == PurePosixPath(path)
    assert not PureWindowsPath(normal).anchor
    for part in normal.split("/"):
        check_component(os.fsencode(part))


@given(strategies.components)
def test_components_pass(name: bytes):
    assert check_component(name) == name


@pytest.mark.parametrize("bad", [b"", b".", b"..", b"a/b", b"/", b"\0", b"x" * 256])
def test_bad_components(bad: bytes):
    with pytest.raises(InvalidNameError, match="a directory cannot hold"):
        check_component(bad)
