"""Each decoder of bytes from outside, on what is valid, on what the fuzzer found once, and on what is absurdly large or deep."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest

from artfs.testing.decoders import DECODERS, Decoder, decoder

each_decoder = pytest.mark.parametrize("each", DECODERS, ids=lambda each: each.name)


@each_decoder
def test_what_is_valid_is_understood(each: Decoder) -> None:
    assert max(map(each.check, each.seeds))  # not any(): all of them are tried
    for data in each.seeds:
        for cut in range(0, len(data), max(1, len(data) // 50)):
            each.check(data[:cut])


FOUND = [
    ("events", b"id: " + b"7" * 5000 + b"\n\n"),  # int() refuses so many digits
    ("a header", "²".encode()),  # isdigit() says yes, int() no
    ("a header", b"6 Nov 47:, 28" + b"9" * 50),  # a date of a year that no calendar has
    ("draft.json", b'{"entity": "\xff"}'),  # no UTF-8
    ("draft.json", b'{"metadata": ' + b"[" * 5000),
    ("hashes of a draft", b"\x03\0\0\0\x91\xa1\xff"),
    ("the journal of a commit", b"\x03\0\0\0\x91\xa1\xff"),
    ("a request to the daemon", b"[" * 100_000),
    ("a request to the daemon", b'{"op": "\xff"}'),
    ("a reply of the daemon", b'{"error": {"kind": "draft-busy", "paths": 5}}'),
    ("the record of a mount", b'{"id": "\xff"}'),
    ("a backup's marker", b'{"x": "\xff"}'),
    ("the config file", b"server = '\xff'"),
    ("the config file", b"x = " + b"[" * 5000),
    ("the config file", b'cache_path = "~nobody-of-this-name/x"'),
    ("the config file", b"deadline_s = nan"),
    ("the config file", b'home = "a\\u0000b"'),
    ("tokens.json", b"[" * 5000),
    ("a server's URL", bytes.fromhex("6870952fca098be13a")),  # a tab, which urlsplit takes away
    ("a cursor", b"W" * 100_000),  # "[[[…"
    ("a URI", b"https://[x"),
    ("a file's URI", b"file:///etc/%00"),
    ("a stand-in", b"/.artfs/file/" + b"a" * 64 + b"/-5/-/-"),
    ("a stand-in", b"/.artfs/file/" + b"a" * 64 + b"/ 1_0/-/-"),
    ("the base of a draft", b"/.artfs/tree/" + b"a" * 64 + b"/1/1"),
    ("where a blob is", b'{"digest": "' + b"a" * 64 + b'", "size": 5, "objects": [0, 1]}'),  # parts of no size
    ("where a blob is", b'{"digest": "' + b"a" * 64 + b'", "size": 5, "objects": [-1]}'),
    ("metadata", b'{"a": ' + b"[" * 100_000),
    ("metadata", b'{"a": ' + b"1" * 5000 + b"}"),
]


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_was_a_traceback_once(name: str, data: bytes) -> None:
    decoder(name).check(data)


def test_a_nan_is_no_time_limit() -> None:
    assert not decoder("the config file").check(b"deadline_s = nan")


def test_empty_frames_come_to_an_end() -> None:
    """They are no bytes of a blob, but a server could send them for ever."""
    assert not decoder("frames").check(bytes(40) * 20_000)


# absurd sizes ---------------------------------------------------------------------------------------------------------------
ABSURD: dict[str, Callable[[int], bytes]] = {
    "zeros": bytes,
    "ones": lambda n: b"\xff" * n,
    "open brackets": lambda n: b"[" * n,
    "open objects": lambda n: b'{"a":' * (n // 5),
    "nested MessagePack": lambda n: b"\x91" * n,
    "many numbers": lambda n: b"[" + b"1," * (n // 2) + b"1]",
    "a long number": lambda n: b"1" * n,
    "a long text": lambda n: b'"' + b"a" * n + b'"',
    "a long key over many values": lambda n: b'{"' + b"k" * (n // 2) + b'": [' + b"0," * (n // 4) + b"0]}",
    "long keys in each other": lambda n: b"".join(b'{"' + b"k" * (n // 100) + b'":' for _ in range(90)) + b"0" + b"}" * 90,
    "many lines": lambda n: b"\n" * n,
    "many data lines": lambda n: b"data: x\n" * (n // 8),
    "many slashes": lambda n: b"a/" * (n // 2),
    "many commas": lambda n: b"a," * (n // 2),
    "many pairs": lambda n: b"a=b&" * (n // 4),
    "many percents": lambda n: b"%41" * (n // 3),
    "blanks": lambda n: b" " * n,
    "an array that says it is huge": lambda n: b"\x93\x01\x00\xdd\xff\xff\xff\xff" + b"\xc0" * n,
    "bytes that say they are huge": lambda n: b"\x94\x01\xc6\xff\xff\xff\xff" + b"\0" * n,
}
TIMES = 16
GROWTH = 6
"""How much more than in proportion the larger input may take: with the square it would be TIMES times as much."""
LEAST_S = 0.03
"""Of processor time; less is noise."""
MEMORY = 200
"""Bytes for each byte of the larger input (lists of texts of one character take 60 and more)."""


def processor_time(each: Decoder, data: bytes) -> float:
    began = time.thread_time()
    each.check(data)
    return time.thread_time() - began


@each_decoder
def test_nothing_takes_more_than_in_proportion(each: Decoder) -> None:
    """Sixteen times the bytes take some sixteen times the processor time (of this thread, whatever else the machine does), and
    memory in proportion."""
    for what, make in ABSURD.items():
        nbytes = each.absurd
        large = make(nbytes)
        first = processor_time(each, large)
        if first > LEAST_S:
            small = min(processor_time(each, make(nbytes // TIMES)) for _ in range(3))
            took = min(first, *(processor_time(each, large) for _ in range(2)))
            allowed = max(small, LEAST_S / TIMES) * TIMES * GROWTH
            assert took < allowed, f"{what}: {small:.4f} s, and {took:.4f} s for {TIMES} times as much"
        tracemalloc.start()
        try:
            each.check(large)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MEMORY * nbytes + 1_000_000, f"{what}: {peak / nbytes:.0f} bytes for each"
