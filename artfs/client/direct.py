"""What a bucket sends, from URLs that a server has signed.

Nearly all bytes that a client gets come this way. So this is urllib3, which asks a socket once for each piece and copies it
nowhere; httpx, which makes all other calls, takes it through three buffers (docs/performance.md).
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from artfs.client.answer import Answer
from artfs.errors import UnavailableError

PIECE_NBYTES = 256 * 1024
"""What a socket is asked for at once, in bytes."""

_POOLS = 16
"""Hosts to which connections are kept."""


class Direct:
    """Thread-safe; connections are kept.

    Arguments:
        context: which certificates are good.
        proxy: of all requests; "": as `from_environ` says.
        from_environ: whether HTTPS_PROXY and the like count.
        connections: that are kept to one host at the most.
        connect_s: how long a connection may take at most, in seconds.
        on_socket: told each connection when there is one; to shut it down is to end the wait for it.
    """

    def __init__(
        self, context: ssl.SSLContext, *, proxy: str, from_environ: bool, connections: int, connect_s: float,
        on_socket: Callable[[socket.socket], None],
    ) -> None:
        self._context = context
        self._proxy = proxy
        self._from_environ = from_environ
        self._connections = connections
        self._connect_s = connect_s
        self._pools = _told_pools(on_socket)
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._proxies: dict[tuple[str, str], str] = {}  # of the environment, as it was when a host was first asked
        self._lock = threading.Lock()

    def can(self, url: str) -> bool:
        """Whether the URL can be got this way: no proxy of another kind (SOCKS) stands before it."""
        parts = urlsplit(url)
        return urlsplit(self._proxy_of(parts.scheme, parts.hostname or "")).scheme in ("", "http", "https")

    def close(self) -> None:
        """What is under way goes on, until its socket is shut down."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str], silence_s: float) -> Iterator[Answer]:
        """One request; there may be `silence_s` between two pieces of its answer, in seconds. What goes wrong on the way comes
        out as UnavailableError, which does not name the URL's query: that is its secret."""
        parts = urlsplit(url)
        timeout = urllib3.Timeout(connect=min(self._connect_s, silence_s), read=silence_s)
        with _reworded(f"{parts.scheme}://{parts.netloc}"):
            response = self._manager(self._proxy_of(parts.scheme, parts.hostname or "")).request(
                "GET", url, headers=dict(headers), preload_content=False, decode_content=False, redirect=False, retries=False,
                timeout=timeout,
            )
            try:
                yield Answer(response.status, response.headers, parts.hostname or "", _pieces(response))
            finally:
                response.close()  # of a connection that was read to its end only the answer

    def _proxy_of(self, scheme: str, host: str) -> str:
        if self._proxy or not self._from_environ:
            return self._proxy
        found = self._proxies.get((scheme, host))
        if found is None:
            found = self._proxies[scheme, host] = _proxy_of_environ(scheme, host)
        return found

    def _manager(self, proxy: str) -> urllib3.PoolManager:
        with self._lock:
            manager = self._managers.get(proxy)
            if manager is None:
                if proxy:
                    manager = urllib3.ProxyManager(
                        _without_secret(proxy), _POOLS, proxy_headers=_proxy_headers(proxy), proxy_ssl_context=self._context,
                        maxsize=self._connections, ssl_context=self._context,
                    )
                else:
                    manager = urllib3.PoolManager(_POOLS, maxsize=self._connections, ssl_context=self._context)
                manager.pool_classes_by_scheme = self._pools
                self._managers[proxy] = manager
            return manager


def _proxy_of_environ(scheme: str, host: str) -> str:
    known = getproxies()
    found = known.get(scheme) or known.get("all") or ""
    if not found or proxy_bypass(host):
        return ""
    return found if "://" in found else f"http://{found}"


def _pieces(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """What there is each time: a connection that is reset takes with it only what nobody has asked for yet."""
    while data := response.read1(PIECE_NBYTES, decode_content=False):
        yield data


@contextmanager
def _reworded(where: str) -> Iterator[None]:
    try:
        yield
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        raise UnavailableError(f"{where} does not answer: {_words(error)}") from None


def _words(error: BaseException) -> str:
    match error:
        # The first is a kind of the second.
        case urllib3.exceptions.NewConnectionError() | urllib3.exceptions.ProxyError() | urllib3.exceptions.SSLError():
            cause = error.__cause__ or error.__context__
            return _words(cause) if cause is not None else type(error).__name__
        case urllib3.exceptions.ConnectTimeoutError():
            return "connecting takes too long"
        case urllib3.exceptions.ReadTimeoutError():
            return "it says nothing for too long"
        case http.client.IncompleteRead():
            return "the connection was closed in the middle of an answer"
        case urllib3.exceptions.ProtocolError() if error.args and isinstance(error.args[-1], Exception):
            return _words(error.args[-1])
        case ssl.SSLError():
            return str(error)
        case OSError():
            return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__


def _told_pools(on_socket: Callable[[socket.socket], None]) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            on_socket(self.sock)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            on_socket(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _without_secret(proxy: str) -> str:
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _proxy_headers(proxy: str) -> dict[str, str] | None:
    user, at, _ = urlsplit(proxy).netloc.rpartition("@")
    if not at:
        return None
    return {"Proxy-Authorization": "Basic " + b64encode(unquote(user).encode()).decode()}
