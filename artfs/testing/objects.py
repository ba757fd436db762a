r"""Object stores for tests of references: one of our own that speaks as S3, Google Cloud Storage or Azure do, with versions
and pages of listings, and a way to put objects into the emulators that others wrote, so that one suite runs over all of
them (tests/unit/references/test_object_stores.py).

How to run it over emulators, which are not installed here (each is an endpoint, `+versions` where it keeps them):

    ARTFS_TEST_OBJECT_STORES="azure=http://127.0.0.1:10000/devstoreaccount1 gs+versions=http://127.0.0.1:4443" \
        python -m pytest tests/unit/references/test_object_stores.py
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import threading
import urllib.request
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

Kind = Literal["s3", "gs", "azure"]

EMULATORS = "ARTFS_TEST_OBJECT_STORES"

AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""What everybody's Azurite has (https://github.com/Azure/Azurite#default-storage-account); no secret."""

_PUBLIC = {"x-amz-acl": "public-read"}
_MOMENT = 1_788_264_000.0
_ISO = "2026-09-01T12:00:00.000Z"


class ObjectStore(Protocol):
    """Where a suite puts objects, and where sources look for them.

    Attributes:
        kind: whose protocol it is.
        endpoint: URL for the setting `s3_endpoint`, `gs_endpoint` or `azure_endpoint`.
        keeps_versions: whether what was replaced can still be had by its id.
    """

    kind: Kind
    endpoint: str
    keeps_versions: bool

    def make_bucket(self, name: str) -> None:
        """Anybody may read and list it."""
        ...

    def put(self, bucket: str, key: str, data: bytes, **metadata: str) -> None: ...

    def delete(self, bucket: str, key: str) -> None:
        """Its older versions stay, where they are kept."""
        ...

    def close(self) -> None: ...


def uri_of(kind: Kind, bucket: str, key: str = "") -> str:
    """As somebody writes it who wants an object, or all below a prefix."""
    if kind == "azure":
        return f"https://{AZURITE_ACCOUNT}.blob.core.windows.net/{bucket}/" + quote(key, safe="/-._~!$&'()*+,;=:@")
    return f"{kind}://{bucket}/{key}"


@dataclass
class Stored:
    """One version of an object; `gone`: it says that there is none any more."""

    data: bytes
    version: str
    metadata: dict[str, str] = field(default_factory=dict)
    gone: bool = False


@dataclass
class Bucket:
    """`objects`: by key, newest version last. `denies`: the status that everybody without credentials gets (0: none), or
    who lists (`denies_listing`)."""

    objects: dict[str, list[Stored]] = field(default_factory=dict)
    denies: int = 0
    denies_listing: int = 0


class ObjectServer:
    """The store of our own, on a port of its own. `page`: how many objects a listing tells at once; `seen`: (method, path,
    headers by their names in lower case) of each request."""

    def __init__(self, kind: Kind, keeps_versions: bool = True, page: int = 4) -> None:
        self.kind = kind
        self.keeps_versions = keeps_versions
        self.page = page
        self.buckets: dict[str, Bucket] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self._count = 1_700_000_000_000_000
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                store.seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
                status, headers, body = store.answer(self.path, signed="Authorization" in self.headers)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def make_bucket(self, name: str) -> None:
        self.buckets[name] = Bucket()

    def put(self, bucket: str, key: str, data: bytes, **metadata: str) -> None:
        self._add(bucket, key, Stored(data, self._next(), metadata))

    def delete(self, bucket: str, key: str) -> None:
        self._add(bucket, key, Stored(b"", self._next(), gone=True))

    def _next(self) -> str:
        self._count += 1
        if not self.keeps_versions:
            return ""
        moment = f"2026-09-01T12:00:00.{self._count % 10**7:07}Z"
        return {"s3": f"v.{self._count}_x", "gs": str(self._count), "azure": moment}[self.kind]

    def _add(self, bucket: str, key: str, stored: Stored) -> None:
        versions = self.buckets[bucket].objects.setdefault(key, [])
        if not self.keeps_versions:
            versions.clear()
        versions.append(stored)

    # answers --------------------------------------------------------------------------------------

    def answer(self, target: str, signed: bool) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of a GET."""
        parts = urlsplit(target)
        query = {name.lower(): values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        name, _, key = unquote(parts.path).removeprefix("/").partition("/")
        bucket = self.buckets.get(name)
        if bucket is None:
            return self._error(404, {"s3": "NoSuchBucket", "gs": "NoSuchBucket", "azure": "ContainerNotFound"}[self.kind])
        listing = not key
        denied = bucket.denies or (bucket.denies_listing if listing else 0)
        if denied and not signed:
            # Azure's 409 says that the account allows nobody to make anything public.
            return self._error(denied, "PublicAccessNotPermitted" if denied == 409 else "AccessDenied")
        return self._list(name, bucket, query) if listing else self._get(bucket, key, query)

    def _error(self, status: int, code: str) -> tuple[int, dict[str, str], bytes]:
        body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
        return status, {"Content-Type": "application/xml", "x-ms-error-code": code}, body.encode()

    def _get(self, bucket: Bucket, key: str, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        versions = bucket.objects.get(key, [])
        wanted = query.get({"s3": "versionid", "gs": "generation", "azure": "versionid"}[self.kind])
        if wanted is not None:
            versions = [stored for stored in versions if stored.version == wanted]
        if not versions or versions[-1].gone:
            return self._error(404, {"s3": "NoSuchKey", "gs": "NoSuchKey", "azure": "BlobNotFound"}[self.kind])
        stored = versions[-1]
        headers = {"ETag": f'"{self._etag(stored)}"', "Last-Modified": formatdate(_MOMENT, usegmt=True)}
        prefix = {"s3": "x-amz-meta-", "gs": "x-goog-meta-", "azure": "x-ms-meta-"}[self.kind]
        headers |= {prefix + name: value for name, value in stored.metadata.items()}
        if stored.version:
            headers[{"s3": "x-amz-version-id", "gs": "x-goog-generation", "azure": "x-ms-version-id"}[self.kind]] = stored.version
        if self.kind == "azure":
            headers |= {"x-ms-creation-time": headers["Last-Modified"], "x-ms-blob-type": "BlockBlob"}
        return 200, headers, stored.data

    def _etag(self, stored: Stored) -> str:
        digest = hashlib.md5(stored.data + (b"" if self.kind == "s3" else stored.version.encode())).hexdigest()
        return f"0x{digest[:15].upper()}" if self.kind == "azure" else digest

    def _list(self, name: str, bucket: Bucket, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        azure = self.kind == "azure"
        after = query.get("marker" if azure else "continuation-token", "")
        prefix = query.get("prefix", "")
        current = {key: versions[-1] for key, versions in bucket.objects.items() if not versions[-1].gone}
        keys = sorted((key for key in current if key.startswith(prefix) and key > after), key=str.encode)
        page, rest = keys[: self.page], keys[self.page :]
        if azure:
            blobs = "".join(
                f"<Blob><Name>{escape(key)}</Name><Properties><Creation-Time>{formatdate(_MOMENT, usegmt=True)}</Creation-Time>"
                f"<Last-Modified>{formatdate(_MOMENT, usegmt=True)}</Last-Modified><Etag>{self._etag(current[key])}</Etag>"
                f"<Content-Length>{len(current[key].data)}</Content-Length><Content-Type>application/octet-stream</Content-Type>"
                "<BlobType>BlockBlob</BlobType></Properties></Blob>"
                for key in page
            )
            body = (
                f'<EnumerationResults ServiceEndpoint="{self.endpoint}" ContainerName="{name}"><Prefix>{escape(prefix)}</Prefix>'
                f"<Blobs>{blobs}</Blobs><NextMarker>{escape(page[-1]) if rest else ''}</NextMarker></EnumerationResults>"
            )
        else:
            contents = "".join(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{_ISO}</LastModified>"
                f"<ETag>&quot;{self._etag(current[key])}&quot;</ETag><Size>{len(current[key].data)}</Size></Contents>"
                for key in page
            )
            more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if rest else ""
            body = (
                f"<ListBucketResult><Name>{name}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
                f"<IsTruncated>{'true' if rest else 'false'}</IsTruncated>{contents}{more}</ListBucketResult>"
            )
        return 200, {"Content-Type": "application/xml"}, b'<?xml version="1.0" encoding="utf-8"?>' + body.encode()


class Emulator:
    """A store that somebody else wrote and started: moto's or another S3 that asks for no credentials, fake-gcs-server,
    Azurite. Buckets stay in it."""

    def __init__(self, kind: Kind, endpoint: str, keeps_versions: bool) -> None:
        """`endpoint`: with the account in its path for Azurite, as the setting has it."""
        self.kind = kind
        self.endpoint = endpoint.rstrip("/")
        self.keeps_versions = keeps_versions

    def make_bucket(self, name: str) -> None:
        if self.kind == "azure":
            self._azure("PUT", f"/{name}", "restype=container", {"x-ms-blob-public-access": "container"})
        elif self.kind == "gs":
            facts = {"name": name, "versioning": {"enabled": self.keeps_versions}}
            self._send("POST", "/storage/v1/b", json.dumps(facts).encode(), {"Content-Type": "application/json"})
        else:
            self._send("PUT", f"/{name}", headers=_PUBLIC)
            status = b"Enabled" if self.keeps_versions else b"Suspended"
            xml = b"<VersioningConfiguration><Status>%s</Status></VersioningConfiguration>" % status
            self._send("PUT", f"/{name}?versioning", xml)

    def put(self, bucket: str, key: str, data: bytes, **metadata: str) -> None:
        if self.kind == "azure":
            headers = {"x-ms-blob-type": "BlockBlob", **{f"x-ms-meta-{name}": value for name, value in metadata.items()}}
            self._azure("PUT", f"/{bucket}/{quote(key)}", "", headers, data)
        elif self.kind == "gs":
            self._send("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}", data)
        else:
            self._send("PUT", f"/{bucket}/{quote(key)}", data, _PUBLIC)

    def delete(self, bucket: str, key: str) -> None:
        if self.kind == "azure":
            self._azure("DELETE", f"/{bucket}/{quote(key)}", "", {})
        elif self.kind == "gs":
            self._send("DELETE", f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}")
        else:
            self._send("DELETE", f"/{bucket}/{quote(key)}")

    def close(self) -> None:
        return None

    def _send(self, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> None:
        given = {"Content-Type": "application/octet-stream", **(headers or {})}
        request = urllib.request.Request(self.endpoint + path, data=data, method=method, headers=given)
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()

    def _azure(self, method: str, path: str, query: str, headers: dict[str, str], data: bytes = b"") -> None:
        """Signed as https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key says."""
        now = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        own = {"x-ms-date": now, "x-ms-version": "2023-11-03", **headers}
        kind = "application/octet-stream"
        length = str(len(data)) if data else ""
        lines = [method, "", "", length, "", kind, "", "", "", "", "", ""]
        lines += [f"{name}:{own[name]}" for name in sorted(own)]
        account = urlsplit(self.endpoint).path  # Azurite has it twice: in the URL and in what is signed
        lines += [f"/{AZURITE_ACCOUNT}{account}{path}", *(part.replace("=", ":") for part in query.split("&") if part)]
        digest = hmac.digest(base64.b64decode(AZURITE_KEY), "\n".join(lines).encode(), "sha256")
        own["Authorization"] = f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(digest).decode()}"
        self._send(method, f"{path}?{query}" if query else path, data, {**own, "Content-Type": kind})
