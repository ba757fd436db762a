"""What is taken out of text that is to be shown to others, and what stays."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from artfs.cli.redact import MARK, Redactor, url_secrets
from artfs.settings import secret_variables

SECRET = "Pa ss/w+0rd\\é%"


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET),
        json.dumps({"a": SECRET}),
        json.dumps({"a": SECRET}, ensure_ascii=False),
        repr(SECRET),
        SECRET.replace("\\", "\\134").replace(" ", "\\040"),
        base64.b64encode(f"ada:{SECRET}".encode()).decode(),
        base64.b64encode(f"lovelace:{SECRET}".encode()).decode(),
        base64.urlsafe_b64encode(f"a:{SECRET}!".encode()).decode(),
        quote(SECRET).lower(),
    ],
)
def test_known_values_in_each_spelling(spelled: str) -> None:
    shown = Redactor([SECRET])(f"before {spelled} after")
    assert "before" in shown
    assert "after" in shown
    assert MARK in shown
    assert "w+0rd" not in shown
    assert "w%2B0rd" not in shown


TOKEN = "artfs_EN3YsbxJC1LGTc1m19mb8duZn3F_vvE9IaGzHCQFIN4"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"the token of ann is {TOKEN}.", TOKEN),
        ("GET https://b.s3.amazonaws.com/k?X-Amz-Signature=abcdef0123&X-Amz-Expires=3 200", "abcdef0123"),
        ("https:\\/\\/h\\/k?X-Amz-Signature=abcdef0123", "abcdef0123"),
        ("https://h/k#access=abcdef0123", "abcdef0123"),
        ("postgresql://artfs:hunter2@db/artfs", "hunter2"),
        ("http://ada:hunter/2@proxy:3128", "hunter"),
        ("socks5://hunter2@proxy", "hunter2"),
        ("'Authorization': 'Bearer abc.def-123'", "abc.def"),
        ("authorization: Basic YWRhOmh1bnRlcg==\nnext", "YWRhOmh1"),
        ('{"authorization":"Token xyzzy9"}', "xyzzy9"),
        ("(b'Authorization', b'Bearer q1w2e3')", "q1w2e3"),
        ("it said Bearer q1w2e3r4t5", "q1w2e3"),
        ("Cookie: session=q1w2e3; other=1", "q1w2e3"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalr"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalr"),
        ('"secret": "a b c d"', "a b c"),
        ("password='a b c'", "a b"),
        ("//srv/share cifs username=ada,password=hunter2,uid=0", "hunter2"),
        ("found AKIAIOSFODNN7EXAMPLE here", "AKIAIOSF"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefgh", "eyJzdWI"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", "MIIEow"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow cut off", "MIIEow"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "ghp_abc"),
        ("url?sig=q1w2e3&se=2026", "q1w2e3"),
        ("name%3Fsig%3Dq1w2e3", "q1w2e3"),
    ],
)
def test_what_looks_like_a_secret(text: str, secret: str) -> None:
    shown = Redactor([])(text)
    assert secret not in shown
    assert MARK in shown


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-28 01:26:04,429 INFO artfsd.ready: ready: /home/ada/artfs shows /home/ada/.local/share/artfs",
        "mounted at /home/ada/artfs (pid 1342)",
        "https://artfs.example.org:8790/v1/projects answered 200",
        "artfs_server_events_connected 1",
        "36 35 98:0 /root /mnt rw,relatime shared:1 - fuse.artfs artfs rw,user_id=0,group_id=0",
        "request 17 (read 3 0 131072): no answer within 30 s",
        "design=1 signal=9 passes: 3",
        "basic checks, digest of the tree",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor(["x", "", "abc"])(text) == text


def test_what_is_secret_of_a_url() -> None:
    assert url_secrets("https://h/p") == []
    assert "hunter2" in url_secrets("http://ada:hunter2@h")
    assert "hunt/er" in url_secrets("http://ada:hunt%2Fer@h")


def test_variables_that_are_secret() -> None:
    given = {
        "AWS_SECRET_ACCESS_KEY": "one", "ARTFS_TOKEN": "two", "HTTPS_PROXY": "http://u:three@h", "MY_PASSWORD": "four",
        "HOME": "/root", "GOOGLE_APPLICATION_CREDENTIALS": "/etc/passwd", "LANG": "C", "SOME_API_KEY": "/five+not/a/path",
    }  # fmt: skip
    assert secret_variables(given) == ["one", "two", "http://u:three@h", "four", "/five+not/a/path"]
