"""Sending one large file: what others do with the same upload meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from artfs.client.largeupload import Large, LargeUpload, Tally, fingerprint
from artfs.errors import UnavailableError
from artfs.model.records import Content
from artfs.testing.blobworld import some_data
from artfs.wire.blobroutes import BEGIN_UPLOAD, PARTS_DONE
from artfs.wire.messages import PartsDone, Upload, UploadPart

MIB = 1024 * 1024
DATA = some_data(2 * MIB)
BEGUN = Upload("u", MIB, True, [UploadPart(0, MIB, ""), UploadPart(1, MIB, "")])


class Server:
    """Stands for client.http.Http. `tell`: what a request about parts is answered; `puts`: URLs that parts were sent to."""

    timeout_s = 5.0

    def __init__(self, tell: Callable[[PartsDone], Upload]) -> None:
        self._tell = tell
        self.begun = self.asked = 0
        self.puts: list[str] = []
        # How many PUTs fail, after how long; and whether most of that is after the last byte.
        self.cuts, self.takes_s, self.is_silent = 0, 0.0, False

    def call(self, route: Any, arguments: Any = None, query: Any = None, body: Any = None) -> Upload:
        if route is BEGIN_UPLOAD:
            self.begun += 1
            return BEGUN
        assert route is PARTS_DONE
        self.asked += 1
        assert self.asked < 20
        return self._tell(body)

    @contextmanager
    def stream(self, *given: Any, **more: Any) -> Iterator[Any]:
        class Lines:
            def iter_lines(self) -> Iterator[str]:
                yield '{"verified": 2097152, "done": true}'

        yield Lines()

    @contextmanager
    def elsewhere(self, method: str, url: str, *, content: Iterator[bytes], **more: Any) -> Iterator[Any]:
        if self.cuts > 0:
            time.sleep(0.0 if self.is_silent else self.takes_s)
        assert sum(len(piece) for piece in content) == MIB
        if self.cuts > 0:
            time.sleep(self.takes_s if self.is_silent else 0.0)
            self.cuts -= 1
            raise UnavailableError("cut")
        self.puts.append(url)
        yield httpx.Response(200, content=iter([b""]), request=httpx.Request(method, url))

    @contextmanager
    def own(self, path: str, *, content: Iterator[bytes], **more: Any) -> Iterator[Any]:
        yield httpx.Response(404, content=iter([b"no such call"]), request=httpx.Request("PUT", f"http://server{path}"))


@pytest.fixture
def send(tmp_path: Path) -> Iterator[Callable[[Server], None]]:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    fd = os.open(path, os.O_RDONLY)
    large = Large(str(path), Content("0" * 64, len(DATA)), fd, fingerprint(os.fstat(fd)))
    with ThreadPoolExecutor(2) as pool:
        stopped = threading.Event()
        yield lambda http: LargeUpload(http, {}, large, pool, Tally(), stopped).send()  # type: ignore[arg-type]
    large.close()


def urls(said: PartsDone) -> list[UploadPart]:
    return [UploadPart(each.number, MIB, f"https://bucket.example/{each.number}") for each in said.want]


def test_what_another_has_sent_in_the_meantime_is_there(send: Callable[[Server], None]) -> None:
    """Two machines send the same file to one project."""
    http = Server(lambda said: Upload("u", MIB, done=[0, 1]))
    send(http)
    assert (http.puts, http.begun) == ([], 1)


def test_an_upload_that_was_begun_anew_is_asked_for_again(send: Callable[[Server], None]) -> None:
    """Somebody had promised other bytes of a part: all parts are wanted, and none has a place yet."""
    answers = iter([BEGUN])

    def tell(said: PartsDone) -> Upload:
        if (again := next(answers, None)) is not None:
            return again
        return Upload("u", MIB, True, urls(said), [part.number for part in said.parts])

    http = Server(tell)
    send(http)
    assert (sorted(http.puts), http.begun) == (["https://bucket.example/0", "https://bucket.example/1"], 2)


@pytest.mark.parametrize(("cuts", "arrives"), [(1, True), (3, True), (30, False)])
def test_a_part_that_takes_longer_than_a_call_may_be_cut(send: Callable[[Server], None], cuts: int, arrives: bool) -> None:
    """Over a slow link: the limit is for tries that bring nothing. But it does not go on for ever."""
    http = Server(lambda said: Upload("u", MIB, True, urls(said), [part.number for part in said.parts]))
    http.timeout_s, http.cuts, http.takes_s = 0.5, cuts, 0.6
    if arrives:
        send(http)
        assert len(http.puts) == 2
    else:
        with pytest.raises(UnavailableError, match="cut"):
            send(http)


def test_a_bucket_that_takes_bytes_and_says_nothing_is_an_error_in_time(send: Callable[[Server], None]) -> None:
    http = Server(lambda said: Upload("u", MIB, True, urls(said), [part.number for part in said.parts]))
    http.timeout_s, http.cuts, http.takes_s, http.is_silent = 0.5, 30, 0.6, True
    with pytest.raises(UnavailableError, match="cut"):
        send(http)
    assert http.cuts >= 28  # one try of each part
