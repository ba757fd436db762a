"""What the mount shows of collections that are renamed or deleted, of links, and of versions that expire
(docs/semantics.md, "Visibility" and "Expiry")."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from artfs.errors import AliasProtectedError
from artfs.testing.corner import Corner
from artfs.testing.trees import make

PATIENCE_S = 30.0


def wait_until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_a_renamed_collection_shows_under_its_new_name_only(corner: Corner, tmp_path: Path) -> None:
    member = corner.log(make(tmp_path / "one", {"a": "1"}))
    assert (corner.path / "c" / "latest" / "a").read_text() == "1"
    with open(corner.path / "c" / "v0" / "a") as held:
        with corner.session() as other:
            other.catalog.update_collection(member.collection_id, name="renamed")
        wait_until((corner.path / "renamed").exists)
        wait_until(lambda: not (corner.path / "c").exists())
        assert os.listdir(corner.path) == ["renamed"]
        assert (corner.path / "renamed" / "latest" / "a").read_text() == "1"
        assert held.read() == "1"


def test_a_deleted_collection_and_its_links_vanish(corner: Corner, tmp_path: Path) -> None:
    member = corner.log(make(tmp_path / "one", {"a": "1"}))
    with corner.session() as other:
        other.catalog.link(member.version.id, "local", corner.name, "links", ["prod"])
    wait_until((corner.path / "links" / "prod" / "a").exists)
    with open(corner.path / "c" / "v0" / "a") as held:
        with corner.session() as other:
            other.catalog.delete_collection(member.collection_id)
        wait_until(lambda: not (corner.path / "c").exists())
        wait_until(lambda: not (corner.path / "links" / "prod").exists())
        assert os.listdir(corner.path / "links") == []
        assert held.read() == "1"


def test_a_link_shows_and_goes(corner: Corner, tmp_path: Path) -> None:
    member = corner.log(make(tmp_path / "one", {"a": "1"}))
    registry = corner.mount / f"wandb-registry-{corner.name}"
    with corner.session() as other:
        link = other.catalog.link(member.version.id, "local", registry.name, "best", ["prod"])
        wait_until((registry / "best" / "prod" / "a").exists)
        assert sorted(os.listdir(registry / "best")) == ["latest", "prod", "v0"]
        other.catalog.unlink(link.id)
        wait_until(lambda: os.listdir(registry / "best") == [])
    assert (corner.path / "c" / "v0" / "a").read_text() == "1"


def test_a_directory_made_in_a_registry_takes_links(corner: Corner, tmp_path: Path) -> None:
    member = corner.log(make(tmp_path / "one", {"a": "1"}))
    registry = corner.mount / f"wandb-registry-{corner.name}"
    registry.mkdir()
    (registry / "best").mkdir()
    with corner.session() as other:
        made = other.catalog.try_collection("local", registry.name, "best")
        assert made is not None
        assert made.kind == "portfolio"
        other.catalog.link(member.version.id, "local", registry.name, "best")
    wait_until((registry / "best" / "v0" / "a").exists)


def test_a_version_whose_time_is_up_vanishes_and_open_files_stay(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "one", {"a": "1"}))
    member = corner.log(make(tmp_path / "two", {"a": "2"}), aliases=("best",))
    shown = corner.path / "c"
    assert sorted(os.listdir(shown)) == ["best", "latest", "v0", "v1"]
    with open(shown / "v1" / "a") as held:
        with corner.session() as other:
            other.catalog.update_version(member.version.id, ttl=timedelta(seconds=1))
        wait_until(lambda: not (shown / "v1").exists())
        wait_until(lambda: (shown / "latest" / "a").read_text() == "1")
        assert sorted(os.listdir(shown)) == ["latest", "v0"]
        assert held.read() == "2"
    with corner.session() as other:
        assert other.catalog.member(member.id).version.state == "DELETED"
    with pytest.raises(FileNotFoundError):
        os.listdir(shown / "best")


def test_a_protected_alias_is_not_given_by_mv(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "one", {"a": "1"}), aliases=("prod",))
    with corner.session() as other:
        other.catalog.protect_aliases("local", corner.name, add=["prod"])
    draft = corner.begin()
    (draft / "a").write_text("2")
    with pytest.raises(AliasProtectedError):
        corner.commit(aliases=("prod",))
    corner.daemon.expect_log("mv of draft .* did not commit it: c:prod is protected")
    with pytest.raises(PermissionError) as caught:
        os.rename(draft, corner.path / "c" / "prod")
    assert caught.value.errno == errno.EPERM
    assert (draft / "a").read_text() == "2"
    corner.commit()
    assert (corner.path / "c" / "prod" / "a").read_text() == "1"
    assert (corner.path / "c" / "latest" / "a").read_text() == "2"
