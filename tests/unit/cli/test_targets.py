from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from artfs.cli.targets import Target, find_draft, parse_place, parse_project, parse_target, parse_whole
from artfs.errors import ConflictError, InvalidNameError, NotFoundError
from artfs.model.draft import DraftInfo
from artfs.model.names import ArtifactName
from artfs.settings import Settings
from artfs.store.staging import DraftArea
from artfs.wire.control import MountRecord


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vega/cars", Target(ArtifactName("local", "vega", "cars"))),
        ("cars:v0", Target(ArtifactName("local", "uncategorized", "cars", "v0"))),
        ("me/vega/cars:best", Target(ArtifactName("me", "vega", "cars", "best"))),
        ("vega/cars:latest/", Target(ArtifactName("local", "vega", "cars", "latest"))),
        ("vega/cars:latest/a/b.csv", Target(ArtifactName("local", "vega", "cars", "latest"), "a/b.csv")),
        ("vega/cars:v0/odd:name", Target(ArtifactName("local", "vega", "cars", "v0"), "odd:name")),
        ("vega/cars:@2026-11-01/a", Target(ArtifactName("local", "vega", "cars", "@2026-11-01"), "a")),
        (
            "vega/cars:@2026-11-01T12:00+02:00/a",
            Target(ArtifactName("local", "vega", "cars", "@2026-11-01T12:00+02:00"), "a"),
        ),
    ],
)
def test_names(settings: Settings, text: str, expected: Target) -> None:
    assert parse_target(text, settings) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vega/",
        "/cars",
        "a/b/c/d",
        "vega/cars:",
        "vega/cars:@soon",
        "vega/cars:v0/../x",
        "vega/c rs",
        "drafts/cars",
        "vega/cars:v0/a\0",
    ],
)
def test_bad_names(settings: Settings, text: str) -> None:
    with pytest.raises(InvalidNameError):
        parse_target(text, settings)


def test_a_path_where_none_belongs(settings: Settings) -> None:
    with pytest.raises(InvalidNameError, match="a path inside the version means nothing here"):
        parse_whole("vega/cars:v0/a", settings)


def test_projects(settings: Settings) -> None:
    assert parse_project("vega", settings) == ("local", "vega")
    assert parse_project("me/vega", settings) == ("me", "vega")
    with pytest.raises(InvalidNameError):
        parse_project("a/b/c", settings)


@pytest.fixture
def begin(settings: Settings) -> Callable[[str, str], None]:
    def call(project: str, name: str) -> None:
        info = DraftInfo("local", project, name.partition(":")[0], name, "2026-11-23T09:00:00+00:00")
        DraftArea(settings.drafts_path).create(info)

    return call


def test_a_draft_by_its_own_name_or_its_collections(
    settings: Settings, begin: Callable[[str, str], None]
) -> None:
    begin("vega", "cars:latest")
    assert find_draft(settings, "vega/cars:latest").info.name == "cars:latest"
    assert find_draft(settings, "vega/cars").info.name == "cars:latest"
    assert find_draft(settings, "local/vega/cars/").info.name == "cars:latest"
    begin("vega", "cars:v0")
    with pytest.raises(ConflictError, match=r"several drafts: say which of vega/cars:latest, vega/cars:v0"):
        find_draft(settings, "vega/cars")
    begin("vega", "cars")
    assert find_draft(settings, "vega/cars").info.name == "cars"


def test_no_draft_says_which_there_are(settings: Settings, begin: Callable[[str, str], None]) -> None:
    with pytest.raises(
        NotFoundError, match="no draft vega/cars; start one with `mkdir MOUNT/drafts/vega/cars`"
    ):
        find_draft(settings, "vega/cars")
    begin("vega", "boats")
    with pytest.raises(NotFoundError, match="no draft vega/cars; there are: vega/boats"):
        find_draft(settings, "vega/cars")
    with pytest.raises(InvalidNameError):
        find_draft(settings, "a/b/c/d")


def test_a_folder_that_is_in_no_mount(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not in a draft of a running mount"):
        find_draft(settings, f"{tmp_path}{os.sep}x")
    with pytest.raises(NotFoundError, match="is not in a draft of a running mount"):
        find_draft(settings, ".")


@pytest.fixture
def mountpoint(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """Of a daemon that lives, as far as its record and its socket tell."""
    place = (tmp_path / "disk" / "artfs").resolve()
    place.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(settings.run_path / "s"))
        server.listen()
        record = MountRecord("0" * 16, os.getpid(), str(place), str(settings.run_path / "s"), "local", "", 0)
        (settings.run_path / f"{record.id}.json").write_bytes(msgspec.json.encode(record))
        yield place


@pytest.mark.parametrize("link", ["link/artfs", "deep", "deeper", "~/artfs"])
def test_a_path_in_a_mount_may_lead_over_links(
    settings: Settings, begin: Callable[[str, str], None], mountpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    link: str,
) -> None:
    begin("vega", "cars")
    (tmp_path / "link").symlink_to("disk")
    (tmp_path / "deep").symlink_to(mountpoint)
    (tmp_path / "deeper").symlink_to("deep")
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    place = link if link.startswith("~") else str(tmp_path / link)
    assert find_draft(settings, f"{place}/drafts/vega/cars").info.name == "cars"
    (mountpoint / "vega" / "cars").mkdir(parents=True)
    (mountpoint / "vega" / "cars" / "latest").symlink_to("v3")  # as with `artfs mount --aliases symlinks`
    expected = Target(ArtifactName("local", "vega", "cars", "latest"), "a/b")
    assert parse_place(f"{place}/vega/cars/latest/a/b", settings) == expected
    assert parse_place(f"{place}/@me/vega/cars/v0", settings) == Target(ArtifactName("me", "vega", "cars", "v0"))


def test_a_link_may_lead_into_a_mount(
    settings: Settings, begin: Callable[[str, str], None], mountpoint: Path, tmp_path: Path
) -> None:
    begin("vega", "cars")
    (tmp_path / "mine").symlink_to(mountpoint / "drafts" / "vega")
    assert find_draft(settings, f"{tmp_path}/mine/cars").info.name == "cars"
    with pytest.raises(NotFoundError, match="in no running mount"):
        parse_place(f"{tmp_path}/elsewhere", settings)
