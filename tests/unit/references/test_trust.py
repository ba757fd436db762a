"""Whom references may lead to."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from artfs.errors import ReferenceRefusedError
from artfs.references.trust import KnownSources, Trust, host_matches, is_public
from artfs.references.uris import file_uri
from artfs.settings import Settings, ambient_credentials, load_settings


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::1", "fe80::1%eth0",
     "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "ff02::1", "::"],
)  # fmt: skip
def test_addresses_that_are_not_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("rule", "matches"),
    [("*", True), ("NAS.local", True), ("10.0.0.0/8", True), ("10.0.0.7", True), ("10.0.0.8", False), ("nas", False)],
)
def test_rules_for_hosts(rule: str, matches: bool) -> None:
    assert host_matches((rule,), "nas.local", "10.0.0.7") == matches


def test_what_the_user_added_is_known_to_other_processes(tmp_path: Path) -> None:
    mine, theirs = KnownSources(tmp_path / "known"), KnownSources(tmp_path / "known")
    assert "http://h/a" not in theirs
    mine.add("http://h/a")
    mine.add("http://h/b")
    assert "http://h/other" in theirs
    assert "http://h:81/a" not in theirs
    assert "https://h/a" not in theirs
    assert (tmp_path / "known").read_text() == "http://h:80\n"
    assert os.stat(tmp_path / "known").st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("uri", "known"),
    [
        ("file:///data/set", True),
        ("file:///data/set/a/b%23", True),
        ("file:///data/settings", False),
        ("file:///data", False),
        ("file:///data/set/../../etc/passwd", False),
        ("file:///data/set/%2E%2E/x", False),
    ],
)
def test_a_known_folder(tmp_path: Path, uri: str, known: bool) -> None:
    sources = KnownSources(tmp_path / "known")
    sources.add("file:///data/set")
    assert (uri in sources) == known


def test_files_below_roots_only(settings: Settings, tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    trust = Trust(replace(settings, reference_roots=(str(root),)), KnownSources(tmp_path / "known"))
    trust.check_file(file_uri(f"{root}/x"), f"{root}/x")
    for real in (f"{root}x/y", "/etc/passwd", str(tmp_path)):
        with pytest.raises(ReferenceRefusedError, match="reference_roots"):
            trust.check_file(file_uri(f"{root}/x"), real)


def test_credentials_need_a_reason(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    known = KnownSources(tmp_path / "known")
    known.add("s3://mine/x")
    assert not Trust(settings, known).may_sign("s3://mine/x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert Trust(settings, known).may_sign("s3://mine/y")
    assert not Trust(settings, known).may_sign("s3://theirs/y")
    for rule in ("s3://theirs", "s3", "*"):
        allowing = Trust(replace(settings, reference_credentials=(rule,)), known)
        assert allowing.may_sign("s3://theirs/y")
        assert allowing.may_sign("gs://theirs/y") == (rule == "*")


def test_which_credentials_the_environment_has() -> None:
    assert ambient_credentials({}) == frozenset()
    assert ambient_credentials({"AWS_ACCESS_KEY_ID": "x", "AZURE_STORAGE_SAS_KEY": ""}) == {"s3"}
    assert ambient_credentials({"GOOGLE_APPLICATION_CREDENTIALS": "x"}) == {"gs"}


def test_lists_in_settings(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('reference_hosts = ["nas.local", "10.0.0.0/8"]\nreference_cache = 5\n')
    settings = load_settings({"ARTFS_CONFIG": str(config), "ARTFS_REFERENCE_ROOTS": "/a, /b"})
    assert settings.reference_hosts == ("nas.local", "10.0.0.0/8")
    assert settings.reference_roots == ("/a", "/b")
    assert settings.reference_cache == 5
