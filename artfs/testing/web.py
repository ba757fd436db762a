"""A small http server for tests of references: it answers what it is told to, and remembers what it was asked."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What a path of the server answers. `headers`: added; `cut`: so many bytes of the body are held back."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    cut: int = 0


class WebServer:
    """An http server on a port of its own. `pages`: by path, query included; `seen`: (path, headers) of each request."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                web.seen.append((self.path, dict(self.headers)))
                page = web.pages.get(self.path, Page(status=404))
                self.send_response(page.status)
                self.send_header("Content-Length", str(len(page.body)))
                for name, value in page.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(page.body[: len(page.body) - page.cut])

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def put(self, path: str, body: bytes, etag: str = "", **headers: str) -> str:
        """Sets a page; returns its URL."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = Page(body, {**({"ETag": f'"{etag}"'} if etag else {}), **given})
        return self.url + path

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
