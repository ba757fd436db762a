"""References to objects of S3, Google Cloud Storage and Azure, through obstore (the extra `artfs[s3]`).

The checksum is the ETag without its quotes. Where the store keeps versions, the object's version id is noted, and that very
version is fetched; without one, an object whose ETag is another has changed.
"""

from __future__ import annotations

import re
import threading
from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from artfs.errors import (
    ArtfsError,
    InvalidArgumentError,
    ReferenceChangedError,
    ReferenceMissingError,
    ReferenceRefusedError,
    ReferenceUnsupportedError,
    StorageError,
    UnavailableError,
)
from artfs.model.entry import RefEntry
from artfs.references.base import Examined, Found, OnBytes, check_count
from artfs.references.trust import Trust
from artfs.references.uris import (
    AZURE_SUFFIX,
    ObjectName,
    last_part,
    parse_azure,
    parse_gs,
    parse_s3,
    shown,
    without_version,
)
from artfs.settings import Settings
from artfs.store.verify import write_all

if TYPE_CHECKING:
    from obstore.store import ObjectStore

try:
    import obstore
    from obstore import exceptions
    from obstore import store as stores
except ImportError as _missing:
    raise ReferenceUnsupportedError(
        "references to s3://, gs:// and Azure need the package obstore: pip install 'artfs[s3]'"
    ) from _missing

# Listings have no classes of errors, so what the store answered is read from their messages.
_DENIED = re.compile(r"status code: (401|403)\b|PublicAccessNotPermitted")
_NOT_FOUND = re.compile(r"status code: 404\b")
_BAD_NAME = "Encountered object with invalid path"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_CHUNK = 8 * 1024 * 1024
_HEADS = 32
_RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}


class ObjectSource:
    """What the three have in common."""

    def __init__(self, trust: Trust, settings: Settings) -> None:
        self._trust = trust
        self._settings = settings
        self._lock = threading.Lock()
        self._stores: dict[tuple[str, str, bool], ObjectStore] = {}

    @abstractmethod
    def parse(self, uri: str) -> ObjectName:
        """Raises InvalidArgumentError."""

    @abstractmethod
    def uri_of(self, name: ObjectName, key: str) -> str:
        """The URI of an object beside `name`."""

    @abstractmethod
    def _open(self, name: ObjectName, *, sign: bool) -> ObjectStore: ...

    def _client(self, endpoint: str) -> Any:
        return {"allow_http": endpoint.startswith("http://"), "connect_timeout": "10s", "timeout": "300s"}

    def _store(self, uri: str, name: ObjectName) -> ObjectStore:
        sign = self._trust.may_sign(uri)
        key = (name.account, name.bucket, sign)
        with self._lock:
            found = self._stores.get(key)
            if found is None:
                found = self._stores[key] = self._open(name, sign=sign)
            return found

    def examine(self, uri: str, *, checksum: bool, max_objects: int) -> Examined:
        name = self.parse(uri)
        default = last_part(name.key) or name.bucket
        plain = without_version(uri)
        if not checksum:
            return Examined(True, [Found(default, plain, None, "", name.version_id)])
        top = name.key.removesuffix("/")
        _check_key(uri, top)
        store = self._store(uri, name)
        single = None
        if name.key and not name.key.endswith("/"):
            with _told(uri):
                try:
                    single = self._head(store, name.key, name.version_id)
                except FileNotFoundError:
                    if name.version_id:
                        raise
        if single is not None and (single["size"] or name.version_id):
            return Examined(True, [_found(default, plain, single)])
        with _told(uri):
            listed = self._list(store, uri, top, max_objects)
        found = self._detailed(store, name, top, listed) if listed else []
        check_count(shown(uri), len(found), max_objects)
        if found:
            return Examined(False, found)
        if single is not None:
            return Examined(True, [_found(default, plain, single)])
        raise ReferenceMissingError(f"cannot add {shown(uri)}: there is neither such an object nor one below it")

    def _list(self, store: ObjectStore, uri: str, top: str, max_objects: int) -> list[dict[str, Any]]:
        """What is below `top`/ (without `top`: in the bucket), sorted, without what is surely meant for a folder."""
        found: list[dict[str, Any]] = []
        empty = 0
        for chunk in obstore.list(store, top or None, chunk_size=1000):
            found += [dict(meta) for meta in chunk]
            empty += sum(not meta["size"] for meta in chunk)
            check_count(shown(uri), len(found) - empty, max_objects)
        # Consoles make an empty object for each "folder": no file is meant, and its name is that of a directory.
        folders = {top}
        for meta in found:
            path = meta["path"]
            while "/" in path:
                path = path.rpartition("/")[0]
                folders.add(path)
        objects = [meta for meta in found if meta["size"] or meta["path"] not in folders]
        return sorted(objects, key=lambda meta: str(meta["path"]))

    def _detailed(self, store: ObjectStore, name: ObjectName, top: str, listed: list[dict[str, Any]]) -> list[Found]:
        """Listings tell no version ids: when the first object has one, all are asked for theirs. Nor do they tell an empty
        object `x` from `x/`, a folder with nothing in it: that one is no file, and left out."""
        cut = len(top) + 1 if top else 0

        def detail(meta: dict[str, Any]) -> Found | None:
            path = meta["path"]
            uri = self.uri_of(name, path)
            with _told(uri):
                try:
                    return _found(path[cut:], uri, self._head(store, path, ""))
                except FileNotFoundError:
                    if meta["size"]:
                        raise
                    return None

        def detailed(metas: list[dict[str, Any]]) -> dict[str, Found | None]:
            with ThreadPoolExecutor(_HEADS, "artfs-reference") as pool:
                return dict(zip((meta["path"] for meta in metas), pool.map(detail, metas), strict=True))

        known = detailed([meta for meta in listed if not meta["size"]])
        sized = [meta for meta in listed if meta["size"]]
        if sized:
            first = detail(sized[0])
            known |= detailed(sized) if first and first.version_id else {}
        found = (
            known[meta["path"]]
            if meta["path"] in known
            else _found(meta["path"][cut:], self.uri_of(name, meta["path"]), meta)
            for meta in listed
        )
        return [each for each in found if each is not None]

    def _head(self, store: ObjectStore, key: str, version_id: str) -> dict[str, Any]:
        """Raises FileNotFoundError, also for what Hadoop makes in Azure in the place of a folder."""
        options: Any = {"head": True, **({"version": version_id} if version_id else {})}
        got = obstore.get(store, key, options=options)
        if got.attributes.get("hdi_isfolder") == "true":
            raise FileNotFoundError(key)
        return dict(got.meta)

    def fetch(self, ref: RefEntry, target: int, on_bytes: OnBytes) -> None:
        name = self._one(ref)
        with _told(ref.uri):
            options: Any = {"version": ref.version_id} if ref.version_id else {}
            got = obstore.get(self._store(ref.uri, name), name.key, options=options)
            _compare(ref, dict(got.meta))
            at = 0
            for chunk in got.stream(min_chunk_size=_CHUNK):
                view = memoryview(chunk)
                try:
                    write_all(target, view, at)
                except OSError as error:
                    raise StorageError.wrap(error, f"storing {shown(ref.uri)}") from error
                at += len(view)
                on_bytes(len(view))
            if ref.size is not None and at != ref.size:
                raise ReferenceChangedError(f"{shown(ref.uri)} gave {at} bytes instead of {ref.size}")

    def check(self, ref: RefEntry) -> None:
        name = self._one(ref)
        with _told(ref.uri):
            _compare(ref, self._head(self._store(ref.uri, name), name.key, ref.version_id))

    def _one(self, ref: RefEntry) -> ObjectName:
        name = self.parse(ref.uri)
        if not name.key or name.key.endswith("/"):
            raise ReferenceUnsupportedError(
                f"{shown(ref.uri)} is a prefix, which was added with checksum=False: what is below it is not known"
            )
        _check_key(ref.uri, name.key)
        return name


class S3Source(ObjectSource):
    def parse(self, uri: str) -> ObjectName:
        return parse_s3(uri)

    def uri_of(self, name: ObjectName, key: str) -> str:
        return f"s3://{name.bucket}/{key}"

    def _open(self, name: ObjectName, *, sign: bool) -> ObjectStore:
        endpoint = self._settings.s3_endpoint
        given: Any = {"endpoint": endpoint} if endpoint else {}
        client = self._client(endpoint)
        if not endpoint:
            del client["allow_http"]  # what AWS_ALLOW_HTTP says for AWS_ENDPOINT_URL
        return stores.S3Store(
            name.bucket, skip_signature=not sign, client_options=client, retry_config=_RETRIES, **given
        )


class GsSource(ObjectSource):
    def parse(self, uri: str) -> ObjectName:
        return parse_gs(uri)

    def uri_of(self, name: ObjectName, key: str) -> str:
        return f"gs://{name.bucket}/{key}"

    def _open(self, name: ObjectName, *, sign: bool) -> ObjectStore:
        endpoint = self._settings.gs_endpoint
        given: Any = {"base_url": endpoint} if endpoint else {}
        return stores.GCSStore(
            name.bucket, skip_signature=not sign, client_options=self._client(endpoint), retry_config=_RETRIES, **given
        )


class AzureSource(ObjectSource):
    def parse(self, uri: str) -> ObjectName:
        return parse_azure(uri)

    def uri_of(self, name: ObjectName, key: str) -> str:
        return f"https://{name.account}{AZURE_SUFFIX}/{name.bucket}/" + quote(key, safe="/-._~!$&'()*+,;=:@")

    def _open(self, name: ObjectName, *, sign: bool) -> ObjectStore:
        endpoint = self._settings.azure_endpoint
        given: Any = {"endpoint": endpoint} if endpoint else {}
        return stores.AzureStore(
            name.bucket,
            account_name=name.account,
            skip_signature=not sign,
            client_options=self._client(endpoint),
            retry_config=_RETRIES,
            **given,
        )


def _compare(ref: RefEntry, meta: dict[str, Any]) -> None:
    etag = (meta["e_tag"] or "").strip('"')
    for what, now, then in (("ETag", etag, ref.checksum), ("size", meta["size"], ref.size)):
        if then not in (None, "") and now != then:
            raise ReferenceChangedError(f"{shown(ref.uri)} changed: its {what} is {now}, and was {then}")


def _found(path: str, uri: str, meta: dict[str, Any]) -> Found:
    return Found(path, uri, meta["size"], (meta["e_tag"] or "").strip('"'), meta["version"] or "")


def _check_key(uri: str, key: str) -> None:
    """obstore would take `/x` for `x`, and refuses the others with a ValueError."""
    parts = key.split("/") if key else []
    if any(part in ("", ".", "..") or _CONTROL.search(part) for part in parts):
        raise ReferenceUnsupportedError(
            f"{shown(uri)!r} is not read: artfs asks for no objects whose names have empty parts, '.', '..' or control characters"
        )


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """obstore's errors become ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise ReferenceMissingError(f"{shown(uri)} is gone: there is no such object (or version of it)") from error
    except (exceptions.BaseError, OSError) as error:
        raise _judged(uri, error) from error


def _judged(uri: str, error: Exception) -> ArtfsError:
    text = str(error)
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError) or _DENIED.search(text):
        return ReferenceRefusedError(
            f"{shown(uri)} may not be read: {_first_line(text)}; the setting reference_credentials says "
            "where this machine's cloud credentials may go"
        )
    if _NOT_FOUND.search(text):  # listing a bucket that is not there has no class of its own
        return ReferenceMissingError(f"{shown(uri)} is gone: there is no such bucket, or it may not be listed")
    if _BAD_NAME in text:
        return InvalidArgumentError(
            f"cannot add {shown(uri)}: an object there has a name that no file can have ({_first_line(text)}); add parts of it"
        )
    return UnavailableError(f"{shown(uri)} cannot be read: {_first_line(text)}")


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip()
