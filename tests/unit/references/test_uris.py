"""URIs of references, taken apart and put together."""

from __future__ import annotations

import os

import pytest

from artfs.errors import InvalidArgumentError
from artfs.references import uris


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("file:///a", "file"),
        ("S3://b/k", "s3"),
        ("https://h/x", "https"),
        ("https://acc.blob.core.windows.net/c/k", "azure"),
        ("http://acc.blob.core.windows.net/c/k", "http"),
        ("https://blob.core.windows.net.example.org/c", "https"),
        ("https://acc.blob.core.windows.net/c/k?versionId=x", "azure"),
        ("https://acc.blob.core.windows.net/c/k?sv=2026-01-01&sig=abc%3D", "https"),
        ("x-y+z.1://a", "x-y+z.1"),
    ],
)
def test_the_scheme(uri: str, scheme: str) -> None:
    assert uris.scheme_of(uri) == scheme


@pytest.mark.parametrize("text", ["", "file.txt", "/a/b", "a:b", "://x", "1a://x"])
def test_what_is_no_uri(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no URI"):
        uris.scheme_of(text)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/a/b.txt", "file:///a/b.txt"),
        ("/a b", "file:///a%20b"),
        ("/a#b?c%d", "file:///a%23b%3Fc%25d"),
        ("/100%25", "file:///100%2525"),
        ("/na\u00efve \u4e2d", "file:///na\u00efve%20\u4e2d"),
        (os.fsdecode(b"/raw\xff"), "file:///raw%FF"),
        ("/line\nbreak", "file:///line%0Abreak"),
        ("/", "file:///"),
    ],
)
def test_paths_of_files(path: str, uri: str) -> None:
    assert uris.file_uri(path) == uri
    assert uris.file_path(uri) == path


@pytest.mark.parametrize(
    ("uri", "paths"),
    [
        ("file:///a/b", ["/a/b"]),
        ("file://localhost/a", ["/a"]),
        ("file:///a%20b", ["/a%20b", "/a b"]),
        ("file:///a#b?c", ["/a#b?c"]),
        ("file:///a/../b/", ["/b"]),
    ],
)
def test_what_a_person_may_mean_by_a_file_uri(uri: str, paths: list[str]) -> None:
    assert uris.given_file_paths(uri) == paths


def test_a_relative_file_uri_is_of_the_current_directory() -> None:
    assert uris.given_file_paths("file://x.txt") == [f"{os.getcwd()}/x.txt"]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://b/k", ("b", "k", "", "")),
        ("s3://b", ("b", "", "", "")),
        ("s3://b/a#b%c?d e", ("b", "a#b%c?d e", "", "")),
        ("s3://b/k?versionId=a.b_c", ("b", "k", "a.b_c", "")),
        ("s3://b/what?versionId=1?versionId=2", ("b", "what?versionId=1", "2", "")),
    ],
)
def test_s3(uri: str, name: tuple[str, ...]) -> None:
    assert uris.parse_s3(uri) == name


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("gs://b/k", ("b", "k", "", "")),
        ("gs://b/k#17", ("b", "k", "17", "")),
        ("gs://b/k#x", ("b", "k#x", "", "")),
    ],
)
def test_gs(uri: str, name: tuple[str, ...]) -> None:
    assert uris.parse_gs(uri) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("c/k", ("c", "k", "", "acc")),
        ("c/a%20b%23", ("c", "a b#", "", "acc")),
        ("c/k?versionId=2026-11-01T00%3A00", ("c", "k", "2026-11-01T00:00", "acc")),
        ("c/k?sv=1&versionid=x", ("c", "k", "x", "acc")),
    ],
)
def test_azure(path: str, name: tuple[str, ...]) -> None:
    assert uris.parse_azure(f"https://acc.blob.core.windows.net/{path}") == name


@pytest.mark.parametrize("uri", ["s3://", "s3:///k", "gs://b@d/k", "https://acc.blob.core.windows.net/"])
def test_buckets_that_cannot_be(uri: str) -> None:
    parse = {"s3": uris.parse_s3, "gs": uris.parse_gs, "azure": uris.parse_azure}[uris.scheme_of(uri)]
    with pytest.raises(InvalidArgumentError, match="names no"):
        parse(uri)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("https://h/x?sig=secret", "https://h/x?…"),
        ("https://h/x", "https://h/x"),
        ("s3://b/what?", "s3://b/what?"),
        ("file:///a%3Fb", "file:///a%3Fb"),
    ],
)
def test_presigned_urls_are_redacted(uri: str, text: str) -> None:
    assert uris.shown(uri) == text


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://h/a/b.txt", "b.txt"),
        ("https://h/b.txt?a=b", "b.txt"),
        ("https://h/a%20b%23.txt#part", "a b#.txt"),
    ],
)
def test_names_of_http(uri: str, name: str) -> None:
    assert uris.http_name(uri) == name


@pytest.mark.parametrize("uri", ["https://h/", "https://h", "https://h/a/"])
def test_http_urls_without_a_name(uri: str) -> None:
    with pytest.raises(InvalidArgumentError, match="give the reference a name"):
        uris.http_name(uri)


@pytest.mark.parametrize(
    ("uri", "match"),
    [("http:///x", "no host"), ("http://u:p@h/x", "user name or password"), ("http://h:x/", "no URL")],
)
def test_http_urls_that_are_refused(uri: str, match: str) -> None:
    with pytest.raises(InvalidArgumentError, match=match) as raised:
        uris.http_place(uri)
    assert "u:p" not in str(raised.value)


@pytest.mark.parametrize(
    ("uri", "origin"),
    [
        ("HTTP://Example.org/x", "http://example.org:80"),
        ("https://h:8443/x", "https://h:8443"),
        ("s3://b/k", "s3://b"),
        ("gs://b/k#1", "gs://b"),
        ("https://acc.blob.core.windows.net/c/k", "https://acc.blob.core.windows.net/c"),
        ("file:///a/b", "file:///a/b"),
        ("x://y", "x://"),
    ],
)
def test_who_is_trusted_with_a_uri(uri: str, origin: str) -> None:
    assert uris.origin(uri) == origin


def test_entries_of_artifacts() -> None:
    assert uris.parse_artifact(uris.artifact_uri("41ff", "a/b c")) == ("41ff", "a/b c")
    for wrong in ("artfs-artifact://41ff", "artfs-artifact://xyz/a", "artfs-artifact:///a"):
        with pytest.raises(InvalidArgumentError, match="names no entry"):
            uris.parse_artifact(wrong)
