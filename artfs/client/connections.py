"""What connections are made of: certificates, proxies, limits; for both libraries that make them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from artfs.errors import UsageError

if TYPE_CHECKING:
    from artfs.client.direct import Direct

CONNECT_S = 10.0
"""How long a connection may take at most, in seconds."""

CONNECTIONS = 32
"""Most connections to a server at once."""

LOCAL = ("localhost", "127.0.0.1", "::1")
"""What HTTPS_PROXY and the like say is not meant for this machine."""

with suppress(ImportError, AttributeError):
    # httpcore asks a socket for 64 KiB at a time. Each time the interpreter lock is given up and waited for, which costs a
    # process that fetches for many readers more than all else.
    from httpcore._sync.http11 import HTTP11Connection

    HTTP11Connection.READ_NUM_BYTES = 256 * 1024


def make_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """Raises UsageError for a CA bundle that cannot be used."""
    try:
        # OpenSSL's own certificates, not those of a package: administrators add theirs there.
        return ssl.create_default_context(cafile=None if ca_bundle is None else str(ca_bundle))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"cannot use the CA bundle {ca_bundle}: {error}") from error


def make_client(context: ssl.SSLContext, proxy: str, *, from_environ: bool) -> httpx.Client:
    """Connections to a server, and to wherever else requests lead. Raises UsageError for a proxy's URL that cannot be used."""
    try:
        return httpx.Client(
            verify=context,
            proxy=proxy or None,
            trust_env=from_environ,
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=60),
        )
    except (ValueError, httpx.InvalidURL, ImportError) as error:
        raise UsageError(f"cannot use the proxy {proxy or 'of the environment'}: {error}") from error


def make_direct(
    context: ssl.SSLContext, proxy: str, on_socket: Callable[[socket.socket], None], *, from_environ: bool
) -> Direct:
    """Loads urllib3, which commands that fetch nothing do without."""
    from artfs.client.direct import Direct

    return Direct(
        context, proxy=proxy, from_environ=from_environ, connections=CONNECTIONS, connect_s=CONNECT_S, on_socket=on_socket
    )
