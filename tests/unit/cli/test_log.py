from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.api.session import Session

from .conftest import Artfs

Refused = Callable[..., str]


def test_a_folder_becomes_a_version(artfs: Artfs, cars: Path) -> None:
    result = artfs("log", cars, "vega/cars", "--type", "table", "-a", "best", "-t", "raw", "-d", "all cars")
    assert result.out == "committed local/vega/cars:v0 as best, latest: 3 files, 1.2 MiB\n"
    assert result.err == ""
    found = artfs("info", "vega/cars:v0", "--json").json
    assert (found["type"], found["aliases"], found["tags"]) == ("table", ["best", "latest"], ["raw"])
    assert found["description"] == "all cars"


def test_json(artfs: Artfs, cars: Path) -> None:
    (cars / "x.swp").touch()
    found = artfs("log", cars, "vega/cars", "--json").json
    assert found | {"digest": ""} == {
        "name": "local/vega/cars:v0",
        "entity": "local",
        "project": "vega",
        "collection": "cars",
        "version": "v0",
        "created": True,
        "digest": "",
        "size": 1280032,
        "file_count": 3,
        "aliases": ["latest"],
        "ignored": ["x.swp"],
        "warnings": ["left out 1 name: x.swp (`--dry-run` lists them)"],
    }


def test_the_same_again_makes_no_version(artfs: Artfs, cars: Path) -> None:
    artfs("log", cars, "vega/cars")
    result = artfs("log", cars, "vega/cars", "--alias", "again")
    assert result.out == "unchanged: local/vega/cars:v0 has this content already\n"
    assert artfs("info", "vega/cars:again", "--json").json["version"] == "v0"


def test_a_file_becomes_a_version_of_one_file(artfs: Artfs, cars: Path) -> None:
    result = artfs("log", cars / "images" / "show.sh", "vega/script")
    assert result.out == "committed local/vega/script:v0 as latest: 1 file, 10 B\n"
    (entry,) = artfs("ls", "vega/script:v0", "--json").json
    assert (entry["path"], entry["executable"]) == ("show.sh", True)


def test_a_uri_becomes_a_version_of_references(artfs: Artfs, cars: Path) -> None:
    uri = (cars / "images").absolute().as_uri()
    would = artfs("log", uri, "vega/far", "--dry-run")
    assert would.out == "would log 1 file, 10 B; 0 ignored\n"
    result = artfs("log", uri, "vega/far", "--type", "table", "-a", "far")
    assert result.out == "committed local/vega/far:v0 as far, latest: 1 file, 10 B\n"
    assert artfs("cat", "vega/far:far/show.sh").out == "#!/bin/sh\n"
    (cars / "images" / "show.sh").write_text("changed")
    assert "show.sh changed" in artfs("get", "vega/far", cars / "copy", code=None).err


@pytest.mark.parametrize(
    ("uri", "options", "code", "why"),
    [
        ("file:///nowhere/at/all", [], 2, "there is no such file or directory"),
        ("s3://bucket/key", ["--ignore", "x"], 2, "--ignore means nothing for a URI"),
    ],
)
def test_uris_that_cannot_be_logged(artfs: Artfs, uri: str, options: list[str], code: int, why: str) -> None:
    result = artfs("log", uri, "vega/far", *options, code=code)
    assert result.out == ""
    assert why in result.err
    artfs("ls", "vega", code=3)


def test_metadata(artfs: Artfs, cars: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text('{"rows": 1, "nested": {"a": [1, null]}}')
    artfs(
        "log",
        cars,
        "vega/cars",
        "-m",
        f"@{card}",
        "-m",
        "rows=2",
        "-m",
        "who=me and you",
        "-m",
        "ok=true",
        "-m",
        "e==x",
        "-m",
        "loss=NaN",
        "-m",
        "limit=-Infinity",
    )
    assert artfs("info", "vega/cars:v0", "--json").json["metadata"] == {
        "rows": 2,
        "nested": {"a": [1, None]},
        "who": "me and you",
        "ok": True,
        "e": "=x",
        "loss": "NaN",
        "limit": "-Infinity",
    }


def test_ignore(artfs: Artfs, cars: Path) -> None:
    (cars / ".artfsignore").write_text("*.bin\n")
    (cars / "tmp").mkdir()
    (cars / "tmp" / "x").touch()
    found = artfs("log", cars, "vega/cars", "--ignore", "/tmp", "--ignore", "*.csv", "--json").json
    assert found["ignored"] == [".artfsignore", "big.bin", "cars.csv", "tmp/"]
    names = [entry["path"] for entry in artfs("ls", "-R", "vega/cars:v0", "--json").json]
    assert names == ["empty", "images", "images/show.sh", "link"]


def test_dry_run_changes_nothing(artfs: Artfs, cars: Path) -> None:
    (cars / "Cars.csv").touch()
    (cars / "x~").touch()
    assert artfs("log", cars, "vega/cars", "--dry-run").lines == [
        "ignored  x~",
        "collide  Cars.csv, cars.csv",
        "would log 4 files, 1.2 MiB; 1 ignored",
    ]
    assert artfs("log", cars, "vega/cars", "-n", "--json").json == {
        "file_count": 4,
        "size": 1280032,
        "ignored": ["x~"],
        "collisions": [["Cars.csv", "cars.csv"]],
    }
    assert artfs("log", cars / "cars.csv", "vega/cars", "-n").out == "would log 1 file, 22 B; 0 ignored\n"
    assert artfs("ls", "--json").json == []


def test_colliding_names_are_pointed_out(artfs: Artfs, cars: Path) -> None:
    (cars / "CARS.CSV").touch()
    assert "CARS.CSV, cars.csv" in artfs("log", cars, "vega/cars").err


def test_odd_names_go_in_and_are_shown_safely(artfs: Artfs, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    names = [b"latin-\xe9", b"esc\x1b[31m", b"new\nline", b"-dash", b"caf\xc3\xa9"]
    for name in names:
        (folder / os.fsdecode(name)).touch()
    artfs("log", folder, "p/odd")
    assert artfs("ls", "p/odd:v0").lines == ["-dash", "café", "esc\\x1b[31m", "latin-\\xe9", "new\\nline"]
    shown = artfs("ls", "p/odd:v0", "--json").json
    assert sorted(os.fsencode(entry["path"]) for entry in shown) == sorted(names)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["cars", "vega/c rs"], 2, "bad artifact name 'c rs'"),
        (["cars", "vega/cars:best"], 2, "a new version has no alias yet; write --alias best"),
        (["cars", "vega/cars:v0"], 2, "a new version gets the next number by itself; leave out :v0"),
        (["cars", "vega/cars", "--type", "job"], 2, "'job'"),
        (["cars", "vega/cars", "--alias", "v3"], 2, "bad alias 'v3'"),
        (["cars", "vega/cars", "--alias", "a/b"], 2, "bad alias 'a/b'"),
        (["cars", "vega/cars", "--tag", "a,b"], 2, "bad tag 'a,b'"),
        (["cars", "vega/cars", "-m", "rows"], 2, "bad metadata 'rows': write KEY=VALUE or @FILE.json"),
        (["cars", "vega/cars", "-m", "=3"], 2, "bad metadata '=3'"),
        (
            ["cars", "vega/cars", "-m", "@nowhere.json"],
            2,
            "cannot read the metadata file nowhere.json: No such file",
        ),
        (["cars", "vega/cars", "-m", "@cars/big.bin"], 2, "cars/big.bin is not UTF-8"),
        (["cars", "vega/cars", "-m", "@cars/cars.csv"], 2, "cars/cars.csv: the metadata is not valid JSON"),
        (["cars", "vega/cars", "-m", "x=1e999"], 2, "infinite"),
        (["nowhere", "vega/cars"], 3, "there is no file or folder nowhere"),
        (["/dev/null", "vega/cars"], 2, "/dev/null is neither a file nor a folder"),
        (["cars/cars.csv", "vega/cars", "--ignore", "x"], 2, "--ignore means nothing for a single file"),
        (["cars", "vega/cars", "--ignore", "!"], 2, "bad --ignore: "),
        ([".", "vega/cars"], 2, "holds the state folder"),
        (["cars", "drafts/cars"], 2, "bad project name 'drafts'"),
    ],
)
def test_bad_input(
    refused: Refused, artfs: Artfs, cars: Path, arguments: list[str], code: int, complaint: str
) -> None:
    assert complaint in refused("log", *arguments, code=code)
    assert artfs("ls", "--json").json == []


def test_another_type_is_refused_before_anything_is_stored(
    refused: Refused, artfs: Artfs, cars: Path, session: Session
) -> None:
    artfs("log", cars / "cars.csv", "vega/cars", "--type", "table")
    before = sorted(session.store.blobs())
    assert "has the type table, not model" in refused("log", cars, "vega/cars", "--type", "model", code=4)
    assert sorted(session.store.blobs()) == before


def test_nothing_can_be_logged_to_a_portfolio(
    refused: Refused, artfs: Artfs, cars: Path, session: Session
) -> None:
    artfs("log", cars / "cars.csv", "vega/cars")
    session.catalog.link(
        session.catalog.resolve("local", "vega", "cars", "v0").version.id, "local", "vega", "best"
    )
    assert "holds links" in refused("log", cars, "vega/best", code=4)


def test_what_no_version_can_hold_is_listed(refused: Refused, cars: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(cars)  # a socket's path may have 107 bytes
        bound.bind("sock")
        os.chdir(here)
        (cars / "broken").symlink_to("/nowhere/at/all")
        said = refused("log", cars, "vega/cars", code=4)
    assert "broken" in said
    assert "sock" in said


def test_metadata_from_stdin(
    artfs: Artfs, cars: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "card.json").write_text(json.dumps({"rows": 7}))
    with (tmp_path / "card.json").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        artfs("log", cars, "vega/cars", "-m", "@-")
    assert artfs("info", "vega/cars:v0", "--json").json["metadata"] == {"rows": 7}


def test_swapped_arguments_are_pointed_out(artfs: Artfs, refused: Refused, cars: Path) -> None:
    for what in (str(cars), "https://example.org/cars", "file:///srv/cars"):
        told = refused("log", "vega/cars", what, code=2)
        assert told.startswith(f"what is to be logged comes first: artfs log {what} vega/cars")
    assert refused("log", "nowhere", "vega/cars", code=3) == "there is no file or folder nowhere"
    assert artfs("ls", "--json").json == []
