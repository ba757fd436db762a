"""A bucket in an object store: S3, Google Cloud Storage or Azure, through obstore (the extra `artfs[server]`).

URLs for GET are signed by obstore, which does it without a question to anybody. Those for PUT into S3 are signed by botocore,
because they have the SHA-256 and the length of the one body that they are good for in their signature, and obstore signs no
headers. For the other two nothing like that can be had.

S3's credentials are found by botocore for both, so that profiles and roles work as in the vendor's own tools.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx

from artfs.errors import BlobMissingError, MissingExtraError, StorageError, UnavailableError, UsageError
from artfs.model.digests import digest_bytes
from artfs.store.bucket import Buffer, SignedPut, StoredObject, check_key, near_ranges

try:
    import obstore
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session
    from obstore import exceptions
    from obstore import store as stores
except ImportError as _missing:
    raise MissingExtraError(
        "blobs in s3://, gs:// or az:// need the packages obstore and botocore: pip install 'artfs[server]'"
    ) from _missing

_PIECE = 4 * 1024 * 1024
_GAP = 256 * 1024
_MOST = 16 * 1024 * 1024
_DELETED_AT_ONCE = 1000
_CREDENTIALS_S = 300
_PROBE_S = 60
_OPTIONS = {
    "s3": {"endpoint", "region", "public", "presign", "copies", "profile"},
    "gs": {"endpoint", "presign", "copies"},
    "az": {"account", "endpoint", "presign", "copies"},
}
_RETRIES: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}

Signer = Callable[[str, int, str, float], SignedPut]
"""sign_put of a protocol; keys with their prefix."""


class _Parts(NamedTuple):
    """`store`: what the server uses; `signing`: what makes the URLs of clients (another endpoint perhaps)."""

    store: Any
    signing: Any
    sign_put: Signer
    probes: bool


def open_objects(scheme: str, bucket: str, prefix: str, options: dict[str, str]) -> ObjectBucket:
    """See artfs.store.bucket.open_bucket. Raises UsageError for an option that is none, or credentials that are wrong by
    their form; asks nobody."""
    unknown = set(options) - _OPTIONS[scheme]
    if unknown:
        raise UsageError(f"{scheme}:// has no option {min(unknown)!r}; it has {', '.join(sorted(_OPTIONS[scheme]))}")
    if prefix:
        try:
            check_key(prefix)
        except ValueError:
            raise UsageError(f"not a prefix: {prefix!r} (lower-case letters, digits, '.', '_', '-', '/')") from None
    presign, copies = _yes_or_no(options, "presign"), _yes_or_no(options, "copies")
    try:
        parts = {"s3": _s3, "gs": _gs, "az": _az}[scheme](bucket, options)
    except (exceptions.BaseError, BotoCoreError, ValueError) as error:
        raise UsageError(f"cannot use {scheme}://{bucket}: {_first_line(error)}") from error
    name = f"{scheme}://{bucket}/{prefix}".rstrip("/")
    return ObjectBucket(name, f"{prefix}/" if prefix else "", parts, presign=presign, copies=copies)


def _yes_or_no(options: dict[str, str], name: str) -> bool:
    answer = {"yes": True, "no": False}.get(options.get(name, "yes"))
    if answer is None:
        raise UsageError(f"{name} is yes or no, not {options[name]!r}")
    return answer


def _client(endpoint: str) -> Any:
    return {"allow_http": endpoint.startswith("http://"), "connect_timeout": "10s", "timeout": "300s"}


def _s3(bucket: str, options: dict[str, str]) -> _Parts:
    session = Session(profile=options.get("profile"))
    endpoint = options.get("endpoint") or session.get_config_variable("endpoint_url") or ""
    region = options.get("region") or session.get_config_variable("region") or "us-east-1"
    found = session.get_credentials()
    if found is None:
        raise ValueError("there are no credentials for S3 (AWS_ACCESS_KEY_ID …, or a profile)")

    def credentials() -> Any:
        frozen = found.get_frozen_credentials()
        # Asked again before a role's credentials end, which botocore then renews.
        ends = datetime.now(UTC) + timedelta(seconds=_CREDENTIALS_S)
        return {
            "access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key, "token": frozen.token,
            "expires_at": ends,
        }  # fmt: skip

    def store(url: str) -> Any:
        given: Any = {"endpoint": url} if url else {}
        return stores.S3Store(
            bucket, region=region, credential_provider=credentials, client_options=_client(url), retry_config=_RETRIES,
            **given,
        )

    public = options.get("public") or endpoint
    client = session.create_client(
        "s3", region_name=region, endpoint_url=public or None,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )

    def sign_put(key: str, size: int, sha256: str, seconds: float) -> SignedPut:
        given: dict[str, Any] = {"Bucket": bucket, "Key": key, "ContentLength": size}
        headers = {}
        if sha256:
            told = base64.b64encode(bytes.fromhex(sha256)).decode()
            given["ChecksumSHA256"] = headers["x-amz-checksum-sha256"] = told
        url = client.generate_presigned_url("put_object", given, ExpiresIn=round(seconds), HttpMethod="PUT")
        return SignedPut(url, headers)

    inner = store(endpoint)
    return _Parts(inner, store(public) if public != endpoint else inner, sign_put, True)


def _gs(bucket: str, options: dict[str, str]) -> _Parts:
    endpoint = options.get("endpoint", "")
    given: Any = {"base_url": endpoint, "skip_signature": True} if endpoint else {}
    made = stores.GCSStore(bucket, client_options=_client(endpoint), retry_config=_RETRIES, **given)
    return _Parts(made, made, _plain_signer(made, {}), False)


def _az(container: str, options: dict[str, str]) -> _Parts:
    endpoint = options.get("endpoint", "")
    given: Any = {"endpoint": endpoint} if endpoint else {}
    if options.get("account"):
        given["account_name"] = options["account"]
    made = stores.AzureStore(container, client_options=_client(endpoint), retry_config=_RETRIES, **given)
    return _Parts(made, made, _plain_signer(made, {"x-ms-blob-type": "BlockBlob"}), False)


def _plain_signer(store: Any, headers: dict[str, str]) -> Signer:
    def sign_put(key: str, size: int, sha256: str, seconds: float) -> SignedPut:
        with _told(key):
            return SignedPut(obstore.sign(store, "PUT", key, timedelta(seconds=seconds)), dict(headers))

    return sign_put


class ObjectBucket:
    """See artfs.store.bucket.Bucket; `open_objects` makes one."""

    def __init__(self, name: str, prefix: str, parts: _Parts, *, presign: bool, copies: bool) -> None:
        self._name = name
        self._prefix = prefix
        self._parts = parts
        self._presign = presign
        self._copies = copies
        self._lock = threading.Lock()
        self._can_sign: bool | None = None
        self._keeps: bool | None = None
        self._plain_ranges = False
        self._http = httpx.Client(timeout=_PROBE_S)

    @property
    def name(self) -> str:
        return self._name

    @property
    def signs(self) -> bool:
        with self._lock:
            if self._can_sign is None:
                self._can_sign = self._presign and self._try_sign()
            return self._can_sign

    @property
    def is_near(self) -> bool:
        return False

    def keeps_what_was_put(self) -> bool:
        with self._lock:
            if self._keeps is None:
                self._keeps = self._parts.probes and self._probe()
            return self._keeps

    @property
    def trusts_senders(self) -> bool:
        return not self._copies

    def put(self, key: str, data: Buffer) -> None:
        path = self._path(key)
        with _told(key):
            obstore.put(self._parts.store, path, data, use_multipart=False)

    @contextlib.contextmanager
    def writer(self, key: str, size: int) -> Iterator[_Collected]:
        check_key(key)
        yield _Collected(self, key, size)

    def copy(self, source: str, target: str) -> None:
        paths = self._path(source), self._path(target)
        with _told(source):
            obstore.copy(self._parts.store, *paths)

    def try_size(self, key: str) -> int | None:
        path = self._path(key)
        try:
            with _told(key):
                return int(obstore.head(self._parts.store, path)["size"])
        except BlobMissingError:
            return None

    def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        path = self._path(key)
        found: dict[tuple[int, int], Buffer] = {(offset, 0): b"" for offset, nbytes in ranges if not nbytes}
        groups = list(near_ranges({each for each in ranges if each[1]}, _GAP, _MOST))
        starts = [group[0][0] for group in groups]
        ends = [max(offset + nbytes for offset, nbytes in group) for group in groups]
        got: list[Any] = []
        with _told(key):
            if groups:
                got = [self._range(path, starts[0], ends[0])]
            if self._plain_ranges:
                got += [self._range(path, start, end) for start, end in zip(starts[1:], ends[1:], strict=True)]
            elif len(groups) > 1:
                got += obstore.get_ranges(self._parts.store, path, starts=starts[1:], ends=ends[1:])
        for group, start, data in zip(groups, starts, got, strict=True):
            view = memoryview(data)
            for offset, nbytes in group:
                piece = view[offset - start : offset - start + nbytes]
                if len(piece) != nbytes:
                    raise _short(key)
                found[offset, nbytes] = piece
        if not groups and ranges and self.try_size(key) is None:
            raise BlobMissingError(f"the object {key} is not in the bucket {self._name}")
        return [found[each] for each in ranges]

    def stream(self, key: str, offset: int, nbytes: int) -> Iterator[Buffer]:
        if offset or not nbytes:
            for at in range(offset, offset + max(nbytes, 1), _PIECE):
                yield from self.read(key, [(at, min(_PIECE, offset + nbytes - at))])
            return
        path = self._path(key)
        with _told(key):
            for piece in obstore.get(self._parts.store, path).stream(min_chunk_size=_PIECE):
                view = memoryview(piece)[:nbytes]
                nbytes -= len(view)
                yield view
                if not nbytes:
                    return
        raise _short(key)

    def delete(self, keys: Sequence[str]) -> None:
        paths = [self._path(key) for key in keys]
        for at in range(0, len(paths), _DELETED_AT_ONCE):
            with contextlib.suppress(BlobMissingError), _told(keys[at]):
                obstore.delete(self._parts.store, paths[at : at + _DELETED_AT_ONCE])

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        with _told(prefix):
            for chunk in obstore.list(self._parts.store, f"{self._prefix}{prefix}".rstrip("/") or None, chunk_size=1000):
                for meta in chunk:
                    key = meta["path"].removeprefix(self._prefix)
                    yield StoredObject(key, meta["size"], meta["last_modified"].timestamp())

    def sign_get(self, keys: Sequence[str], seconds: float) -> list[str]:
        if not keys:
            return []
        paths = [self._path(key) for key in keys]
        with _told(keys[0]):
            return list(obstore.sign(self._parts.signing, "GET", paths, timedelta(seconds=seconds)))

    def sign_put(self, key: str, size: int, sha256: str, seconds: float) -> SignedPut:
        try:
            return self._parts.sign_put(self._path(key), size, sha256, seconds)
        except BotoCoreError as error:
            raise UnavailableError(f"cannot sign a URL of {self._name}: {_first_line(error)}") from error

    def close(self) -> None:
        self._http.close()

    def _range(self, path: str, start: int, end: int) -> Any:
        """Raises what obstore and httpx raise."""
        if not self._plain_ranges:
            try:
                return obstore.get_range(self._parts.store, path, start=start, end=end)
            except exceptions.GenericError as error:
                if "non-partial response" not in str(error):
                    raise
                # `rclone serve s3` answers 200 with the range's bytes, which obstore takes for the whole object.
                self._plain_ranges = True
        url = obstore.sign(self._parts.store, "GET", path, timedelta(seconds=_PROBE_S))
        answer = self._http.get(url, headers={"Range": f"bytes={start}-{end - 1}"})
        told = answer.headers.get("Content-Range", "")
        if answer.status_code == 404:
            raise FileNotFoundError(path)
        if not answer.is_success or not told.startswith(f"bytes {start}-"):
            raise OSError(f"{answer.status_code} {answer.reason_phrase} {told}")
        return answer.content

    def _path(self, key: str) -> str:
        return f"{self._prefix}{check_key(key)}"

    def _try_sign(self) -> bool:
        """Whether there are credentials that can sign: none are needed for an emulator, and some (of a machine, for a token)
        cannot."""
        try:
            obstore.sign(self._parts.signing, "GET", self._path("probe"), timedelta(seconds=1))
        except (exceptions.BaseError, ValueError, OSError):
            return False
        return True

    def _probe(self) -> bool:
        """Tries to store other bytes than a URL is for. Raises StorageError, UnavailableError."""
        key = f"probe/{secrets.token_hex(16)}"
        signed = self.sign_put(key, 5, digest_bytes(b"right"), _PROBE_S)
        try:
            answer = self._http.put(signed.url, content=b"wrong", headers=signed.headers)
        except httpx.HTTPError as error:
            raise UnavailableError(f"the bucket {self._name} cannot be reached: {error}") from error
        if answer.is_success:
            self.delete([key])
            return False
        if answer.status_code == 400:
            return True
        if answer.status_code == 429 or answer.status_code >= 500:
            raise UnavailableError(f"the bucket {self._name} answers {answer.status_code}; it may be too busy just now")
        raise StorageError(
            f"the bucket {self._name} answers {answer.status_code} where a wrong checksum should be refused", errno.EIO
        )


class _Collected:
    """See artfs.store.bucket.ObjectWriter. The bytes are kept until `commit`: a multipart upload that nobody ends would cost
    for ever, and be seen by no listing."""

    def __init__(self, bucket: ObjectBucket, key: str, size: int) -> None:
        self._bucket = bucket
        self._key = key
        self._size = size
        self._data = bytearray()

    def write(self, data: Buffer) -> None:
        if len(self._data) + len(data) > self._size:
            raise UsageError(f"more than {self._size:,} bytes for an object of that size")
        self._data += data

    def commit(self) -> None:
        if len(self._data) != self._size:
            raise UsageError(f"{len(self._data):,} bytes for an object of {self._size:,}")
        self._bucket.put(self._key, self._data)


@contextlib.contextmanager
def _told(key: str) -> Iterator[None]:
    """obstore's errors become ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise BlobMissingError(f"the object {key} is not in the bucket") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise StorageError(f"the bucket refuses {key}: {_first_line(error)}", errno.EACCES) from error
    except (exceptions.BaseError, httpx.HTTPError, OSError, ValueError) as error:
        said = _first_line(error)
        if "416 Range Not Satisfiable" in said:
            raise _short(key) from error
        raise UnavailableError(f"the bucket does not answer for {key}: {said}") from error


def _short(key: str) -> StorageError:
    return StorageError(f"the object {key} is damaged: it is shorter than it was")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip()
