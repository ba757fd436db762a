"""draft and commit without a daemon."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artfs.cli import exits
from artfs.wire.control import MountRecord

from .conftest import Artfs

Refused = Callable[..., str]


@pytest.fixture
def draft(artfs: Artfs, two_versions: Path) -> Path:
    """The files of a draft that began from vega/cars:latest and has a new file."""
    made: dict[str, Any] = artfs("draft", "from", "vega/cars", "--json").json
    folder = Path(made["files_path"])
    (folder / "draft.txt").write_text("hello\n")
    return folder


def test_from(artfs: Artfs, two_versions: Path) -> None:
    result = artfs("draft", "from", "vega/cars:old", "cars:fixes")
    assert result.out.startswith("draft vega/cars:fixes begins as cars:v0: ")
    found = artfs("draft", "list", "--json").json[0]
    assert (found["draft"], found["collection"], found["base"]) == ("cars:fixes", "cars", "v0")
    assert artfs("draft", "from", "vega/cars", "cars").code == 0


def test_list(artfs: Artfs, draft: Path) -> None:
    header, row = artfs("draft", "list").lines
    assert header.split("  ")[0] == "DRAFT"
    assert row.split()[:3] == ["vega/cars:latest", "vega/cars", "v1"]
    assert row.endswith("1   6 B")
    (found,) = artfs("draft", "list", "--json").json
    assert (found["own_files"], found["own_size"], found["mounted_at"]) == (1, 6, None)
    assert found["files_path"] == str(draft)
    assert artfs("--entity", "me", "draft", "list", "--json").json == []
    assert "no drafts" in artfs("--entity", "me", "draft", "list").err
    assert len(artfs("--entity", "me", "draft", "list", "--all-entities", "--json").json) == 1


def test_diff(artfs: Artfs, draft: Path) -> None:
    assert artfs("draft", "diff", "vega/cars").lines == [
        "A  draft.txt  (6 B)",
        "1 added, 0 changed, 0 removed; +6 B",
    ]
    assert artfs("draft", "diff", "vega/cars", "--stat").lines == ["1 added, 0 changed, 0 removed; +6 B"]
    found = artfs("draft", "diff", "vega/cars", "--json", "--exit-code", code=1).json
    assert (found["draft"], found["base"], found["summary"]["added"]) == ("vega/cars:latest", "v1", 1)


def test_commit(artfs: Artfs, draft: Path) -> None:
    found = artfs("commit", "vega/cars", "-a", "best", "-t", "new", "-d", "said", "-m", "a=1", "--json").json
    assert found | {"digest": ""} == {
        "name": "local/vega/cars:v2",
        "entity": "local",
        "project": "vega",
        "collection": "cars",
        "version": "v2",
        "created": True,
        "digest": "",
        "size": 1280042,
        "file_count": 4,
        "aliases": ["best", "latest"],
        "warnings": [],
        "moved_from": None,
    }
    version = artfs("info", "vega/cars:v2", "--json").json
    assert (version["tags"], version["description"], version["metadata"]) == (["new"], "said", {"a": 1})
    assert artfs("draft", "list", "--json").json == []
    assert artfs("cat", "vega/cars:v2/draft.txt").code == 0


def test_commit_says_what_it_did(artfs: Artfs, draft: Path) -> None:
    (draft / "DRAFT.txt").touch()
    (draft / "x.swp").touch()
    result = artfs("commit", "vega/cars:latest")
    assert result.out == "committed local/vega/cars:v2 as latest: 5 files, 1.2 MiB\n"
    assert [line.startswith("note: ") for line in result.err.splitlines()] == [True, True]
    assert "x.swp" in result.err
    assert "DRAFT.txt draft.txt" in result.err


def test_commit_of_an_unchanged_draft(artfs: Artfs, two_versions: Path) -> None:
    artfs("draft", "from", "vega/cars")
    assert artfs("commit", "vega/cars").out == "unchanged: local/vega/cars:v1 has this content already\n"


def test_latest_moved(artfs: Artfs, refused: Refused, draft: Path, two_versions: Path) -> None:
    (two_versions / "meanwhile").touch()
    artfs("log", two_versions, "vega/cars")
    assert "moved to v2" in refused("commit", "vega/cars", code=6)
    assert draft.exists()
    result = artfs("commit", "vega/cars", "--force")
    assert result.err == "note: latest had moved since the draft began from v1\n"


def test_abandon(artfs: Artfs, draft: Path) -> None:
    assert artfs("draft", "abandon", "vega/cars:latest", "--yes").out == "abandoned vega/cars:latest\n"
    assert not draft.exists()
    artfs("draft", "from", "vega/cars")
    assert artfs("draft", "abandon", "vega/cars", "--json").json == {
        "draft": "vega/cars:latest",
        "abandoned": True,
    }


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["commit", "vega/boats"], 3, "no draft vega/boats; there are: vega/cars:latest"),
        (["commit", "a/b/c/d"], 2, "bad draft name"),
        (["commit", "vega/cars", "--type", "wandb-x"], 2, "reserved"),
        (["commit", "vega/cars", "--type", "model"], 4, "model"),
        (["commit", "vega/cars", "--alias", "v1"], 2, "bad alias 'v1'"),
        (["commit", "vega/cars", "-m", "x"], 2, "bad metadata 'x'"),
        (["commit", "./nowhere"], 3, "is not in a draft of a running mount"),
        (["draft", "diff", "vega/boats"], 3, "no draft vega/boats"),
        (["draft", "abandon", "vega/boats"], 3, "no draft vega/boats"),
        (["draft", "from", "vega/cars"], 4, "exists already; commit or abandon it first"),
        (["draft", "from", "vega/cars:best"], 3, "no alias 'best'"),
        (["draft", "from", "vega/cars", "boats"], 2, "a draft of cars is called cars or cars:WORD"),
        (["draft", "from", "vega/cars", "cars:a/b"], 2, "bad alias 'a/b'"),
    ],
)
def test_bad_input(
    artfs: Artfs, refused: Refused, draft: Path, arguments: list[str], code: int, complaint: str
) -> None:
    assert complaint in refused(*arguments, code=code)
    assert artfs("draft", "diff", "vega/cars").lines[0] == "A  draft.txt  (6 B)"


def test_a_link_to_outside_is_refused(refused: Refused, draft: Path) -> None:
    (draft / "out").symlink_to("/etc/passwd")
    assert "out" in refused("commit", "vega/cars", code=4)


def test_a_draft_that_somebody_commits_now(refused: Refused, draft: Path) -> None:
    with open(draft.parent / "lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert "is being committed by another process" in refused("commit", "vega/cars", code=5)


def test_a_full_disk_says_so(
    artfs: Artfs, refused: Refused, cars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTFS_FREE_FLOOR", str(1 << 60))
    said = refused("log", cars, "vega/other", code=9)
    assert "no space left" in said
    assert artfs("ls", "vega", "--json", code=3).json["error"]["kind"] == "not-found"


def test_commit_says_how_long_the_version_lives(artfs: Artfs, draft: Path) -> None:
    assert "bad ttl 'soon'" in artfs("commit", "vega/cars", "--ttl", "soon", code=2).err
    assert artfs("commit", "vega/cars", "--ttl", "36h", "--json").json["version"] == "v2"
    assert artfs("ttl", "vega/cars:v2", "--json").json[0]["ttl"] == "36h"


def test_commit_gives_protected_aliases_when_allowed(artfs: Artfs, draft: Path) -> None:
    artfs("protect", "vega", "prod")
    assert "prod" in artfs("commit", "vega/cars", "-a", "prod", code=4).err
    found = artfs("commit", "vega/cars", "-a", "prod", "--allow-protected", "--json").json
    assert found["aliases"] == ["latest", "prod"]


@pytest.mark.parametrize("command", [("commit", "vega/cars"), ("draft", "abandon", "--yes", "vega/cars")])
def test_a_daemon_that_was_just_started_keeps_the_draft(
    artfs: Artfs, draft: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """None was found; once the draft is ours there is one, in which files may be open."""
    record = MountRecord("0" * 16, 1, "/mnt/artfs", "/run/socket", "local", "", 1)
    with monkeypatch.context() as started:
        started.setattr("artfs.cli.mounting.try_serving", lambda settings, entity: record)
        refused = artfs(*command, code=exits.BUSY)
    assert "is served at /mnt/artfs since a moment ago" in refused.err
    assert (draft / "draft.txt").read_text() == "hello\n"
    artfs(*command)
    assert not draft.exists()
