"""Every decoder that takes bytes from outside: what it may raise, and what it is begun with.

A fuzzer (tests/fault/fuzz.py) feeds them all, and so do tests with bytes that nobody would make by chance. A new one is a line
of `DECODERS`. `check` is what holds for any bytes: only the errors that were announced come out; and what was understood is
written again, as the same bytes where there is one encoding only, otherwise as bytes that mean the same.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import httpx
import msgspec

from artfs.api.media.base import Sink, Value
from artfs.api.media.classes import Classes
from artfs.api.media.registry import BY_KIND, CLASSES
from artfs.api.media.table import Table
from artfs.client.credentials import Credentials
from artfs.client.events import parse_events
from artfs.client.http import Http
from artfs.client.store import spots_of
from artfs.errors import ArtfsError, BadObjectError
from artfs.model.blocklist import BlockList, decode_block_list, encode_block_list, hash_blocks
from artfs.model.digests import BLOCK_SIZE, digest_bytes
from artfs.model.draft import DraftInfo, decode_draft, encode_draft
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry
from artfs.model.ignore import IgnoreRules
from artfs.model.metadata import check_metadata
from artfs.model.names import (
    check_alias,
    check_collection_name,
    check_component,
    check_entity_name,
    check_path,
    check_project_name,
    check_run_id,
    check_tag,
    check_type,
    parse_name,
    parse_time,
    version_index,
)
from artfs.model.pages import FORMAT, LeafPage, Page, build_tree, decode_page, encode_leaf, try_below
from artfs.model.paging import PageRequest, make_cursor, read_cursor
from artfs.model.shape import Shape, decode_shape, encode_shape
from artfs.model.ttl import parse_ttl, ttl_text
from artfs.model.unreadable import UNREADABLE, read_number
from artfs.references import uris
from artfs.server.auth import read_secret
from artfs.server.blobservice import read_ticket
from artfs.server.calls import Endpoint
from artfs.server.matching import Matcher, read_body, read_query, read_range
from artfs.server.peers import client_address, parse_networks
from artfs.settings import Settings, load_settings, server_url
from artfs.store.cache.packs import scan_pack
from artfs.store.cache.partial import Partial, read_map_head
from artfs.store.rows import encode_row
from artfs.store.staging import HashRecord, decode_hashes
from artfs.store.standins import PREFIX, TreeBase, entry_target, parse_base, parse_entry, tree_target
from artfs.transfer.backup import read_marker
from artfs.transfer.journal import Row, decode_journal
from artfs.wire import control
from artfs.wire.backoff import read_retry_after
from artfs.wire.blobroutes import BLOB_ROUTES
from artfs.wire.errors import error_fields, error_from
from artfs.wire.frames import FrameReader, encode_frames, split_frames
from artfs.wire.messages import CheckLine, CollectLine, FinishLine, Located, LocatedBlob, StoredObject
from artfs.wire.routes import JSON, ROUTES, SERVER_ROUTES

Seeds = Sequence[bytes]
ALL_ROUTES = (*ROUTES, *SERVER_ROUTES, *BLOB_ROUTES)


@dataclass(frozen=True, slots=True)
class Decoder:
    """One way in.

    Attributes:
        name: what it reads.
        read: from bytes to what they mean.
        seeds: valid encodings, to begin with.
        errors: what `read` may raise.
        write: from what was read to bytes; None: nobody writes it.
        canonical: there is one encoding only.
        absurd: bytes of what is absurdly large for it; less where each line is slow by itself.
    """

    name: str
    read: Callable[[bytes], Any]
    seeds: Seeds
    errors: tuple[type[Exception], ...] = (ArtfsError,)
    write: Callable[[Any], bytes] | None = None
    canonical: bool = False
    absurd: int = 96 * 1024

    def check(self, data: bytes) -> bool:
        """Whether the bytes were understood. AssertionError, or any other error, when what must hold does not."""
        try:
            found = self.read(data)
        except self.errors as error:
            str(error).encode("utf-8", "backslashreplace")
            return False
        if self.write is not None:
            again = self.write(found)
            if self.canonical:
                assert again == data, f"{self.name}: {data.hex()} is written again as {again.hex()}"
            else:
                assert self.read(again) == found, f"{self.name}: {data.hex()} means something else when it is written again"
        return True


# trees and lists --------------------------------------------------------------------------------------------------------
_RAW = bytes(range(32))
ENTRIES: tuple[Entry, ...] = (
    DirEntry(b"d", _RAW, 3 * BLOCK_SIZE, 7),
    FileEntry(b"f", 5, _RAW, b"", False),
    FileEntry(b"large", 1 << 21, _RAW, _RAW, True),
    LinkEntry(b"link", b"../f"),
    RefEntry(b"ref", "s3://b/k", 17, "etag", "v1"),
)


def _page(data: bytes) -> Page:
    page = decode_page(digest_bytes(data), data)
    assert len(page) == (len(page.entries) if isinstance(page, LeafPage) else len(page.items))
    return page


def _write_page(page: Page) -> bytes:
    if isinstance(page, LeafPage):
        return encode_leaf(page.entries)[3]
    return msgspec.msgpack.encode((FORMAT, page.level, page.items))


def _pages() -> Seeds:
    large = build_tree(FileEntry(b"%05d" % number, number, _RAW, b"", False) for number in range(800))
    return [build_tree(ENTRIES).pages[0][1], build_tree(()).pages[0][1], large.pages[0][1], large.pages[-1][1]]


def _block_list(data: bytes) -> BlockList:
    """The size that the entry tells stands before it."""
    top = data[8:]
    return decode_block_list(digest_bytes(top), top, int.from_bytes(data[:8]))


def _block_lists() -> Seeds:
    small = encode_block_list(5 * BLOCK_SIZE, hash_blocks(bytes(5 * BLOCK_SIZE)))[-1]
    huge = encode_block_list(9000 * BLOCK_SIZE, bytes(32 * 9000))[-1]
    return [(5 * BLOCK_SIZE).to_bytes(8) + small, (9000 * BLOCK_SIZE).to_bytes(8) + huge]


def _write_block_list(top: BlockList) -> bytes:
    return top.size.to_bytes(8) + msgspec.msgpack.encode((1, top.size, top.lower, top.hashes))


# texts ------------------------------------------------------------------------------------------------------------------
def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _of_text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: read(_text(data))


def _to_bytes(text: object) -> bytes:
    return str(text).encode("utf-8", "surrogateescape")


def _name(name: str, read: Callable[[str], Any], *seeds: bytes) -> Decoder:
    """A rule for names: what it accepts it gives back as it is."""
    return Decoder(name, _of_text(read), seeds, write=_to_bytes, canonical=True)


def _uri(text: str) -> None:
    """All that is done with the URI of somebody's reference before anything is fetched; each may refuse."""
    for read in (
        uris.scheme_of, uris.shown, uris.file_path, uris.given_file_paths, uris.parse_s3, uris.parse_gs, uris.parse_azure,
        uris.without_version, uris.http_name, uris.parse_artifact, uris.origin, uris.http_place, uris.has_digest,
    ):
        with suppress(ArtfsError):
            read(text)


def _file_uri(data: bytes) -> str:
    path = uris.file_path(_text(data))
    assert "\0" not in path
    assert uris.file_path(uris.file_uri(path)) == path
    return path


def _ignoring(text: str) -> None:
    IgnoreRules.parse(text).ignores("a/b.txt", False)


def _header(text: str) -> None:
    read_number(text)
    read_retry_after(text, datetime(2026, 1, 1, tzinfo=UTC))
    client_address("127.0.0.1", [text], parse_networks(["127.0.0.1"]))


# what goes over a wire --------------------------------------------------------------------------------------------------
def _frames(data: bytes) -> list[tuple[str, bytes]]:
    """As a whole and in pieces they are the same."""
    whole = [(digest, data[at : at + size]) for digest, at, size in split_frames(data)]
    reader = FrameReader()
    pieces = [frame for start in range(0, len(data), 7) for frame in reader.feed(data[start : start + 7])]
    reader.finish()
    assert pieces == whole
    return whole


def _write_frames(frames: list[tuple[str, bytes]]) -> bytes:
    return b"".join(bytes(piece) for piece in encode_frames(frames))


def _events(data: bytes) -> list[tuple[str, int | None, bytes]]:
    whole = list(parse_events(iter([data])))
    assert list(parse_events(data[at : at + 5] for at in range(0, len(data), 5))) == whole
    return whole


@cache
def _http() -> Http:
    return Http("http://127.0.0.1:9", "")


_RESULTS = [route for route in ALL_ROUTES if route.result not in (None, bytes)]
_BODIES = [(route, msgspec.json.Decoder(route.body).decode) for route in ALL_ROUTES if route.body not in (None, bytes)]
_QUERIES = [route for route in ALL_ROUTES if route.query.__struct_fields__]


def _answer(data: bytes) -> Any:
    """What a server answers: the first byte says which call."""
    route = _RESULTS[(data[0] if data else 0) % len(_RESULTS)]
    return _http().result(route, httpx.Response(200, content=data[1:], headers={"content-type": JSON}))


def _body(data: bytes) -> Any:
    return read_body(_BODIES[(data[0] if data else 0) % len(_BODIES)][1], data[1:])


def _query(data: bytes) -> Any:
    return read_query(data[1:], _QUERIES[(data[0] if data else 0) % len(_QUERIES)].query)


@cache
def _matcher() -> Matcher:
    return Matcher(Endpoint(route) for route in ALL_ROUTES)


def _error(data: bytes) -> ArtfsError | None:
    fields = msgspec.json.decode(data)
    if not isinstance(fields, dict):
        return None
    error = error_from(fields)
    error_from(error_fields(error))
    return error


def _told_place(data: bytes) -> None:
    objects = [StoredObject(url, 10, 60.0) for url in ("/v1/objects/x", "https://b/k")]
    spots_of(Located(objects, [msgspec.json.decode(data, type=LocatedBlob)]), 0.0)


def _line(data: bytes) -> Any:
    kinds = (FinishLine, CheckLine, CollectLine)
    return msgspec.json.decode(data[1:], type=kinds[(data[0] if data else 0) % len(kinds)])


def _control(data: bytes) -> Any:
    request = control.read_request(data)
    return request, control.read_options(request.args.get("options", {}))


def _reply(data: bytes) -> Any:
    reply = msgspec.json.decode(data, type=control.Reply)
    return None if reply.error is None else error_from(reply.error)


_AT_NAME = PageRequest("name")


def _cursor(data: bytes) -> Any:
    return read_cursor(PageRequest("name", after=_text(data)))


# files of this machine --------------------------------------------------------------------------------------------------
@cache
def _folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="artfs-decoders-"))
    atexit.register(partial(shutil.rmtree, path, ignore_errors=True))
    return path


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def _config(data: bytes) -> Settings:
    return load_settings({"ARTFS_CONFIG": str(_file("config.toml", data))})


def _tokens(data: bytes) -> str:
    _file("tokens.json", data)
    return Credentials(_folder()).find(Settings(home=_folder(), server="https://a"))


def _marker(data: bytes) -> Any:
    _file("backup.json", data)
    return read_marker(_folder())


def _pack(data: bytes) -> list[tuple[bytes, int, int]]:
    fd = os.memfd_create("pack")
    try:
        os.write(fd, data)
        found = list(scan_pack(fd))
    finally:
        os.close(fd)
    assert all(at > 0 and at + size <= len(data) for _, at, size in found)
    return found


_MAP_TOP = encode_block_list(9000 * BLOCK_SIZE, bytes(32 * 9000))[-1]
_MAP_LIST = decode_block_list(digest_bytes(_MAP_TOP), _MAP_TOP, 9000 * BLOCK_SIZE)


def _map(data: bytes) -> None:
    """A map that is as large as one must be, and holds anything: nothing in it is believed that matters."""
    folder = _folder()
    path = str(folder / "partial")
    good = _good_map(path)
    _file("partial.map", data + good[len(data) :])
    read_map_head(f"{path}.map")
    partial = Partial(path, "0" * 64, digest_bytes(_MAP_TOP), _MAP_LIST)
    try:
        assert len(partial.missing(0, 9000)) + partial.blocks_here == 9000
        assert partial.is_complete == (partial.blocks_here == 9000)
        for index in (0, 8191, 8192, 8999):
            try:
                assert partial.hash_of(index) == bytes(32)
            except LookupError:
                assert partial.missing_hashes(index, index + 1)
    finally:
        partial.close()


@cache
def _good_map(path: str) -> bytes:
    made = Partial(path, "0" * 64, digest_bytes(_MAP_TOP), _MAP_LIST)
    made.put_hashes(0, bytes(BLOCK_SIZE))
    made.close()
    return Path(f"{path}.map").read_bytes()


class _NoSource:
    """An artifact that has nothing."""

    def open(self, path: str) -> BinaryIO:
        raise BadObjectError(f"it names the file {path!r}, which the artifact does not have")

    def digest(self, path: str) -> str | None:
        raise BadObjectError(f"it names the file {path!r}, which the artifact does not have")

    def uri(self, path: str) -> str | None:
        raise BadObjectError(f"it names the file {path!r}, which the artifact does not have")

    def value(self, path: str) -> Value:
        raise BadObjectError(f"it names {path!r}, which the artifact does not have")

    def inline(self, given: dict[str, Any]) -> Value | None:
        cls = BY_KIND.get(str(given.get("_type")))
        return None if cls is None else cls.from_json(given, self)

    def below(self, folder: str) -> Iterator[str]:
        return iter(())


def _media(data: bytes) -> None:
    """JSON of a value in somebody's artifact; the first byte says of which class."""
    CLASSES[(data[0] if data else 0) % len(CLASSES)].from_json(json.loads(data[1:]), _NoSource())


def _values() -> Seeds:
    def no_sink(value: Value) -> Any:
        return value.to_json(cast(Sink, None))  # these have no files

    made = [Table(["a", "b"], [[1, "x"], [2.5, None]]), Classes([{"id": 1, "name": "x"}])]
    return [bytes([CLASSES.index(type(value))]) + msgspec.json.encode(no_sink(value)) for value in made]


# all --------------------------------------------------------------------------------------------------------------------
_DRAFT = DraftInfo("e", "p", "c", "c:latest", "2026-11-01T00:00:00+00:00", "v1", "a" * 64, 5, metadata={"a": [1, {"b": None}]})
_RECORD = HashRecord(5, 6, 7, 8, "a" * 64, "b" * 64, (b"x",))
_JOURNALLED = Row(b"a/b", "a" * 64, 5, "", True)
_MOUNT = control.MountRecord("0" * 16, 5, "/mnt", "/run/s", "local", "2026", 7)


def _json(*values: Any) -> Seeds:
    return [msgspec.json.encode(value) for value in values]


def _numbered(values: Sequence[bytes], count: int) -> Seeds:
    return [bytes([number]) + value for number in range(count) for value in values]


def _rows(*data: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "little") + each for each in data)


DECODERS: tuple[Decoder, ...] = (
    Decoder("a page of a tree", _page, _pages(), write=_write_page, canonical=True),
    Decoder("a page of a tree, for its links", try_below, _pages(), ()),
    Decoder("a block list", _block_list, _block_lists(), write=_write_block_list, canonical=True),
    Decoder(
        "a shape", decode_shape, [encode_shape(Shape(1, 20, b"a", b"b", True, 700, 8, 9, 1, 0))], UNREADABLE, encode_shape
    ),
    Decoder("a path", _of_text(check_path), [b"a/b.txt", b"./x//y/", b"\xff/\xc3\xa9"], write=_to_bytes),
    Decoder("a component", check_component, [b"a.txt", b"\xff"], write=bytes, canonical=True),
    Decoder("a full name", _of_text(lambda text: parse_name(text, "e", "p")), [b"e/p/c:v3", b"c:@2026-11-01"], write=_to_bytes),
    _name("an alias", check_alias, b"prod", "ü".encode()),
    _name("a collection's name", check_collection_name, b"a-b.c_1"),
    _name("a project's name", check_project_name, b"p", b"wandb-registry-x"),
    _name("an entity's name", check_entity_name, b"team"),
    _name("a run's id", check_run_id, b"run1"),
    _name("a tag", check_tag, b"a b-c"),
    _name("a type", check_type, b"dataset"),
    Decoder("a version", _of_text(version_index), [b"v0", b"v17"], write=lambda index: b"v%d" % index, canonical=True),
    Decoder("a time", _of_text(parse_time), [b"2026-11-01", b"2026-11-01T12:00:01.5+02:00"],
            write=lambda when: when.isoformat().encode()),
    Decoder("a policy of expiry", _of_text(parse_ttl), [b"30d", b"never", b"inherit"], write=lambda ttl: ttl_text(ttl).encode()),
    Decoder("metadata", _of_text(check_metadata), [b'{"a": [1, 2.5, {"b": 0}]}'], write=lambda found: json.dumps(found).encode()),
    Decoder("ignore rules", _of_text(_ignoring), [b"*.pyc\n!keep.pyc\n/build/\n", b"a[b-d]?\\ \n**/x"], absurd=16 * 1024),
    Decoder("draft.json", decode_draft, [encode_draft(_DRAFT)], write=encode_draft),
    Decoder("hashes of a draft", decode_hashes, [encode_row(msgspec.msgpack.encode(_RECORD)) * 2], ()),
    Decoder("the journal of a commit", lambda data: list(decode_journal(data)), [_rows(msgspec.msgpack.encode(_JOURNALLED))], ()),
    Decoder("a stand-in", partial(parse_entry, b"n"), [
        entry_target(msgspec.structs.replace(entry, name=b"n")) for entry in ENTRIES if isinstance(entry, FileEntry | RefEntry)
    ], write=entry_target),
    Decoder("the base of a draft", partial(parse_base, b"d"), [
        tree_target(TreeBase("a" * 64, build_tree(ENTRIES).totals)), PREFIX + b"tree///", PREFIX
    ], write=tree_target, canonical=True),
    Decoder("a pack of the cache", _pack, [_write_frames([("a" * 64, b"abc"), ("b" * 64, b"")])], ()),
    Decoder("a map of the cache", _map, [b"artfs map 1\n", b"\x01" * 100], ()),
    Decoder("a backup's marker", _marker, _json({"format": 1, "finished_at": 1.5, "blobs": 3, "nbytes": 9})),
    Decoder("the config file", _config, [b'server = "https://a:1"\ndeadline_s = 5\n', b'home = "~x/y"\nworkers = 3']),
    Decoder("tokens.json", _tokens, _json({"https://a": "artfs_x"}, {"https://a": {"keyring": True}})),
    Decoder("frames", _frames, [_write_frames([("a" * 64, b"abc"), ("b" * 64, b"")])], write=_write_frames, canonical=True),
    Decoder("events", _events, [b'event: hello\ndata: {"newest": 5}\n\n', b": x\r\nid: 7\ndata: {}\n\n"]),
    Decoder("a server's answer", _answer, _numbered([b"[]", b'{"items": [], "cursor": null}', b"null"], len(_RESULTS))),
    Decoder("a request's body", _body, _numbered([b"{}", b'{"digests": []}'], len(_BODIES))),
    Decoder("a request's query", _query, _numbered([b"order=name&limit=5", b"after=%F0%9F&used=true"], len(_QUERIES))),
    Decoder("a request's path", lambda data: _matcher().find("GET", data), [b"/v1/projects/e/p", b"/v1/%2F/%ff"]),
    Decoder("a request's range", lambda data: read_range(_text(data), 1000), [b"bytes=0-5", b"bytes=-7", b"bytes=9-"]),
    Decoder("a request's token", _of_text(read_secret), [b"Bearer artfs_" + b"x" * 43]),
    Decoder("a header", _of_text(_header), [b"12", b"Sun, 06 Nov 1994 08:49:37 GMT", b"1.2.3.4:5, [::1]:6", "²".encode()], ()),
    Decoder("an object's ticket", _of_text(read_ticket), [b"k84AAAAAomFixAA"], ()),
    Decoder("a cursor", _cursor, [make_cursor(_AT_NAME, "x", 5).encode()],
            write=lambda found: b"" if found is None else make_cursor(_AT_NAME, *found).encode()),
    Decoder("an error that travels", _error, _json({"kind": "quota", "message": "x"}, {"kind": "rate-limited"}), UNREADABLE),
    Decoder("where a blob is", _told_place, _json(LocatedBlob("a" * 64, 5, [0, 1], 0, 3)), (ValueError, IndexError, *UNREADABLE)),
    Decoder("a line of a long call", _line, _numbered(_json(FinishLine(5, True), CheckLine(5), CollectLine("x")), 3), UNREADABLE),
    Decoder("a request to the daemon", _control, _json(control.Request("commit", {"options": {"ttl": "3d"}}))),
    Decoder("a reply of the daemon", _reply, _json(control.Reply({}), control.Reply(None, {"kind": "draft-busy"})), UNREADABLE),
    Decoder("the record of a mount", partial(msgspec.json.decode, type=control.MountRecord), _json(_MOUNT), UNREADABLE),
    Decoder("a URI", _of_text(_uri), [b"s3://b/k?versionId=x", b"https://a.blob.core.windows.net/c/b"], ()),
    Decoder("a file's URI", _file_uri, [b"file:///a%20b", b"file:///%FF"]),
    Decoder("a server's URL", _of_text(server_url), [b"https://a:1/x", b"a.b"], (ValueError,), _to_bytes),
    Decoder("JSON of a value", _media, _values(), (ArtfsError, ValueError, RecursionError)),
)


def decoder(name: str) -> Decoder:
    return next(each for each in DECODERS if each.name == name)
