"""References to what http servers have."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artfs.errors import (
    InvalidArgumentError,
    ReferenceChangedError,
    ReferenceMissingError,
    ReferenceRefusedError,
    UnavailableError,
)
from artfs.model.entry import RefEntry
from artfs.references.base import Examined, ignore_bytes
from artfs.references.http import ATTEMPTS, HttpSource
from artfs.references.trust import KnownSources, Trust
from artfs.settings import Settings
from artfs.testing.web import Page, WebServer


@pytest.fixture
def source(trust: Trust) -> Iterator[HttpSource]:
    made = HttpSource(trust)
    yield made
    made.close()


def examine(source: HttpSource, trust: Trust, uri: str, checksum: bool = True) -> Examined:
    """As the user who types the URI."""
    trust.known.add(uri)
    return source.examine(uri, checksum=checksum, max_objects=1)


def fetched(source: HttpSource, ref: RefEntry, target: Path) -> bytes:
    with target.open("w+b") as stream:
        source.fetch(ref, stream.fileno(), ignore_bytes)
        return target.read_bytes()


def test_etag_and_length(source: HttpSource, trust: Trust, web: WebServer, tmp_path: Path) -> None:
    url = web.put("/a/f.txt", b"hello", etag="abc")
    (found,) = examine(source, trust, url).objects
    assert (found.path, found.uri, found.size, found.checksum, found.version_id) == ("f.txt", url, 5, "abc", "")
    assert fetched(source, found.entry(b"f"), tmp_path / "copy") == b"hello"
    source.check(found.entry(b"f"))


@pytest.mark.parametrize(
    "path", ["/a%20b", "/a%23b", "/100%25", "/q?a=b&c=%2F", "/na%C3%AFve", "/what%3F", "/x;y=1,(2)!*'", "/p%2520q"]
)
def test_urls_are_asked_for_as_they_are(source: HttpSource, trust: Trust, web: WebServer, path: str, tmp_path: Path) -> None:
    (found,) = examine(source, trust, web.put(path, b"x", etag="1")).objects
    assert found.uri == web.url + path
    assert fetched(source, found.entry(b"f"), tmp_path / "copy") == b"x"
    assert web.seen[0][0] == path


def test_a_weak_etag(source: HttpSource, trust: Trust, web: WebServer) -> None:
    (found,) = examine(source, trust, web.put("/f", b"x", ETag='W/"abc"')).objects
    assert found.checksum == "W/abc"
    source.check(found.entry(b"f"))


def test_without_an_etag_the_date_counts(source: HttpSource, trust: Trust, web: WebServer) -> None:
    url = web.put("/f", b"one", Last_Modified="Tue, 01 Sep 2026 12:00:00 GMT")
    (found,) = examine(source, trust, url).objects
    assert (found.checksum, found.version_id) == ("", "Tue, 01 Sep 2026 12:00:00 GMT")
    web.put("/f", b"two", Last_Modified="Tue, 01 Sep 2026 12:00:01 GMT")
    with pytest.raises(ReferenceChangedError, match="its Last-Modified is Tue"):
        source.check(found.entry(b"f"))


def test_without_checksum_no_request_is_made(source: HttpSource, trust: Trust, web: WebServer, tmp_path: Path) -> None:
    url = web.put("/f", b"one", etag="1")
    (found,) = examine(source, trust, url, checksum=False).objects
    assert web.seen == []
    assert (found.size, found.checksum) == (None, "")
    web.put("/f", b"another", etag="2")
    assert fetched(source, found.entry(b"f"), tmp_path / "copy") == b"another"


@pytest.mark.parametrize(
    ("page", "error", "match"),
    [
        (Page(b"hello", {"ETag": '"new"'}), ReferenceChangedError, "its ETag is new, and was abc"),
        (Page(b"hello"), ReferenceChangedError, "its ETag is not given, and was abc"),
        (Page(b"longer", {"ETag": '"abc"'}), ReferenceChangedError, "its Content-Length is 6, and was 5"),
        (Page(status=404), ReferenceMissingError, "is gone: the server says 404"),
        (Page(status=403), ReferenceRefusedError, "the server says 403"),
        (Page(status=500), UnavailableError, "the server says 500"),
        (Page(b"hello", {"ETag": '"abc"'}, cut=2), UnavailableError, "failed"),
    ],
)
def test_what_changed_says_what(
    source: HttpSource, trust: Trust, web: WebServer, page: Page, error: type[Exception], match: str, tmp_path: Path
) -> None:
    (found,) = examine(source, trust, web.put("/f", b"hello", etag="abc")).objects
    web.pages["/f"] = page
    with pytest.raises(error, match=match):
        fetched(source, found.entry(b"f"), tmp_path / "copy")


def test_a_server_that_stumbles_is_asked_again(source: HttpSource, trust: Trust, web: WebServer) -> None:
    url = web.url + "/f"
    web.pages["/f"] = Page(status=503)
    with pytest.raises(UnavailableError):
        examine(source, trust, url)
    assert len(web.seen) == ATTEMPTS


def test_a_host_that_is_not_there(source: HttpSource, trust: Trust) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnavailableError, match="cannot be reached"):
        examine(source, trust, f"http://127.0.0.1:{port}/f")
    with pytest.raises(UnavailableError, match="cannot be found"):
        examine(source, trust, "http://no-such-host.invalid/f")


def test_somebody_elses_reference_does_not_reach_the_private_network(source: HttpSource, web: WebServer) -> None:
    url = web.put("/f", b"secret")
    for private in (url, url.replace("127.0.0.1", "localhost"), url.replace("127.0.0.1", "127.1"), url.replace("127.0.0.1", "0")):
        with pytest.raises(ReferenceRefusedError, match="private network"):
            source.check(RefEntry(b"f", private, None, "", ""))
    assert web.seen == []


def test_nor_by_a_redirect(source: HttpSource, trust: Trust, web: WebServer) -> None:
    other = WebServer()
    try:
        inside = other.put("/f", b"secret")
        web.pages["/there"] = Page(status=302, headers={"Location": inside})
        with pytest.raises(ReferenceRefusedError, match="private network"):
            examine(source, trust, f"{web.url}/there")
        assert other.seen == []
        for scheme in ("file:///etc/passwd", "ftp://h/x"):
            web.pages["/there"] = Page(status=302, headers={"Location": scheme})
            with pytest.raises(ReferenceRefusedError, match="not followed"):
                examine(source, trust, f"{web.url}/there")
    finally:
        other.close()


def test_a_redirect_to_the_same_server_is_followed(source: HttpSource, trust: Trust, web: WebServer, tmp_path: Path) -> None:
    web.put("/new", b"moved", etag="1")
    web.pages["/old"] = Page(status=301, headers={"Location": "/new"})
    (found,) = examine(source, trust, f"{web.url}/old").objects
    assert found.uri == f"{web.url}/old"
    assert fetched(source, found.entry(b"f"), tmp_path / "copy") == b"moved"


def test_redirects_end(source: HttpSource, trust: Trust, web: WebServer) -> None:
    web.pages["/round"] = Page(status=302, headers={"Location": "/round"})
    with pytest.raises(UnavailableError, match="leads on and on"):
        examine(source, trust, f"{web.url}/round")


def test_the_setting_allows_hosts(settings: Settings, web: WebServer, tmp_path: Path) -> None:
    url = web.put("/f", b"x")
    allowing = Trust(replace(settings, reference_hosts=("127.0.0.0/8",)), KnownSources(tmp_path / "known"))
    source = HttpSource(allowing)
    source.check(RefEntry(b"f", url, None, "", ""))
    source.close()


def test_no_credentials_go_along(
    trust: Trust, web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ARTFS_TOKEN", "secret")
    url = web.put("/f", b"x", etag="1", Set_Cookie="a=b")
    source = HttpSource(trust)
    examine(source, trust, url)
    (found,) = examine(source, trust, url).objects
    source.check(found.entry(b"f"))
    source.close()
    for _, headers in web.seen:
        assert {name.lower() for name in headers} <= {
            "host", "accept", "accept-encoding", "user-agent", "connection", "if-none-match",
        }  # fmt: skip
        assert headers["Host"] == f"127.0.0.1:{web.port}"


def test_secrets_of_presigned_urls_are_in_no_message(source: HttpSource, trust: Trust, web: WebServer) -> None:
    with pytest.raises(ReferenceMissingError) as raised:
        examine(source, trust, f"{web.url}/f?signature=secret")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("uri", ["http://", "http://u:p@h/x"])
def test_urls_that_are_refused(source: HttpSource, uri: str) -> None:
    with pytest.raises(InvalidArgumentError):
        source.examine(uri, checksum=True, max_objects=1)
