"""Projects, collections, aliases, times and entities as names (docs/semantics.md, "Names")."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from artfs.model.records import Member
from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.trees import make


def wait_for_another_instant() -> None:
    """Two versions must differ in time; the catalog's clock has microseconds."""
    begun = datetime.now(UTC)
    while datetime.now(UTC) <= begun + timedelta(milliseconds=2):
        pass


@pytest.fixture
def versions(corner: Corner, tmp_path: Path) -> list[Member]:
    """Three versions of the collection c, whose file `which` tells their number."""
    members = []
    for number in range(3):
        members.append(corner.log(make(tmp_path / str(number), {"which": str(number)})))
        wait_for_another_instant()
    return members


def refused(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as raised:
        call()
    assert raised.value.errno == number


# times -----------------------------------------------------------------------------------------------------------
def test_a_time_names_the_version_of_then(corner: Corner, versions: list[Member]) -> None:
    shown = corner.path / "c"
    for number, member in enumerate(versions):
        for moment in (member.created_at, member.created_at + timedelta(milliseconds=1)):
            assert (shown / f"@{moment.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}" / "which").read_text() == str(
                number
            )


def test_a_time_may_have_an_offset(corner: Corner, versions: list[Member]) -> None:
    moment = versions[1].created_at
    for zone in (timezone(timedelta(hours=2)), timezone(-timedelta(hours=9, minutes=30)), UTC):
        name = "@" + moment.astimezone(zone).isoformat()
        assert (corner.path / "c" / name / "which").read_text() == "1"
    plain = moment.strftime("@%Y-%m-%dT%H:%M:%S.%f")  # without an offset: UTC
    assert (corner.path / "c" / plain / "which").read_text() == "1"


def test_a_date_is_the_end_of_that_day(corner: Corner, versions: list[Member]) -> None:
    """So today's date lies in the future, and yesterday's is before the first version."""
    today = datetime.now(UTC).date()
    for day in (today, today + timedelta(days=1), today - timedelta(days=1)):
        assert not (corner.path / "c" / f"@{day.isoformat()}").exists()


def test_a_date_in_the_past_shows_that_days_last_version(corner: Corner, versions: list[Member]) -> None:
    """The history of the catalog is moved back by whole days: v0 and v1 to two days ago, v2 to yesterday."""
    day_us = 86_400_000_000
    with closing(sqlite3.connect(corner.daemon.workspace.catalog_path)) as database, database:
        for number, days in enumerate((2, 2, 1)):
            database.execute(
                "UPDATE alias_events SET at = at - ? WHERE collection_id = ? AND member_index = ?",
                (days * day_us, versions[0].collection_id, number),
            )
    today = datetime.now(UTC).date()
    shown = corner.path / "c"
    assert (shown / f"@{today - timedelta(days=1)}" / "which").read_text() == "2"
    assert (shown / f"@{today - timedelta(days=2)}" / "which").read_text() == "1"
    assert not (shown / f"@{today - timedelta(days=3)}").exists()


def test_the_future_and_the_time_before_are_enoent(corner: Corner, versions: list[Member]) -> None:
    shown = corner.path / "c"
    for moment in (datetime.now(UTC) + timedelta(hours=1), versions[0].created_at - timedelta(seconds=1)):
        refused(errno.ENOENT, lambda moment=moment: os.stat(shown / f"@{moment.isoformat()}"))


@pytest.mark.parametrize(
    "name", ["@", "@tomorrow", "@2026-13-01", "@2026-1-1", "@2026-11-01T25:00", "@2026-11-01 12:00"]
)
def test_what_is_no_time_is_enoent(corner: Corner, versions: list[Member], name: str) -> None:
    refused(errno.ENOENT, lambda: os.stat(corner.path / "c" / name))


def test_times_are_not_listed(corner: Corner, versions: list[Member]) -> None:
    shown = corner.path / "c"
    assert (shown / f"@{versions[0].created_at.isoformat()}").is_dir()
    assert sorted(os.listdir(shown)) == ["latest", "v0", "v1", "v2"]


def test_a_time_is_a_directory_of_its_own(corner: Corner, versions: list[Member]) -> None:
    at = corner.path / "c" / f"@{versions[1].created_at.isoformat()}"
    assert at.stat().st_ino != (corner.path / "c" / "v1").stat().st_ino
    assert (at / "which").stat().st_ino == (corner.path / "c" / "v1" / "which").stat().st_ino
    assert os.getxattr(at, "user.artfs.version") == b"v1"


# aliases ---------------------------------------------------------------------------------------------------------
def test_an_alias_is_a_directory(corner: Corner, versions: list[Member]) -> None:
    status = (corner.path / "c" / "latest").lstat()
    assert stat.S_ISDIR(status.st_mode)
    assert (corner.path / "c" / "latest" / "which").read_text() == "2"


def test_aliases_may_be_symbolic_links(
    workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = make_daemon(workspace, ("--aliases=symlinks",)).start()
    corner = Corner(daemon, "p")
    corner.log(make(tmp_path / "one", {"which": "0"}), aliases=("best",))
    shown = corner.path / "c"
    assert {name: os.readlink(shown / name) for name in ("latest", "best")} == {"latest": "v0", "best": "v0"}
    assert stat.S_ISDIR((shown / "v0").lstat().st_mode)
    assert (shown / "latest" / "which").read_text() == "0"
    corner.log(make(tmp_path / "two", {"which": "1"}))
    assert {name: os.readlink(shown / name) for name in ("latest", "best")} == {"latest": "v1", "best": "v0"}
    assert (shown / "latest" / "which").read_text() == "1"
    at = datetime.now(UTC).isoformat()
    assert stat.S_ISDIR((shown / f"@{at}").lstat().st_mode)


def test_aliases_may_have_odd_names(corner: Corner, tmp_path: Path) -> None:
    aliases = ("best one", "näch\u0301ste", "1.0-rc1", "v", "v1x", "#1", "-", "x" * 128)
    corner.log(make(tmp_path / "one", {"which": "0"}), aliases=aliases)
    assert set(aliases) < set(os.listdir(corner.path / "c"))
    for alias in aliases:
        assert (corner.path / "c" / alias / "which").read_text() == "0"


# projects and collections ----------------------------------------------------------------------------------------
def test_mkdir_makes_projects_and_collections(corner: Corner, tmp_path: Path) -> None:
    corner.path.mkdir()
    (corner.path / "made").mkdir()
    assert os.listdir(corner.path) == ["made"]
    assert os.listdir(corner.path / "made") == []
    with corner.session() as session:
        assert session.catalog.try_project("local", corner.name) is not None
        made = session.catalog.try_collection("local", corner.name, "made")
    assert made is not None
    assert made.type == ""
    refused(errno.EEXIST, corner.path.mkdir)
    refused(errno.EEXIST, (corner.path / "made").mkdir)
    corner.log(make(tmp_path / "one", {"which": "0"}), "made")
    assert (corner.path / "made" / "v0" / "which").read_text() == "0"


def test_rmdir_removes_empty_projects_and_collections(corner: Corner) -> None:
    (corner.path / "made").mkdir(parents=True)
    refused(errno.ENOTEMPTY, corner.path.rmdir)
    (corner.path / "made").rmdir()
    assert os.listdir(corner.path) == []
    corner.path.rmdir()
    assert corner.name not in os.listdir(corner.mount)
    refused(errno.ENOENT, corner.path.rmdir)


def test_rmdir_of_what_has_versions_is_refused(corner: Corner, versions: list[Member]) -> None:
    refused(errno.ENOTEMPTY, (corner.path / "c").rmdir)
    refused(errno.ENOTEMPTY, corner.path.rmdir)
    refused(errno.EROFS, (corner.path / "c" / "v0").rmdir)
    refused(errno.EROFS, (corner.path / "c" / "latest").rmdir)
    refused(errno.ENOENT, (corner.path / "c" / "v9").rmdir)


@pytest.mark.parametrize(
    "name", [".hidden", "@somebody", "a:b", "a#b", "a?b", "a%b", "a\\b", "a\tb", "x" * 129]
)
def test_bad_names_of_projects_are_refused(corner: Corner, name: str) -> None:
    refused(errno.EINVAL, (corner.mount / name).mkdir)
    refused(errno.EINVAL, (corner.mount / "drafts" / name).mkdir)
    assert name not in os.listdir(corner.mount)


def test_the_names_of_the_mount_itself_are_taken(corner: Corner) -> None:
    refused(errno.EEXIST, (corner.mount / "drafts").mkdir)
    refused(errno.EEXIST, (corner.mount / ".artfs").mkdir)
    refused(errno.EROFS, (corner.mount / "drafts").rmdir)
    refused(errno.EROFS, (corner.mount / ".artfs").rmdir)
    refused(errno.EINVAL, (corner.mount / "drafts" / "drafts").mkdir)


@pytest.mark.parametrize("name", ["a b", "a:b", "a/../b:", "\u00e4", "x" * 129, "@2026-01-01"])
def test_bad_names_of_collections_are_refused(corner: Corner, name: str) -> None:
    corner.path.mkdir()
    refused(errno.EINVAL, lambda: os.mkdir(corner.path / name.replace("a/../", "")))
    assert os.listdir(corner.path) == []


def test_names_that_are_not_utf8_do_not_exist(corner: Corner) -> None:
    refused(errno.ENOENT, lambda: os.stat(os.fsencode(corner.mount) + b"/\xff"))
    refused(errno.ENOENT, lambda: os.stat(os.fsencode(corner.drafts) + b"/\xff"))


def test_too_long_names_are_enametoolong(corner: Corner, versions: list[Member]) -> None:
    for where in (corner.mount, corner.path, corner.path / "c", corner.path / "c" / "v0", corner.drafts):
        refused(errno.ENAMETOOLONG, lambda where=where: os.stat(where / ("x" * 256)))


# entities --------------------------------------------------------------------------------------------------------
def test_other_entities_can_be_looked_up(corner: Corner, tmp_path: Path) -> None:
    source = make(tmp_path / "source", {"which": "theirs"})
    corner.artfs("log", source, f"team/{corner.name}/c")
    corner.refresh()
    theirs = corner.mount / "@team"
    assert (theirs / corner.name / "c" / "latest" / "which").read_text() == "theirs"
    assert corner.name in os.listdir(theirs)
    assert not any(name.startswith("@") for name in os.listdir(corner.mount))
    assert not corner.path.exists()
    refused(errno.ENOENT, lambda: os.stat(corner.mount / "@nobody"))
    refused(errno.ENOENT, lambda: os.stat(theirs / "drafts"))


def test_entity_says_whose_projects_stand_at_the_root(
    workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    workspace.artfs("log", make(tmp_path / "source", {"which": "theirs"}), "team/p/c")
    daemon = make_daemon(workspace, ("--entity", "team")).start()
    assert sorted(os.listdir(daemon.mountpoint)) == ["drafts", "p"]
    assert (daemon.mountpoint / "p" / "c" / "v0" / "which").read_text() == "theirs"
    assert not (daemon.mountpoint / "@local").exists() or os.listdir(daemon.mountpoint / "@local") == []


def test_a_linked_version_shows_in_both_collections(corner: Corner, versions: list[Member]) -> None:
    with corner.session() as session:
        session.catalog.link(versions[1].version.id, "local", corner.name, "chosen", ["prod"])
    corner.refresh()
    linked = corner.path / "chosen"
    assert sorted(os.listdir(linked)) == ["latest", "prod", "v0"]
    assert (linked / "prod" / "which").read_text() == "1"
    assert os.getxattr(linked / "v0", "user.artfs.is_link") == b"true"
    assert (
        os.getxattr(linked / "v0", "user.artfs.qualified_name") == f"local/{corner.name}/chosen:v0".encode()
    )
    assert (linked / "v0" / "which").stat().st_ino == (corner.path / "c" / "v1" / "which").stat().st_ino
