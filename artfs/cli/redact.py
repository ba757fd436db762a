"""Takes secrets out of text that is to be shown to others. Pure.

Two nets: the values that are known to be secret, in each spelling in which they may stand somewhere (in a URL, in JSON, in
base64, as the access log writes names), and the shapes that secrets have. The second one takes more than it must; it is meant to.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote, urlsplit

MARK = "[REDACTED]"

SHORTEST = 4
"""Known values that are shorter are left alone: they would be found in every second word."""

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_URL = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*:)(?P<slashes>//|\\/\\/)(?P<rest>[^\s\"'<>`]+)")
_HEADER = re.compile(
    r"(?i)((?:proxy-)?authorization|set-cookie|cookie|x-amz-security-token|x-api-key)(\\?[\"']?\s*[:=,]\s*[b(]*\\?[\"']?)[^\"'\n\\]+"
)
_SCHEME = re.compile(r"(?i)\b(bearer|basic|digest|negotiate)\s+(?=\S*[\d=+/_.-]|\S{16})[A-Za-z0-9+/_.~=-]{6,}")
_NAMED = re.compile(
    r"(?i)([\w.%-]*(?:tokens?|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key(?:[_-]?id)?|account[_-]?key|private[_-]?key"
    r"|sas[_-]?key|signature|x-amz-(?:credential|signature|security-token)|googleaccessid|awsaccesskeyid)[\w.%-]*"
    r"|(?:(?<![\w-])|(?<=%3[fF])|(?<=%26))(?:sig|pwd|pass))"
    r"(\\?[\"']?\s*(?:[:=]|%3[dD])\s*)"
    r"(\\?\"(?:[^\"\\]|\\[^\"])*\\?\"|'[^'\n]*'|[^\s,;&\"'}\])]+)"
)
_SHAPES = re.compile(
    r"artfs_[A-Za-z0-9_-]{30,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bhf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{20,}|\bxox[abprs]-[\w-]{10,}"
    r"|\bAIza[0-9A-Za-z_-]{35}|\bya29\.[\w.-]{20,}"
)


class Redactor:
    """`secrets`: values that must not be shown, in any spelling."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spelled = {spelling for secret in secrets for spelling in _spellings(secret.strip())}
        # The longest first: one may be in another.
        ordered = sorted(spelled, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE) if ordered else None

    def __call__(self, text: str) -> str:
        """`text` without what is secret in it."""
        if self._known is not None:
            text = self._known.sub(MARK, text)
        text = _PRIVATE_KEY.sub(MARK, text)
        text = _URL.sub(_without_secrets, text)
        text = _HEADER.sub(rf"\1\2{MARK}", text)
        text = _SCHEME.sub(rf"\1 {MARK}", text)
        text = _NAMED.sub(rf"\1\2{MARK}", text)
        return _SHAPES.sub(MARK, text)


def url_secrets(text: str) -> list[str]:
    """What must not be shown of a value that may be a URL: its password, and both parts of who comes before "@"."""
    if "://" not in text or "@" not in text:
        return []
    try:
        parts = urlsplit(text)
        user, password = parts.username, parts.password
    except ValueError:
        return [text]
    found = [text.partition("://")[2].rpartition("@")[0]]
    if password:
        found += [password, unquote(password), f"{unquote(user or '')}:{unquote(password)}"]
    return found


def _without_secrets(found: re.Match[str]) -> str:
    """A URL without who comes before "@", and without its query, in which presigned URLs have their signature."""
    rest = found["rest"]
    before = rest.partition("?")[0].rpartition("@")[0]
    # A "/" before the "@" is of the path, unless a password goes on there.
    if before and ("/" not in before or ":" in before.partition("/")[0]):
        rest = MARK + rest[len(before) :]
    cut = re.search(r"[?#]|%3[fF]|\\077", rest)
    if cut is not None:
        rest = rest[: cut.end()] + MARK
    return found["scheme"] + found["slashes"] + rest


def _spellings(secret: str) -> Iterable[str]:
    if len(secret) < SHORTEST:
        return
    raw = secret.encode(errors="surrogateescape")
    yield secret
    yield quote(raw, safe="")
    yield quote(raw)
    yield quote_plus(raw)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield "".join(each if each.isprintable() and each not in " \\" else f"\\{ord(each):03o}" for each in secret)
    # In the middle of something longer that was encoded, its base64 begins in one of three ways; its ends depend on the rest.
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw).decode()
        start = -(-before * 8 // 6)
        stop = (before + len(raw)) * 8 // 6
        piece = whole[start:stop]
        if len(piece) >= 8:
            yield piece
            yield piece.replace("+", "-").replace("/", "_")
