"""Messages are found wherever the reads happen to split them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from artfs.testing.httpscan import Body, End, Head, RequestScan, ResponseScan

LENGTH = b"PUT /a?x=1 HTTP/1.1\r\nHost: h\r\ncontent-length: 5\r\nExpect: 100-continue\r\n\r\n"
CHUNKED = b"POST /b HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
CHUNKS = b"3\r\nab\n\r\nA;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
PLAIN = b"GET /c HTTP/1.1\r\nHost: h\r\n\r\n"


def pieces(data: bytes, cuts: list[int]) -> Iterator[memoryview]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return (memoryview(data)[a:b] for a, b in itertools.pairwise(places))


def requests(parts: Iterator[Head | Body | End]) -> list[tuple[str, bytes]]:
    """(line, body) of each whole request; checks that bodies are told in order."""
    found: list[tuple[str, bytes]] = []
    line, body = "", b""
    for part in parts:
        if isinstance(part, Head):
            line, body = part.line, b""
        elif isinstance(part, Body):
            assert part.at == len(body)
            body += part.data
        else:
            found.append((line, body))
    return found


@given(st.lists(st.integers(min_value=0), max_size=12))
def test_requests_are_found_in_any_pieces(cuts: list[int]) -> None:
    data = LENGTH + b"GET /" + CHUNKED + CHUNKS + PLAIN + PLAIN
    scan = RequestScan()
    found = requests(part for piece in pieces(data, cuts) for part in scan.feed(piece))
    assert found == [("PUT /a?x=1", b"GET /"), ("POST /b", CHUNKS), ("GET /c", b""), ("GET /c", b"")]


@given(st.lists(st.integers(min_value=0), max_size=12))
def test_all_bytes_are_passed_on_once_and_in_order(cuts: list[int]) -> None:
    data = LENGTH + b"12345" + CHUNKED + CHUNKS + PLAIN
    scan = RequestScan()
    parts = [part for piece in pieces(data, cuts) for part in scan.feed(piece)]
    assert b"".join(bytes(part.data) for part in parts if not isinstance(part, End)) == data


def test_who_waits_before_sending_a_body_is_told() -> None:
    head = next(iter(RequestScan().feed(memoryview(LENGTH))))
    assert isinstance(head, Head) and head.expects
    head = next(iter(RequestScan().feed(memoryview(PLAIN))))
    assert isinstance(head, Head) and not head.expects


@given(st.binary(min_size=1, max_size=50), st.lists(st.integers(min_value=0), max_size=5))
def test_other_protocols_are_one_body_without_a_name(rest: bytes, cuts: list[int]) -> None:
    data = b"\x16\x03\x01" + rest
    scan = RequestScan()
    parts = [part for piece in pieces(data, cuts) for part in scan.feed(piece)]
    assert [part.line for part in parts if isinstance(part, Head)] == [""]
    assert b"".join(bytes(part.data) for part in parts if isinstance(part, Body)) == data
    assert not any(isinstance(part, End) for part in parts)


def test_what_only_begins_like_a_request_is_passed_on() -> None:
    for data in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /\r\n\r\n", b"X" * 20):
        parts = list(RequestScan().feed(memoryview(data)))
        assert b"".join(bytes(part.data) for part in parts if isinstance(part, Body)) == data


@given(st.lists(st.integers(min_value=0), max_size=12))
def test_the_body_of_an_answer_begins_after_its_last_head(cuts: list[int]) -> None:
    heads = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
    scan = ResponseScan()
    scan.begin()
    parts = [part for piece in pieces(heads + b"ab\r\n\r\n", cuts) for part in scan.feed(piece)]
    assert b"".join(bytes(part) for part in parts if isinstance(part, memoryview)) == heads
    bodies = [part for part in parts if isinstance(part, Body)]
    assert b"".join(bytes(body.data) for body in bodies) == b"ab\r\n\r\n"
    assert [body.at for body in bodies if len(body.data)] == [
        sum(len(other.data) for other in bodies[:number]) for number, body in enumerate(bodies) if len(body.data)
    ]


def test_an_answer_without_a_body_has_an_empty_one() -> None:
    scan = ResponseScan()
    scan.begin()
    *_, last = scan.feed(memoryview(b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert last == Body(memoryview(b""), 0)
