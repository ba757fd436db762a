"""References to objects of S3, Google Cloud Storage and Azure, through obstore (the extra `artfs[s3]`).

The checksum is the ETag without its quotes. Where the store keeps versions, the object's version id is noted, and that very
version is fetched; without one, an object whose ETag is another has changed.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from artfs.errors import (
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
        store = self._store(uri, name)
        with _told(uri):
            if name.key and not name.key.endswith("/"):
                try:
                    return Examined(True, [self._found(default, plain, self._head(store, name.key, name.version_id))])
                except FileNotFoundError:
                    if name.version_id:
                        raise
            listed = self._list(store, uri, name.key, max_objects)
            return Examined(False, self._detailed(store, name, listed))

    def _list(self, store: ObjectStore, uri: str, prefix: str, max_objects: int) -> list[dict[str, Any]]:
        top = prefix.rstrip("/")
        found: list[dict[str, Any]] = []
        for chunk in obstore.list(store, top or None, chunk_size=1000):
            found += [dict(meta) for meta in chunk]
            check_count(shown(uri), len(found), max_objects + 1)
        # Consoles make an empty object for each "folder": no file is meant, and its name is that of a directory.
        folders = {top}
        for meta in found:
            path = meta["path"]
            while "/" in path:
                path = path.rpartition("/")[0]
                folders.add(path)
        objects = [meta for meta in found if meta["size"] or meta["path"] not in folders]
        check_count(shown(uri), len(objects), max_objects)
        if not found:
            raise ReferenceMissingError(f"cannot add {shown(uri)}: there is neither such an object nor one below it")
        return sorted(objects, key=lambda meta: str(meta["path"]))

    def _detailed(self, store: ObjectStore, name: ObjectName, listed: list[dict[str, Any]]) -> list[Found]:
        """Listings tell no version ids: when the first object has one, all are asked for theirs."""
        if not listed:
            return []
        first = self._head(store, listed[0]["path"], "")
        details = listed
        if first.get("version"):
            with ThreadPoolExecutor(_HEADS, "artfs-reference") as pool:
                details = list(pool.map(lambda meta: self._head(store, meta["path"], ""), listed))
        top = name.key.rstrip("/")
        cut = len(top) + 1 if top else 0
        return [self._found(meta["path"][cut:], self.uri_of(name, meta["path"]), meta) for meta in details]

    def _found(self, path: str, uri: str, meta: dict[str, Any]) -> Found:
        return Found(path, uri, meta["size"], (meta["e_tag"] or "").strip('"'), meta["version"] or "")

    def _head(self, store: ObjectStore, key: str, version_id: str) -> dict[str, Any]:
        options: Any = {"head": True, **({"version": version_id} if version_id else {})}
        return dict(obstore.get(store, key, options=options).meta)

    def fetch(self, ref: RefEntry, target: int, on_bytes: OnBytes) -> None:
        name = self.parse(ref.uri)
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
        name = self.parse(ref.uri)
        with _told(ref.uri):
            _compare(ref, self._head(self._store(ref.uri, name), name.key, ref.version_id))


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


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """obstore's errors become ours."""
    try:
        yield
    except FileNotFoundError as error:
        if isinstance(error, ReferenceMissingError):
            raise
        raise ReferenceMissingError(f"{shown(uri)} is gone: there is no such object (or version of it)") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise ReferenceRefusedError(
            f"{shown(uri)} may not be read: {_first_line(error)}; the setting reference_credentials says "
            "where this machine's cloud credentials may go"
        ) from error
    except (exceptions.BaseError, OSError) as error:
        if "404 Not Found" in str(error):  # listing a bucket that is not there has no class of its own
            raise ReferenceMissingError(f"{shown(uri)} is gone: there is no such bucket") from error
        raise UnavailableError(f"{shown(uri)} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip()
