"""alias, tag, delete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.api.session import Session
from artfs.cli import common
from artfs.cli.commands import collection
from artfs.cli.targets import collection_of
from artfs.model.names import ArtifactName
from artfs.model.records import Collection

from .conftest import Artfs

Refused = Callable[..., str]


def test_aliases_move(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("alias", "vega/cars:v1", "best", "old").out == "local/vega/cars:v1: best, latest, old\n"
    assert artfs("alias", "vega/cars").lines == ["ALIAS   VERSION", "best    v1", "latest  v1", "old     v1"]
    assert artfs("alias", "vega/cars:v1", "--remove", "best", "-r", "old", "new").out == (
        "local/vega/cars:v1: latest, new\n"
    )
    assert artfs("alias", "vega/cars:v0").out == ""


def test_removing_what_is_not_there_is_noted(artfs: Artfs, two_versions: Path) -> None:
    result = artfs("alias", "vega/cars:v1", "--remove", "bset", "-r", "old")
    assert result.err.splitlines() == [
        "note: local/vega/cars:v1 has no alias 'bset'; nothing to remove",
        "note: local/vega/cars:v1 has no alias 'old'; nothing to remove",
    ]
    assert artfs("alias", "vega/cars:v0").lines == ["ALIAS  VERSION", "old    v0"]
    assert artfs("tag", "vega/cars:v1", "--remove", "raw").err == (
        "note: local/vega/cars:v1 has no tag 'raw'; nothing to remove\n"
    )
    assert artfs("tag", "vega/cars:v1", "--remove", "checked").err == ""


def test_aliases_as_json(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("alias", "vega/cars:v1", "best", "--json").json == {
        "name": "local/vega/cars:v1",
        "version": "v1",
        "aliases": ["best", "latest"],
    }
    assert artfs("alias", "vega/cars", "--json").json == [
        {"name": "local/vega/cars:v0", "alias": "old", "version": "v0"},
        {"name": "local/vega/cars:v1", "alias": "best", "version": "v1"},
        {"name": "local/vega/cars:v1", "alias": "latest", "version": "v1"},
    ]


def test_tags(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("tag", "vega/cars:v0", "raw", "checked").out == "local/vega/cars:v0: raw, checked\n"
    assert artfs("tag", "vega/cars").lines == [
        "TAG      VERSION",
        "raw      v0",
        "checked  v0",
        "checked  v1",
    ]
    assert artfs("tag", "vega/cars:v0", "-r", "raw", "-r", "checked").out == "local/vega/cars:v0: no tags\n"
    assert artfs("tag", "vega/cars:v1", "x", "--json").json["tags"] == ["checked", "x"]
    assert artfs("tag", "vega/cars", "--json").json[0] == {
        "name": "local/vega/cars:v1",
        "tag": "checked",
        "version": "v1",
    }


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["alias", "vega/cars:v0", "v9"], 2, "bad alias 'v9'"),
        (["alias", "vega/cars:v0", "@x"], 2, "bad alias '@x'"),
        (["alias", "vega/cars:v0", "-r", "a:b"], 2, "bad alias 'a:b'"),
        (["alias", "vega/cars:best"], 3, "no alias 'best'"),
        (["alias", "vega/boats", "best"], 3, "no collection 'boats'"),
        (["alias", "vega/boats"], 3, "no collection local/vega/boats"),
        (["tag", "vega/cars:v0", "a/b"], 2, "bad tag 'a/b'"),
        (["tag", "vega/boats"], 3, "no collection local/vega/boats"),
        (["delete", "vega/cars"], 2, "say which version of vega/cars"),
        (["delete", "vega/cars:v7"], 3, "v7"),
        (["delete", "vega/cars:v0"], 4, "local/vega/cars:v0 has aliases (cars:old); say --delete-aliases"),
        (["delete", "--collection", "vega/cars:v0"], 2, "--collection deletes all versions"),
        (["delete", "--collection", "vega/boats"], 3, "no collection local/vega/boats"),
        (["delete", "--empty-project", "vega"], 4, "vega"),
        (["delete", "--empty-project", "boats"], 3, "no project local/boats"),
        (["delete", "--collection", "--empty-project", "vega"], 2, "not both"),
        (["delete"], 2, "Missing argument 'NAME...'"),
    ],
)
def test_bad_input(
    refused: Refused, artfs: Artfs, two_versions: Path, arguments: list[str], code: int, complaint: str
) -> None:
    assert complaint in refused(*arguments, code=code)
    assert [v["aliases"] for v in artfs("ls", "vega/cars", "--json").json] == [["old"], ["latest"]]


def test_delete(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("delete", "vega/cars:old", "--delete-aliases").out == "deleted local/vega/cars:v0\n"
    assert [v["version"] for v in artfs("ls", "vega/cars", "--json").json] == ["v1"]
    artfs("alias", "vega/cars:v1", "--remove", "latest")
    assert artfs("delete", "vega/cars:v1", "--yes", "--json").json == [{"name": "local/vega/cars:v1"}]
    assert artfs("ls", "vega/cars").out == ""


def test_a_mistake_deletes_nothing(artfs: Artfs, refused: Refused, two_versions: Path) -> None:
    artfs("alias", "vega/cars:v0", "-r", "old")
    assert "v8" in refused("delete", "vega/cars:v0", "vega/cars:v8", code=3)
    assert len(artfs("ls", "vega/cars", "--json").json) == 2


@pytest.mark.parametrize("last", [["vega/cars:v1", "--delete-aliases"], ["local/vega/best:v0"]])
def test_a_protected_alias_of_the_last_one_deletes_none(
    artfs: Artfs, refused: Refused, two_versions: Path, last: list[str]
) -> None:
    artfs("log", two_versions, "vega/other")
    artfs("alias", "vega/other:v0", "-r", "latest")
    artfs("alias", "vega/cars:v1", "prod")
    artfs("link", "vega/cars:v1", "vega/best", "prod")
    artfs("protect", "vega", "prod")
    assert "prod is protected" in refused("delete", "vega/other:v0", *last, code=4)
    assert len(artfs("ls", "vega/other", "--json").json) == 1
    artfs("delete", "vega/other:v0", *last, "--allow-protected")


def test_what_is_named_twice_is_deleted_once(artfs: Artfs, two_versions: Path) -> None:
    done = artfs("delete", "vega/cars:latest", "vega/cars:v0", "vega/cars:v1", "vega/cars:v0", "--delete-aliases")
    assert done.out.splitlines() == ["deleted local/vega/cars:v1", "deleted local/vega/cars:v0"]


def test_a_link_is_deleted_alone(artfs: Artfs, two_versions: Path, session: Session) -> None:
    member = session.catalog.resolve("local", "vega", "cars", "v0")
    session.catalog.link(member.version.id, "local", "vega", "best", ["prod"])
    artfs("delete", "vega/best:prod")
    assert len(artfs("ls", "vega/cars", "--json").json) == 2
    assert artfs("ls", "vega/best", "--json").json == []


def test_collections_and_projects(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("delete", "--collection", "vega/cars").out == "deleted local/vega/cars\n"
    assert artfs("delete", "--empty-project", "vega").out == "deleted local/vega\n"
    assert artfs("ls", "--json").json == []


@pytest.mark.parametrize(("answer", "left"), [("y", 1), ("n", 2)])
def test_a_person_is_asked(
    artfs: Artfs, two_versions: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int, tmp_path: Path
) -> None:
    (tmp_path / "answer").write_text(answer + "\n")
    monkeypatch.setattr(common, "on_terminal", lambda: True)
    with (tmp_path / "answer").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        result = artfs("delete", "vega/cars:v0", "--delete-aliases", code=0 if answer == "y" else 1)
    assert "Delete local/vega/cars:v0 (3 files, 1.2 MiB)?" in result.err
    assert len(artfs("ls", "vega/cars", "--json").json) == left


def test_tags_that_two_give_a_collection_at_once_are_both_there(
    artfs: Artfs, two_versions: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def somebody_else_is_quicker(given: Session, name: ArtifactName) -> Collection:
        found = collection_of(given, name)
        session.catalog.update_collection(found.id, tags=["theirs"])
        return found

    with monkeypatch.context() as patch:
        patch.setattr(collection, "collection_of", somebody_else_is_quicker)
        shown = artfs("collection", "vega/cars", "--tag", "ours", "--remove-tag", "none", "--json").json
    assert shown["tags"] == ["theirs", "ours"]
