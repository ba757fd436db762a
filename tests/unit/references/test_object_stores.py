"""References to S3, Google Cloud Storage and Azure: one suite over stores of our own, and over emulators where they run
(artfs/testing/objects.py says how)."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artfs.errors import (
    InvalidArgumentError,
    ReferenceChangedError,
    ReferenceMissingError,
    ReferenceRefusedError,
    ReferenceUnsupportedError,
    UnavailableError,
)
from artfs.model.entry import RefEntry
from artfs.references.base import MAX_OBJECTS, Examined, Found, Source, ignore_bytes
from artfs.references.objects import AzureSource, GsSource, S3Source
from artfs.references.trust import KnownSources, Trust
from artfs.settings import Settings
from artfs.testing.objects import EMULATORS, Bucket, Emulator, Kind, ObjectServer, ObjectStore, uri_of

SOURCES = {"s3": S3Source, "gs": GsSource, "azure": AzureSource}
NAMES = ["plain", "a#b", "100%.txt", "what?", "a b", "p%20q", "sub/deep/er", "ü", "x+y&z=1", "a'b\"c", "a;b", "~t", "a@b:c"]


def emulators() -> list[tuple[Kind, str, bool]]:
    """(kind, endpoint, whether it keeps versions) of each that the environment names."""
    named = (item.partition("=") for item in os.environ.get(EMULATORS, "").split())
    kinds: dict[str, Kind] = {"s3": "s3", "gs": "gs", "azure": "azure"}
    return [(kinds[kind.partition("+")[0]], endpoint, kind.endswith("+versions")) for kind, _, endpoint in named]


OURS: list[tuple[Kind, str, bool]] = [(kind, "", keeps) for kind in ("s3", "gs", "azure") for keeps in (False, True)]
ALL = [*OURS, *emulators()]


class Rig:
    """A bucket of this test's own in a store, and who reads it. `bucket`: its name."""

    def __init__(self, store: ObjectStore, trust: Trust, settings: Settings, scratch: Path) -> None:
        self.store = store
        self.bucket = f"b{uuid.uuid4().hex[:12]}"
        store.make_bucket(self.bucket)
        endpoint = {f"{store.kind}_endpoint": store.endpoint}
        self.source: Source = SOURCES[store.kind](trust, replace(settings, **endpoint))
        self._scratch = scratch

    def put(self, *keys: str, data: bytes | None = None, **metadata: str) -> None:
        """Objects; without `data`: their names are in them, and nothing in those that end in "/"."""
        for key in keys:
            body = (b"" if key.endswith("/") else key.encode()) if data is None else data
            self.store.put(self.bucket, key, body, **metadata)

    def uri(self, key: str = "") -> str:
        return uri_of(self.store.kind, self.bucket, key)

    def examine(self, key: str = "", checksum: bool = True, max_objects: int = MAX_OBJECTS, more: str = "") -> Examined:
        return self.source.examine(self.uri(key) + more, checksum=checksum, max_objects=max_objects)

    def single(self, key: str, more: str = "") -> Found:
        examined = self.examine(key, more=more)
        assert examined.single
        return examined.objects[0]

    def below(self, key: str = "") -> list[str]:
        examined = self.examine(key)
        assert not examined.single
        return [found.path for found in examined.objects]

    def fetch(self, found: Found) -> bytes:
        with self._scratch.open("w+b") as stream:
            self.source.fetch(found.entry(b"x"), stream.fileno(), ignore_bytes)
            return self._scratch.read_bytes()


MakeStore = Callable[[Kind, str, bool], ObjectStore]


@pytest.fixture
def make_store() -> Iterator[MakeStore]:
    """`make_store(kind, endpoint, keeps_versions)`: one of our own where `endpoint` is ""."""
    made: list[ObjectStore] = []

    def make(kind: Kind, endpoint: str, keeps_versions: bool) -> ObjectStore:
        made.append(Emulator(kind, endpoint, keeps_versions) if endpoint else ObjectServer(kind, keeps_versions))
        return made[-1]

    yield make
    for store in made:
        store.close()


def named(param: object) -> str:
    kind, endpoint, keeps = param  # type: ignore[misc]
    return f"{kind}{'+versions' if keeps else ''}{'-emulator' if endpoint else ''}"


@pytest.fixture(params=ALL, ids=named)
def rig(request: pytest.FixtureRequest, make_store: MakeStore, trust: Trust, settings: Settings, tmp_path: Path) -> Rig:
    return Rig(make_store(*request.param), trust, settings, tmp_path / "scratch")


@pytest.fixture(params=[param for param in ALL if param[2]], ids=named)
def versioned(request: pytest.FixtureRequest, make_store: MakeStore, trust: Trust, settings: Settings, tmp_path: Path) -> Rig:
    """In a store that keeps versions."""
    return Rig(make_store(*request.param), trust, settings, tmp_path / "scratch")


@pytest.fixture(params=["s3", "gs", "azure"])
def own(request: pytest.FixtureRequest, make_store: MakeStore, trust: Trust, settings: Settings, tmp_path: Path) -> Rig:
    """In a store of our own, of which tests ask what no emulator does."""
    return Rig(make_store(request.param, "", True), trust, settings, tmp_path / "scratch")


def server(rig: Rig) -> ObjectServer:
    assert isinstance(rig.store, ObjectServer)
    return rig.store


def bucket(rig: Rig) -> Bucket:
    return server(rig).buckets[rig.bucket]


# one object ---------------------------------------------------------------------------------------


def test_objects_of_any_name(rig: Rig) -> None:
    rig.put(*NAMES)
    for name in NAMES:
        found = rig.single(name)
        assert (found.path, found.size, found.uri) == (name.rpartition("/")[2], len(name.encode()), rig.uri(name))
        assert found.checksum and '"' not in found.checksum
        assert bool(found.version_id) == rig.store.keeps_versions or rig.store.kind == "gs"
        assert rig.fetch(found) == name.encode()
        rig.source.check(found.entry(b"x"))


def test_what_changed_says_what(rig: Rig) -> None:
    rig.put("dir/k", data=b"one")
    found = replace(rig.single("dir/k"), version_id="")  # as if the store kept none
    (listed,) = rig.examine("dir").objects
    assert listed.checksum == found.checksum
    rig.put("dir/k", data=b"two")
    for use in (lambda: rig.fetch(found), lambda: rig.source.check(found.entry(b"x"))):
        with pytest.raises(ReferenceChangedError, match=r"dir/k changed: its ETag is \S+, and was \S+"):
            use()
    rig.store.delete(rig.bucket, "dir/k")
    for use in (lambda: rig.fetch(found), lambda: rig.source.check(found.entry(b"x"))):
        with pytest.raises(ReferenceMissingError, match="dir/k is gone"):
            use()


def test_without_checksum_nothing_is_asked_or_compared(rig: Rig) -> None:
    rig.put("dir/k", data=b"one")
    (found,) = rig.examine("dir/k", checksum=False).objects
    assert found == Found("k", rig.uri("dir/k"))
    rig.put("dir/k", data=b"another")
    assert rig.fetch(found) == b"another"
    for prefix in ("dir/", ""):
        examined = rig.examine(prefix, checksum=False)
        assert examined.single
        with pytest.raises(ReferenceUnsupportedError, match="is a prefix"):
            rig.fetch(examined.objects[0])


# prefixes -----------------------------------------------------------------------------------------


def test_a_prefix_is_all_below_it(rig: Rig) -> None:
    below = sorted([*NAMES, *(f"many/{number:02}" for number in range(9))])
    rig.put(*(f"dir/{name}" for name in below), "dir2/other", "dir.txt", "di", "zdir/dir/x")
    for prefix in ("dir", "dir/"):
        examined = rig.examine(prefix)
        assert not examined.single
        assert [found.path for found in examined.objects] == below
        assert [found.uri for found in examined.objects] == [rig.uri(f"dir/{name}") for name in below]
        assert all(bool(found.version_id) == rig.store.keeps_versions or rig.store.kind == "gs" for found in examined.objects)
        for found in examined.objects:
            assert rig.fetch(found) == f"dir/{found.path}".encode()
            rig.source.check(found.entry(b"x"))
    assert rig.below() == sorted([*(f"dir/{name}" for name in below), "dir2/other", "dir.txt", "di", "zdir/dir/x"])


def test_a_limit_is_an_error_when_it_is_passed(rig: Rig) -> None:
    rig.put(*(f"dir/{number}" for number in range(9)), "dir/folder/", "dir/more/", "other")
    assert len(rig.examine("dir", max_objects=9).objects) == 9
    for limit in (1, 8):
        with pytest.raises(InvalidArgumentError, match=f"more than {limit} objects"):
            rig.examine("dir", max_objects=limit)


def test_what_consoles_make_for_folders_is_no_file(rig: Rig) -> None:
    rig.put("dir/", "dir/sub/", "dir/sub/f", "dir/nothing/", "dir/deep/nothing/")
    rig.put("dir/empty", "dir/hadoop", data=b"")
    rig.put("dir/hadoop/part", "dir/hadoop/x/y")
    wanted = ["empty", "hadoop/part", "hadoop/x/y", "sub/f"]
    assert rig.below("dir") == rig.below("dir/") == wanted
    assert rig.below() == [f"dir/{path}" for path in wanted]
    assert rig.below("dir/hadoop") == ["part", "x/y"]
    assert (rig.single("dir/empty").size, rig.fetch(rig.single("dir/empty"))) == (0, b"")
    for folder in ("dir/nothing", "dir/nothing/", "dir/deep"):
        with pytest.raises(ReferenceMissingError, match="neither such an object nor one below it"):
            rig.examine(folder)


@pytest.mark.parametrize("kind", [param for param in ALL if param[0] == "azure"], ids=named)
def test_what_hadoop_makes_for_folders_is_no_file(
    kind: tuple[Kind, str, bool], make_store: MakeStore, trust: Trust, settings: Settings, tmp_path: Path
) -> None:
    rig = Rig(make_store(*kind), trust, settings, tmp_path / "scratch")
    rig.put("dir", "dir/nothing", "dir/sub", data=b"", hdi_isfolder="true")
    rig.put("dir/sub/f")
    assert rig.below("dir") == rig.below("dir/") == ["sub/f"]
    with pytest.raises(ReferenceMissingError):
        rig.examine("dir/nothing")


def test_a_name_that_no_file_can_have(rig: Rig) -> None:
    rig.put("good/f", "bad//f")
    assert rig.below("good") == ["f"]
    for prefix in ("", "bad"):
        with pytest.raises(InvalidArgumentError, match=r"an object there has a name that no file can have .*bad//f"):
            rig.examine(prefix)


@pytest.mark.parametrize("key", ["bad//f", "/f", "a/./f", "a/../f", "dir//", "a\x01b"])
def test_a_name_that_cannot_be_asked_for(own: Rig, key: str) -> None:
    own.put("f", "dir/f")
    uri = own.uri(key)
    with pytest.raises(ReferenceUnsupportedError, match="is not read"):
        own.examine(key)
    if not key.endswith("/"):
        for use in (own.source.check, lambda entry: own.source.fetch(entry, -1, ignore_bytes)):
            with pytest.raises(ReferenceUnsupportedError, match="is not read"):
                use(RefEntry(b"x", uri, 1, "e", ""))
    assert server(own).seen == []


@pytest.mark.parametrize("key", ["none", "none/", "di", "dir/f/x", ""])
def test_what_is_not_there(rig: Rig, key: str) -> None:
    if key:
        rig.put("dir/f")
    with pytest.raises(ReferenceMissingError, match="neither such an object nor one below it"):
        rig.examine(key)


@pytest.mark.parametrize("key", ["x", "x/", ""])
def test_a_bucket_that_is_not_there(own: Rig, key: str) -> None:
    with pytest.raises(ReferenceMissingError, match="no such bucket"):
        own.source.examine(uri_of(own.store.kind, "no-such-bucket", key), checksum=True, max_objects=9)


# versions -----------------------------------------------------------------------------------------


def pinned(kind: Kind, version: str) -> str:
    return f"#{version}" if kind == "gs" else f"?versionId={version}"


def test_version_ids_are_noted_and_honoured(versioned: Rig) -> None:
    rig = versioned
    rig.put("k", "dir/k", data=b"one")
    old, (listed,) = rig.single("k"), rig.examine("dir").objects
    rig.put("k", "dir/k", data=b"second")
    assert rig.fetch(old) == rig.fetch(listed) == b"one"
    rig.source.check(old.entry(b"x"))
    by_id = rig.single("k", more=pinned(rig.store.kind, old.version_id))
    assert by_id == old and by_id.uri == rig.uri("k")
    new = rig.single("k")
    assert new.size == 6 and new.version_id not in ("", old.version_id) and new.checksum != old.checksum
    assert rig.examine("dir").objects[0].version_id != listed.version_id
    (unchecked,) = rig.examine("k", checksum=False, more=pinned(rig.store.kind, old.version_id)).objects
    assert (unchecked.uri, unchecked.size, unchecked.version_id) == (rig.uri("k"), None, old.version_id)
    assert rig.fetch(unchecked) == b"one"
    rig.store.delete(rig.bucket, "k")
    assert rig.fetch(old) == b"one"  # what is deleted is only not the newest
    with pytest.raises(ReferenceMissingError):
        rig.single("k")


def test_a_version_that_is_gone(own: Rig) -> None:
    own.put("k", data=b"one")
    old = own.single("k")
    own.put("k", data=b"two")
    del bucket(own).objects["k"][0]
    with pytest.raises(ReferenceMissingError, match="is gone"):
        own.fetch(old)
    with pytest.raises(ReferenceMissingError, match="is gone"):
        own.examine("k", more=pinned(own.store.kind, old.version_id))


def test_an_object_that_is_deleted_while_its_prefix_is_added(own: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    own.put("dir/a", "dir/b")
    answer = server(own).answer

    def deleting(target: str, signed: bool) -> tuple[int, dict[str, str], bytes]:
        answered = answer(target, signed)
        if "dir%2F" in target or "prefix=" in target:
            own.store.delete(own.bucket, "dir/b")
        return answered

    monkeypatch.setattr(own.store, "answer", deleting)
    with pytest.raises(ReferenceMissingError, match="dir/b is gone"):
        own.examine("dir")


# who may read -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("key", ["k", "dir", "dir/", "none", ""])
def test_a_bucket_that_needs_credentials(own: Rig, status: int, key: str) -> None:
    own.put("k", "dir/k")
    bucket(own).denies = status
    with pytest.raises(ReferenceRefusedError, match="may not be read.*reference_credentials"):
        own.examine(key)


@pytest.mark.parametrize("status", [401, 403, 409])
def test_a_bucket_that_not_everybody_may_list(own: Rig, status: int) -> None:
    own.put("k", "dir/k")
    bucket(own).denies_listing = status
    assert own.fetch(own.single("k")) == b"k"
    for key in ("dir", "dir/", ""):
        with pytest.raises(ReferenceRefusedError, match="may not be read"):
            own.examine(key)


CREDENTIALS = {
    "s3": {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
    "azure": {"AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0"},
}


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_credentials_go_only_where_they_may(
    kind: Kind, make_store: MakeStore, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS[kind].items():
        monkeypatch.setenv(name, value)
    store = make_store(kind, "", True)
    assert isinstance(store, ObjectServer)
    known = KnownSources(tmp_path / "known")
    known.add(uri_of(kind, "mine", "k"))
    source = SOURCES[kind](Trust(settings, known), replace(settings, **{f"{kind}_endpoint": store.endpoint}))
    for name in ("mine", "theirs"):
        store.make_bucket(name)
        store.put(name, "dir/k", b"x")
        store.buckets[name].denies = 403 if name == "mine" else 0
        assert len(source.examine(uri_of(kind, name, "dir"), checksum=True, max_objects=9).objects) == 1
    signed = {path.split("/")[1].partition("?")[0]: "authorization" in headers for _, path, headers in store.seen}
    assert signed == {"mine": True, "theirs": False}


def test_nobody_is_asked_with_credentials_that_are_not_there(own: Rig) -> None:
    own.put("dir/k")
    own.examine("dir")
    assert server(own).seen and not any("authorization" in headers for _, _, headers in server(own).seen)


@pytest.mark.parametrize("kind", ["s3", "gs", "azure"])
def test_a_store_that_is_away(kind: Kind, trust: Trust, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    source = SOURCES[kind](trust, replace(settings, **{f"{kind}_endpoint": f"http://127.0.0.1:{port}"}))
    with pytest.raises(UnavailableError, match="cannot be read"):
        source.check(RefEntry(b"k", uri_of(kind, "bucket", "k"), 1, "e1", ""))
