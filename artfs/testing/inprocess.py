"""A server inside the process that tests run in: made and ended in milliseconds, where one of its own takes most of a second.

It serves through uvicorn, not granian: for tests of what clients make of a server, not of how it is run.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from artfs.server.app import AppOptions, make_app
from artfs.server.dispatch import HttpOptions
from artfs.server.parts import Places, open_parts


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """Yields the URL of a server without tokens.

    Arguments:
        home: its database ("catalog.db", with the current schema) and its blobs are there.
    """
    # With its protocol told, as asyncio sets TCP_NODELAY only then: without that each answer takes 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        app = make_app(
            open_parts(Places(home / "catalog.db", home / "blobs")), AppOptions(HttpOptions(open_to_all=True))
        )
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=10)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="in-process server")
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
