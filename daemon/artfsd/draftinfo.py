"""What a draft knows of its next version, as extended attributes of its root."""

from __future__ import annotations

import errno
import json
from typing import Any

import msgspec

from artfs.errors import UsageError
from artfs.model.draft import DraftInfo
from artfs.model.names import check_alias, check_metadata, check_tag, check_type
from artfsd.inodes import refuse

_PREFIX = b"user.artfs."


def info_xattrs(info: DraftInfo) -> dict[bytes, bytes]:
    values = {
        "project": info.project,
        "collection": info.collection,
        "state": "PENDING",
        "base": info.base_version or "",
        "began_at": info.began_at,
        "type": info.type or "",
        "description": info.description or "",
        "metadata": json.dumps(info.metadata or {}, sort_keys=True),
        "aliases": ",".join(info.aliases),
        "tags": ",".join(info.tags),
    }
    return {_PREFIX + key.encode(): value.encode("utf-8", "surrogateescape") for key, value in values.items() if value}


def with_xattr(info: DraftInfo, name: bytes, value: bytes | None) -> DraftInfo:
    """`info` with one attribute set (None: removed). EOPNOTSUPP for names that are not ours or cannot be set, EINVAL
    for values that break a rule, ENODATA for the removal of what is not there."""
    key = name.removeprefix(_PREFIX).decode("utf-8", "replace")
    if not name.startswith(_PREFIX) or key not in ("type", "description", "metadata", "aliases", "tags"):
        refuse(errno.EOPNOTSUPP if value is not None else errno.ENODATA)
    changed: dict[str, Any] = {key: () if key in ("aliases", "tags") else None}
    if value is not None:
        try:
            changed = {key: _parse(key, value.decode())}
        except (UsageError, ValueError, TypeError, RecursionError):
            refuse(errno.EINVAL)
    return msgspec.structs.replace(info, **changed)


def _parse(key: str, text: str) -> Any:
    if key == "type":
        check_type(text)
        return text
    if key == "metadata":
        return check_metadata(json.loads(text))
    if key == "description":
        return text
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        if key == "aliases":
            check_alias(word)
        else:
            check_tag(word)
    return words
