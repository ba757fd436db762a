"""URIs of references, taken apart and put together. Pure.

Names with `#`, `%`, `?` and spaces: a `file://` URI is kept in one spelling, in which those are percent-encoded and nothing
else is; keys of `s3://` and `gs://` stand as they are; `http(s)://` URLs are the caller's, kept as given.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urlsplit

from artfs.errors import InvalidArgumentError

ARTIFACT_SCHEME = "artfs-artifact"
"""Of references to an entry of another artifact: artfs-artifact://ID-IN-HEX/PATH."""

ARTIFACT_SCHEMES = (ARTIFACT_SCHEME, "wandb-artifact")
AZURE_SUFFIX = ".blob.core.windows.net"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ENCODED = re.compile(r"[\x00-\x20%#?\x7f\udc80-\udcff]")
_S3_VERSION = re.compile(r"\?versionId=([^?&#]+)\Z", re.IGNORECASE)
_GS_GENERATION = re.compile(r"#([0-9]+)\Z")
_SIGNED = re.compile(r"(\A|&)sig=")
_AZURE_VERSION = re.compile(r"(?:\A|&)versionId=([^&]+)", re.IGNORECASE)
_ACCOUNT = re.compile(r"[a-z0-9-]{1,80}(\.z[0-9]+)?")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,222}")


class ObjectName(NamedTuple):
    """An object (or prefix) in an object store. `key`: without a "/" at its beginning; `account`: of Azure."""

    bucket: str
    key: str
    version_id: str = ""
    account: str = ""


def scheme_of(uri: str) -> str:
    """In lower case; "azure" for https URLs of Azure's blobs. Raises InvalidArgumentError when `uri` has none."""
    found = _SCHEME.match(uri)
    if found is None:
        raise InvalidArgumentError(
            f"{uri!r} is no URI: it has no scheme such as https://, s3:// or file:// "
            "(for a file of this machine write file:// before its path)"
        )
    scheme = found[1].lower()
    if scheme == "https":
        parts = _split(uri)
        # With a signature in it, it is a presigned URL as any other.
        if (parts.hostname or "").endswith(AZURE_SUFFIX) and not _SIGNED.search(parts.query):
            return "azure"
    return scheme


def has_digest(uri: str) -> bool:
    """Whether the checksum of a reference to `uri` is the SHA-256 of its bytes, and not what a server calls them."""
    return uri.startswith(("file:", *(f"{scheme}:" for scheme in ARTIFACT_SCHEMES)))


def shown(uri: str) -> str:
    """`uri` as messages and logs may show it: a query string may be somebody's right to read (a presigned URL)."""
    head, mark, _ = uri.partition("?") if _SCHEME.match(uri) and not uri.startswith(("file:", "s3:", "gs:")) else (uri, "", "")
    return f"{head}{mark}…" if mark else head


def file_uri(path: str) -> str:
    """The one spelling of an absolute path."""
    return "file://" + _ENCODED.sub(lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found[0])), path)


def file_path(uri: str) -> str:
    """The path in a URI as `file_uri` makes it. Raises InvalidArgumentError for one that no path can be."""
    try:
        path = os.fsdecode(unquote_to_bytes(os.fsencode(_after_scheme(uri))))
    except UnicodeEncodeError:
        path = "\0"
    if "\0" in path:
        raise InvalidArgumentError(f"{uri!r} names no file: its path holds a NUL, or text that cannot be a file name")
    return path


def given_file_paths(uri: str) -> list[str]:
    """The paths that somebody who wrote `uri` may mean, likelier ones first: as it stands, then percent-decoded. Absolute."""
    text = _after_scheme(uri)
    if text.startswith("localhost/"):
        text = text[len("localhost") :]
    paths = [text, os.fsdecode(unquote_to_bytes(os.fsencode(text)))]
    return [os.path.abspath(path) for path in dict.fromkeys(paths) if path]


def parse_s3(uri: str) -> ObjectName:
    """`s3://BUCKET/KEY[?versionId=ID]`."""
    rest, version_id = _cut(_after_scheme(uri), _S3_VERSION)
    return _bucket_and_key(uri, rest, version_id)


def parse_gs(uri: str) -> ObjectName:
    """`gs://BUCKET/KEY[#GENERATION]`."""
    rest, version_id = _cut(_after_scheme(uri), _GS_GENERATION)
    return _bucket_and_key(uri, rest, version_id)


def parse_azure(uri: str) -> ObjectName:
    """`https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB[?versionId=ID]`."""
    parts = _split(uri)
    account = (parts.hostname or "").removesuffix(AZURE_SUFFIX)
    container, _, key = parts.path.removeprefix("/").partition("/")
    found = _AZURE_VERSION.search(parts.query)
    if not _ACCOUNT.fullmatch(account) or not container:
        raise InvalidArgumentError(f"{shown(uri)} names no container of an Azure storage account")
    return ObjectName(unquote(container), unquote(key), unquote(found[1]) if found else "", account)


def without_version(uri: str) -> str:
    """`uri` of an object without its version id (and, for Azure, without any query)."""
    scheme = scheme_of(uri)
    if scheme == "s3":
        return _S3_VERSION.sub("", uri)
    if scheme == "gs":
        return _GS_GENERATION.sub("", uri)
    return uri.partition("?")[0]


def http_name(uri: str) -> str:
    """The default name of what an http URL names: the last part of its path, percent-decoded. InvalidArgumentError when
    that is empty."""
    name = unquote(_split(uri).path).rpartition("/")[2]
    if not name:
        raise InvalidArgumentError(f"{shown(uri)} ends with '/': give the reference a name")
    return name


def artifact_uri(version_id: str, path: str) -> str:
    """`version_id`: hexadecimal."""
    return f"{ARTIFACT_SCHEME}://{version_id}/{path}"


def parse_artifact(uri: str) -> tuple[str, str]:
    """(id in hexadecimal, path). Raises InvalidArgumentError."""
    identity, _, path = _after_scheme(uri).partition("/")
    if not re.fullmatch(r"([0-9a-fA-F]{2})+", identity) or not path:
        raise InvalidArgumentError(f"{uri!r} names no entry of an artifact ({ARTIFACT_SCHEME}://ID/PATH)")
    return identity.lower(), path


def origin(uri: str) -> str:
    """Who is trusted when `uri` is: scheme, host and port of a URL, a bucket, or the file itself."""
    scheme = scheme_of(uri)
    if scheme == "file":
        return uri
    if scheme == "s3":
        return f"s3://{parse_s3(uri).bucket}"
    if scheme == "gs":
        return f"gs://{parse_gs(uri).bucket}"
    if scheme == "azure":
        name = parse_azure(uri)
        return f"https://{name.account}{AZURE_SUFFIX}/{name.bucket}"
    if scheme in ("http", "https"):
        host, port = http_place(uri)
        return f"{scheme}://{host}:{port}"
    return f"{scheme}://"


def http_place(uri: str) -> tuple[str, int]:
    """(host, port) of an http(s) URL. Raises InvalidArgumentError, also for one that holds a password: it would be
    written into a version for everybody to read."""
    parts = _split(uri)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"{shown(uri)} is no URL: {error}") from None
    if not host:
        raise InvalidArgumentError(f"{shown(uri)} names no host")
    if parts.username is not None or parts.password is not None:
        raise InvalidArgumentError(
            f"the URL of {host} holds a user name or password; whoever may read the artifact could read it, too"
        )
    return host, port or (443 if parts.scheme.lower() == "https" else 80)


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise InvalidArgumentError(f"{shown(uri)} is no URL: {error}") from None


def last_part(path: str) -> str:
    return posixpath.basename(path.rstrip("/"))


def _after_scheme(uri: str) -> str:
    return uri.partition("://")[2]


def _cut(text: str, version: re.Pattern[str]) -> tuple[str, str]:
    found = version.search(text)
    return (text[: found.start()], found[1]) if found else (text, "")


def _bucket_and_key(uri: str, rest: str, version_id: str) -> ObjectName:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidArgumentError(f"{uri!r} names no bucket")
    return ObjectName(bucket, key, version_id)
