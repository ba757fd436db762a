import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import BadObjectError
from artfs.model.blocklist import (
    HASHES_PER_BLOCK,
    block_count,
    decode_block_list,
    encode_block_list,
    has_lower_list,
    hash_blocks,
)
from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE, digest_bytes

MIB = 1024 * 1024
TWO_GIB = HASHES_PER_BLOCK * BLOCK_SIZE


def hashes_for(size: int) -> bytes:
    count = block_count(size)
    return (b"0123456789abcdef" * 2 * count)[: count * 32]


def test_blocks_are_hashed_with_blake3():
    data = bytes(range(256)) * 1024 * 5  # five blocks
    data += b"tail"
    hashes = hash_blocks(data)
    assert len(hashes) == 6 * 32
    assert hashes[:32] == blake3(data[:BLOCK_SIZE]).digest()
    assert hashes[-32:] == blake3(b"tail").digest()
    assert hash_blocks(b"") == b""


def test_a_list_of_at_most_8192_blocks_is_one_object():
    hashes = hashes_for(TWO_GIB)
    (top,) = encode_block_list(TWO_GIB, hashes)
    assert msgspec.msgpack.decode(top) == [1, TWO_GIB, b"", hashes]
    found = decode_block_list(digest_bytes(top), top, TWO_GIB)
    assert (found.size, found.lower, found.hashes) == (TWO_GIB, b"", hashes)
    assert (found.count, found.lower_size) == (HASHES_PER_BLOCK, 0)
    assert not has_lower_list(TWO_GIB)


def test_a_longer_list_has_a_list_of_its_own():
    size = TWO_GIB + 1
    hashes = hashes_for(size)
    lower, top = encode_block_list(size, hashes)
    assert lower == hashes
    found = decode_block_list(digest_bytes(top), top, size)
    assert found.lower.hex() == digest_bytes(hashes)
    assert found.hashes == hash_blocks(hashes)
    assert (found.count, found.lower_size) == (HASHES_PER_BLOCK + 1, len(hashes))
    assert has_lower_list(size)


def test_single_hashes_can_be_had():
    hashes = hashes_for(2 * MIB)
    (top,) = encode_block_list(2 * MIB, hashes)
    found = decode_block_list(digest_bytes(top), top, 2 * MIB)
    assert b"".join(found.hash_at(at) for at in range(found.count)) == hashes
    for at in (-1, found.count):
        with pytest.raises(IndexError):
            found.hash_at(at)


@pytest.mark.parametrize("size", [0, BLOCKS_ABOVE])
def test_small_blobs_have_no_list(size: int):
    with pytest.raises(ValueError, match="no block list"):
        encode_block_list(size, hashes_for(size))


def test_the_number_of_hashes_must_suit_the_size():
    with pytest.raises(ValueError, match="for 9 blocks"):
        encode_block_list(2 * MIB + 1, hashes_for(2 * MIB))


SIZE = 2 * MIB
GOOD = encode_block_list(SIZE, hashes_for(SIZE))[0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (GOOD[:-1], "truncated"),
        (GOOD + b"\0", "trailing"),
        (msgspec.msgpack.encode([2, SIZE, b"", hashes_for(SIZE)]), "format 2"),
        (msgspec.msgpack.encode([1, SIZE + 1, b"", hashes_for(SIZE)]), "for a blob of"),
        (msgspec.msgpack.encode([1, SIZE, b"x" * 32, hashes_for(SIZE)]), "number of levels"),
        (msgspec.msgpack.encode([1, SIZE, b"", hashes_for(SIZE)[:-32]]), "number of hashes"),
        (msgspec.msgpack.encode([1, SIZE, b"", hashes_for(SIZE)[:-1]]), "number of hashes"),
        (msgspec.msgpack.encode([1, SIZE, b"", hashes_for(SIZE), 1]), "length"),
        (msgspec.msgpack.encode([1, -1, b"", b""]), ">= 0"),
        (msgspec.msgpack.encode([1, 2**64 - 1, b"", b""]), "<="),
        (msgspec.msgpack.encode({"size": SIZE}), "array"),
        (b"\x94\x01\xce\x00\x20\x00\x00\xc5\x00\x00" + GOOD[9:], "canonical"),  # an empty bin 16 for `lower`
        (b"\x91" * 100_000, "array"),
    ],
)
def test_a_malformed_list_is_an_error_that_names_the_digest(data: bytes, why: str):
    digest = digest_bytes(data)
    with pytest.raises(BadObjectError, match=why) as caught:
        decode_block_list(digest, data, SIZE)
    assert digest in str(caught.value)
    assert caught.value.digest == digest


def test_bytes_of_another_digest_are_refused():
    with pytest.raises(BadObjectError, match="another digest"):
        decode_block_list("0" * 64, GOOD, SIZE)


def test_a_list_for_a_small_blob_is_refused():
    data = msgspec.msgpack.encode([1, MIB, b"", hashes_for(MIB)])
    with pytest.raises(BadObjectError, match="so small"):
        decode_block_list(digest_bytes(data), data, MIB)


@given(st.binary(max_size=60) | st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)))
def test_damage_never_raises_anything_else(damage: bytes | tuple[int, int]):
    if isinstance(damage, bytes):
        data = damage
    else:
        data = GOOD[: damage[0]] + bytes([damage[1]]) + GOOD[damage[0] + 1 :]
    try:
        found = decode_block_list(digest_bytes(data), data, SIZE)
    except BadObjectError:
        return
    assert msgspec.msgpack.encode([1, found.size, found.lower, found.hashes]) == data
