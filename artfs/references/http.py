"""References to what http servers have.

The checksum is the ETag; where there is none, `Last-Modified` stands as the version id, so that at least an edit shows.
Nothing of this machine goes along: no credentials, no cookies, no proxy settings. Each hop's addresses are looked up once,
judged, and then connected to (so nobody can answer the second look-up with another address).
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urljoin

import httpx

from artfs.errors import (
    InvalidArgumentError,
    ReferenceChangedError,
    ReferenceMissingError,
    ReferenceRefusedError,
    StorageError,
    UnavailableError,
)
from artfs.model.entry import RefEntry
from artfs.model.unreadable import read_number
from artfs.references.base import Examined, Found, OnBytes
from artfs.references.trust import Trust
from artfs.references.uris import http_name, http_place, shown
from artfs.store.verify import write_all

MAX_REDIRECTS = 10
TIMEOUT_S = 20.0
"""How long a server may say nothing, in seconds."""

ATTEMPTS = 3
BACKOFF_S = 0.2

_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "artfs"}
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 429, 500, 502, 503, 504)
_CHUNK = 1024 * 1024


class HttpSource:
    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        # Not httpx.Client: that would log each URL with its query, keep cookies and read .netrc.
        self._transport = httpx.HTTPTransport(verify=ssl.create_default_context(), trust_env=False)

    def close(self) -> None:
        """Closes kept connections."""
        self._transport.close()

    def examine(self, uri: str, *, checksum: bool, max_objects: int) -> Examined:
        http_place(uri)
        try:
            name = http_name(uri)
        except InvalidArgumentError:
            name = ""
        if not checksum:
            return Examined(True, [Found(name, uri)])
        with self._get(uri, {}) as response:
            size, etag, modified = _facts(response)
        return Examined(True, [Found(name, uri, size, etag, modified)])

    def fetch(self, ref: RefEntry, target: int, on_bytes: OnBytes) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self._fetch(ref, target, on_bytes)
                return
            except httpx.HTTPError as error:
                if attempt == ATTEMPTS - 1:
                    raise UnavailableError(f"reading {shown(ref.uri)} failed: {_words(error)}") from error
                time.sleep(BACKOFF_S * 2**attempt)
                os.ftruncate(target, 0)

    def _fetch(self, ref: RefEntry, target: int, on_bytes: OnBytes) -> None:
        with self._get(ref.uri, {}) as response:
            _compare(ref, response)
            at = 0
            for chunk in response.iter_raw(_CHUNK):
                try:
                    write_all(target, chunk, at)
                except OSError as error:
                    raise StorageError.wrap(error, f"storing {shown(ref.uri)}") from error
                at += len(chunk)
                on_bytes(len(chunk))
                if ref.size is not None and at > ref.size:
                    break
            if ref.size is not None and at != ref.size:
                raise ReferenceChangedError(f"{shown(ref.uri)} changed: it gave {at} bytes, and had {ref.size}")

    def check(self, ref: RefEntry) -> None:
        headers = {"If-None-Match": f'"{ref.checksum}"'} if ref.checksum and not ref.checksum.startswith("W/") else {}
        with self._get(ref.uri, headers) as response:
            if response.status_code != httpx.codes.NOT_MODIFIED:
                _compare(ref, response)

    # one request -------------------------------------------------------------------------------------------------
    @contextmanager
    def _get(self, uri: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """The response (200 or 304), its body not read. Raises what Source says."""
        response = self._try_often(uri, headers)
        try:
            status = response.status_code
            if status in (404, 410):
                raise ReferenceMissingError(f"{shown(uri)} is gone: the server says {status}")
            if status in (401, 403, 407, 451):
                raise ReferenceRefusedError(f"{shown(uri)} may not be read: the server says {status}")
            if status not in (200, 304):
                raise UnavailableError(f"{shown(uri)} cannot be read: the server says {status}")
            yield response
        finally:
            response.close()

    def _try_often(self, uri: str, headers: dict[str, str]) -> httpx.Response:
        for attempt in range(ATTEMPTS):
            try:
                response = self._follow(uri, headers)
            except httpx.HTTPError as error:
                if attempt == ATTEMPTS - 1:
                    raise UnavailableError(f"{shown(uri)} cannot be reached: {_words(error)}") from error
            else:
                if response.status_code not in _AGAIN or attempt == ATTEMPTS - 1:
                    return response
                response.close()
            time.sleep(BACKOFF_S * 2**attempt)
        raise AssertionError("not reached")

    def _follow(self, uri: str, headers: dict[str, str]) -> httpx.Response:
        at = uri
        for _ in range(MAX_REDIRECTS + 1):
            response = self._hop(at, headers)
            where = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not where:
                return response
            response.close()
            try:
                at = urljoin(at, where)
            except ValueError as error:
                raise UnavailableError(f"{shown(uri)} leads to what is no URL: {error}") from None
            if not at.lower().startswith(("http://", "https://")):
                raise ReferenceRefusedError(f"{shown(uri)} leads to {at.partition(':')[0]}:, which is not followed")
        raise UnavailableError(f"{shown(uri)} leads on and on ({MAX_REDIRECTS} redirects)")

    def _hop(self, url: str, headers: dict[str, str]) -> httpx.Response:
        host, port = http_place(url)
        addresses = _addresses(host, port)
        allowed = [address for address in addresses if self._trust.may_connect(url, host, address)]
        if not allowed:
            raise self._trust.refused_host(url, host)
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise InvalidArgumentError(f"{shown(url)} is no URL: {error}") from None
        named = {"Host": parsed.netloc.decode("ascii"), **_HEADERS, **headers}
        failure: httpx.TransportError | None = None
        for address in allowed:
            request = httpx.Request(
                "GET",
                parsed.copy_with(host=address),
                headers=named,
                extensions={"sni_hostname": host, "timeout": httpx.Timeout(TIMEOUT_S).as_dict()},
            )
            try:
                return self._transport.handle_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"the host {host} cannot be found: {error}") from None
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


def _facts(response: httpx.Response) -> tuple[int | None, str, str]:
    """(size, checksum, version id)."""
    length = response.headers.get("content-length", "")
    etag = response.headers.get("etag", "")
    weak = "W/" if etag.startswith("W/") else ""
    checksum = weak + etag.removeprefix("W/").strip('"') if etag else ""
    modified = "" if checksum else response.headers.get("last-modified", "")
    return read_number(length), checksum, modified


def _compare(ref: RefEntry, response: httpx.Response) -> None:
    size, etag, modified = _facts(response)
    for what, now, then in (
        ("ETag", etag, ref.checksum),
        ("Last-Modified", modified, ref.version_id),
        ("Content-Length", size, ref.size),
    ):
        if then and now != then and not (what == "Content-Length" and now is None):
            raise ReferenceChangedError(f"{shown(ref.uri)} changed: its {what} is {now or 'not given'}, and was {then}")


def _words(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
