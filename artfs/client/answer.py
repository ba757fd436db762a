"""An answer, whichever library got it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx

from artfs.errors import UnavailableError

ANSWER_NBYTES = 128 * 1024 * 1024
"""Several times what the longest answer has that is read as a whole: whoever sends more wants our memory."""

_ABOUT_THE_BODY = (b"content-encoding", b"content-length", b"transfer-encoding")

AS_IT_IS = {"Accept-Encoding": "identity"}
"""Nothing is sent to us packed: a quarter of a megabyte of it may be 256 in memory."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To one request, whatever it says. `headers`: by any case of their names. `pieces`: its body, as it comes."""

    status: int
    headers: Mapping[str, str]
    host: str
    pieces: Iterator[bytes]


def read_whole(response: httpx.Response, limit_s: float, *, max_nbytes: int | None = None) -> httpx.Response:
    """The same answer with its body. `limit_s`: in which it must have come, in seconds, however often a little of it comes.
    `max_nbytes`: None: ANSWER_NBYTES. Raises UnavailableError, httpx.HTTPError; `response` is left to be closed."""
    packed = response.headers.get("content-encoding", "identity")
    if packed.lower() != "identity":
        raise UnavailableError(f"answers in a form that it was not asked for ({packed})")
    most = ANSWER_NBYTES if max_nbytes is None else max_nbytes
    until = time.monotonic() + limit_s
    body = bytearray()
    late = False
    for piece in response.iter_raw():
        if late:
            raise UnavailableError(f"has not come to the end of its answer in {limit_s:.0f} s")
        body += piece
        if len(body) > most:
            raise UnavailableError(f"answers with more than {most >> 20} MiB, which is no answer of ours")
        late = time.monotonic() > until
    kept = [(name, value) for name, value in response.headers.raw if name.lower() not in _ABOUT_THE_BODY]
    return httpx.Response(response.status_code, headers=kept, content=bytes(body), request=response.request)
