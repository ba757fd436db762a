"""Hypothesis strategies for names, entries and trees: everything that the rules allow, the odd cases
included."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256

import msgspec
from hypothesis import strategies as st

from artfs.model.digests import BLOCKS_ABOVE
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry, wrong_name

raw_digests: st.SearchStrategy[bytes] = st.integers(0, 999).map(lambda at: sha256(b"%d" % at).digest())
"""32 bytes: digests of a thousand different blobs."""

digests: st.SearchStrategy[str] = raw_digests.map(bytes.hex)
"""64 hexadecimal digits."""

sizes: st.SearchStrategy[int] = st.one_of(
    st.integers(0, 4096),
    st.sampled_from([BLOCKS_ABOVE - 1, BLOCKS_ABOVE, BLOCKS_ABOVE + 1, 2**31, 2**32, 2**40]),
)
"""Of files, in bytes: small, at the limit for block lists, and large; a few thousand of them stay below
2**63."""

_ALPHABET = "abcABC019 ._-~:\\\n%\u00e9e\u0301\u212a\u4e2d\U0001f600"

components: st.SearchStrategy[bytes] = (
    st.one_of(
        st.text(_ALPHABET, min_size=1, max_size=8).map(os.fsencode),
        st.binary(min_size=1, max_size=8),
        st.sampled_from([b"a", b"b", b"a.b", b"a-b", b"...", b"x" * 255, b"\xff", b"\x01"]),
    )
    .map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda name: wrong_name(name) is None)
)
"""Names of entries: text and bytes that are no text, one to 255 bytes."""

easy_components: st.SearchStrategy[bytes] = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"a.b", b"\xff"])
"""Few names, so that paths meet each other."""


@st.composite
def file_entries(draw: st.DrawFn, names: st.SearchStrategy[bytes] = components) -> FileEntry:
    size = draw(sizes)
    blocks = draw(raw_digests) if size > BLOCKS_ABOVE else b""
    return FileEntry(draw(names), size, draw(raw_digests), blocks, draw(st.booleans()))


def dir_entries(names: st.SearchStrategy[bytes] = components) -> st.SearchStrategy[DirEntry]:
    return st.builds(DirEntry, names, raw_digests, sizes, st.integers(0, 2**40))


def link_entries(names: st.SearchStrategy[bytes] = components) -> st.SearchStrategy[LinkEntry]:
    """Links that stay inside the artifact wherever they are."""
    return st.builds(LinkEntry, names, st.lists(components, min_size=1, max_size=3).map(b"/".join))


def ref_entries(names: st.SearchStrategy[bytes] = components) -> st.SearchStrategy[RefEntry]:
    words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
    return st.builds(RefEntry, names, words.map("s3://bucket/".__add__), st.none() | sizes, words, words)


def leaf_entries(names: st.SearchStrategy[bytes] = components) -> st.SearchStrategy[Entry]:
    """Whatever is no directory."""
    return st.one_of(file_entries(names), link_entries(names), ref_entries(names))


def entries(names: st.SearchStrategy[bytes] = components) -> st.SearchStrategy[Entry]:
    return st.one_of(file_entries(names), dir_entries(names), link_entries(names), ref_entries(names))


def entry_lists(max_size: int = 40) -> st.SearchStrategy[list[Entry]]:
    """The entries of one directory, in any order, no name twice."""
    return st.lists(entries(), max_size=max_size, unique_by=lambda entry: entry.name)


def paths(names: st.SearchStrategy[bytes] = components, max_depth: int = 4) -> st.SearchStrategy[str]:
    """Paths inside an artifact, as text (os.fsdecode)."""
    return st.lists(names, min_size=1, max_size=max_depth).map(lambda parts: os.fsdecode(b"/".join(parts)))


_SOME_ENTRIES: list[Entry] = [
    FileEntry(b"-", 0, sha256(b"").digest(), b"", False),
    FileEntry(b"-", 1, sha256(b"1").digest(), b"", False),
    FileEntry(b"-", 1, sha256(b"1").digest(), b"", True),
    FileEntry(b"-", 2, sha256(b"22").digest(), b"", False),
    FileEntry(b"-", BLOCKS_ABOVE + 1, sha256(b"large").digest(), sha256(b"list").digest(), False),
    LinkEntry(b"-", b"a"),
    LinkEntry(b"-", b"b/c"),
    RefEntry(b"-", "s3://bucket/key", 7, "etag", "version"),
    RefEntry(b"-", "https://example.org/", None, "", ""),
]


@st.composite
def file_maps(
    draw: st.DrawFn, names: st.SearchStrategy[bytes] = easy_components, max_size: int = 8
) -> Mapping[str, Entry]:
    """Paths and their entries, no path being below another one. Names of the entries are those of the paths;
    the rest of them is one of a few values, so that two maps share some."""
    found: dict[str, Entry] = {}
    for path, entry in draw(
        st.dictionaries(paths(names), st.sampled_from(_SOME_ENTRIES), max_size=max_size)
    ).items():
        above = ["/".join(path.split("/")[:at]) for at in range(1, path.count("/") + 1)]
        if any(other in found for other in above) or any(other.startswith(path + "/") for other in found):
            continue
        found[path] = msgspec.structs.replace(entry, name=os.fsencode(path.rpartition("/")[2]))
    return found
