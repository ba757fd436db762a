"""The socket that a server listens on."""

from __future__ import annotations

import socket

from artfs.server.serve import ServeOptions, _listen


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """A streamed answer is several packets; each goes at once."""
    with _listen(ServeOptions("127.0.0.1", 0)) as listening:
        with socket.create_connection(listening.getsockname()) as client:
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert client.recv(1) == b""
