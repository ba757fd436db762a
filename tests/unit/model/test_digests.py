from hashlib import sha256

import pytest
from hypothesis import given

from artfs.errors import InvalidNameError
from artfs.model import digests
from artfs.testing import strategies


def test_a_digest_is_what_sha256sum_prints():
    assert (
        digests.digest_bytes(b"hello") == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    )
    assert sha256(b"").hexdigest() == digests.EMPTY


@given(strategies.raw_digests)
def test_raw_and_text_are_the_same_digest(raw: bytes):
    assert digests.to_raw(digests.from_raw(raw)) == raw
    assert digests.check_digest(raw.hex()) == raw.hex()


@pytest.mark.parametrize(
    "bad", ["", "ab", "g" * 64, "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", " " + "a" * 63]
)
def test_what_is_no_digest_is_refused(bad: str):
    with pytest.raises(InvalidNameError, match="64 hexadecimal digits"):
        digests.check_digest(bad)
    with pytest.raises(InvalidNameError):
        digests.to_raw(bad)


def test_raw_digests_have_32_bytes():
    with pytest.raises(InvalidNameError, match="31 bytes instead of 32"):
        digests.from_raw(b"x" * 31)
