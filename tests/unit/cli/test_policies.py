"""link, collection, ttl, protect, and what expires in gc."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from artfs.api.session import Session
from artfs.settings import Settings

from .conftest import Artfs

Refused = Callable[..., str]


def test_link(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("link", "vega/cars:v0", "vega/best", "prod").out == "local/vega/best:v0: latest, prod\n"
    assert artfs("link", "vega/cars:v1", "wandb-registry-data/cars", "--json").json == {
        "name": "local/wandb-registry-data/cars:v0", "version": "v0", "aliases": ["latest"],
    }  # fmt: skip
    assert artfs("info", "wandb-registry-data/cars", "--json").json["kind"] == "portfolio"


def test_a_collection_is_renamed_described_and_tagged(artfs: Artfs, two_versions: Path) -> None:
    shown = artfs("collection", "vega/cars", "--rename", "autos", "-d", "old", "-t", "a", "-t", "b", "--type", "table")
    assert shown.out == "local/vega/autos (table) [a, b]\n"
    found = artfs("collection", "vega/autos", "-r", "a", "-t", "c", "-d", "", "--json").json
    assert (found["name"], found["tags"], found["description"]) == ("local/vega/autos", ["b", "c"], None)
    assert artfs("info", "vega/autos:v0", "--json").json["type"] == "table"
    assert artfs("collection", "vega/autos", "--type", "dataset").out == "local/vega/autos (dataset) [b, c]\n"


def test_ttl_of_versions(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("ttl", "vega/cars").lines == [
        "VERSION  TTL              EXPIRES", "cars:v0  inherit (never)", "cars:v1  inherit (never)",
    ]  # fmt: skip
    assert artfs("ttl", "--default", "vega", "2w").out == "local/vega: 14d\n"
    assert artfs("ttl", "--default", "vega", "--json").json == {"name": "local/vega", "ttl": "14d"}
    for policy, shown in (("90s", "90s"), ("36h", "36h"), ("48h", "2d"), ("60m", "1h"), ("never", "never")):
        found = artfs("ttl", "vega/cars:v0", policy, "--json").json[0]
        assert (found["name"], found["ttl"], found["lifetime"]) == ("local/vega/cars:v0", shown, shown)
        assert (found["expires_at"] is None) is (policy == "never")
    found = artfs("ttl", "vega/cars", "--json").json
    assert [(it["version"], it["ttl"], it["lifetime"]) for it in found] == [("v0", "never", "never"), ("v1", "inherit", "14d")]
    assert "inherit (14d)" in artfs("ttl", "vega/cars:v0", "inherit").out
    assert "expires" in artfs("info", "vega/cars:v0").out
    assert artfs("ttl", "--entity-default").out == "local: never\n"
    assert artfs("ttl", "--entity-default", "30d").out == "local: 30d\n"
    assert artfs("ttl", "--default", "vega", "inherit").out == "local/vega: inherit\n"
    assert artfs("ttl", "vega/cars:v1", "--json").json[0]["lifetime"] == "30d"


def test_gc_deletes_what_has_expired_and_frees_it(artfs: Artfs, two_versions: Path, settings: Settings) -> None:
    with closing(sqlite3.connect(settings.catalog_path)) as connection, connection:
        connection.execute("UPDATE versions SET created_at = created_at - 2 * 86400 * 1000000")
    artfs("ttl", "vega/cars:v0", "3d")
    artfs("ttl", "vega/cars:v1", "1d")
    assert artfs("gc", "--dry-run", "--json").json["expired"] == []
    shown = artfs("gc", "--json").json
    assert shown["expired"] == ["local/vega/cars:v1"]
    assert shown["removed"] > 0
    assert artfs("alias", "vega/cars").lines == ["ALIAS   VERSION", "latest  v0", "old     v0"]
    assert artfs("verify", "vega/cars:v0").code == 0
    assert artfs("gc", "--json").json["expired"] == []
    artfs("ttl", "--default", "vega", "1d")
    artfs("ttl", "vega/cars:v0", "inherit")
    assert artfs("gc").lines[0] == "local/vega/cars:v0 has expired"


def test_protected_aliases(artfs: Artfs, refused: Refused, two_versions: Path) -> None:
    assert artfs("protect", "vega").out == "local/vega: no protected aliases\n"
    assert artfs("protect", "vega", "prod", "old").out == "local/vega: old, prod\n"
    for arguments in (
        ["alias", "vega/cars:v1", "old"],
        ["alias", "vega/cars:v1", "prod"],
        ["alias", "vega/cars:v0", "--remove", "old"],
        ["delete", "vega/cars:v0", "--delete-aliases"],
        ["delete", "--collection", "vega/cars"],
        ["link", "vega/cars:v0", "vega/best", "prod"],
    ):
        assert "is protected in local/vega" in refused(*arguments, code=4)
    assert artfs("alias", "vega/cars:v1", "old", "--allow-protected").out == "local/vega/cars:v1: latest, old\n"
    assert artfs("link", "vega/cars:v0", "vega/best", "prod", "--allow-protected").out.endswith("latest, prod\n")
    assert artfs("protect", "vega", "--remove", "old", "--json").json == {"name": "local/vega", "aliases": ["prod"]}
    assert artfs("delete", "--collection", "vega/cars", "--allow-protected").out == "deleted local/vega/cars\n"


def test_log_with_a_policy_and_a_protected_alias(artfs: Artfs, refused: Refused, two_versions: Path) -> None:
    artfs("protect", "vega", "old")
    line = ["log", str(two_versions), "vega/new", "--alias", "old", "--ttl", "30d"]
    assert "new:old is protected" in refused(*line, code=4)
    assert "bad ttl" in refused("log", str(two_versions), "vega/new", "--ttl", "soon", code=2)
    artfs(*line, "--allow-protected")
    assert artfs("ttl", "vega/new:old", "--json").json[0]["ttl"] == "30d"


def test_the_environment_allows_protected_aliases(
    artfs: Artfs, two_versions: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.catalog.protect_aliases("local", "vega", add=["old"])
    monkeypatch.setenv("ARTFS_ALLOW_PROTECTED", "1")
    assert artfs("alias", "vega/cars:v1", "old").out == "local/vega/cars:v1: latest, old\n"


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["ttl"], 2, "say NAME"),
        (["ttl", "vega/cars:v0", "3d", "x"], 2, "say NAME"),
        (["ttl", "vega/cars:v0", "3 days"], 2, "bad ttl '3 days'"),
        (["ttl", "vega/cars:v0", "0s"], 2, "at least a second"),
        (["ttl", "vega/cars:v0", "99999999w"], 2, "too long"),
        (["ttl", "vega/boats"], 3, "no collection local/vega/boats"),
        (["ttl", "--default", "boats"], 3, "boats"),
        (["ttl", "--default", "vega", "--entity-default"], 2, "at most a POLICY"),
        (["protect", "vega", "latest"], 2, "'latest' moves"),
        (["protect", "vega", "v1"], 2, "bad alias 'v1'"),
        (["protect", "boats"], 3, "boats"),
        (["collection", "vega/cars:v0"], 2, "leave out ':v0'"),
        (["collection", "vega/boats"], 3, "no collection local/vega/boats"),
        (["collection", "vega/cars", "--rename", "a b"], 2, "bad artifact name"),
        (["collection", "vega/cars", "--type", "job"], 2, "reserved"),
        (["link", "vega/cars", "vega/x:v1"], 2, "name the collection only"),
        (["link", "vega/cars", "vega/cars"], 4, "choose another name"),
        (["link", "vega/cars", "vega/x", "a:b"], 2, "bad alias 'a:b'"),
        (["lineage", "vega/boats"], 3, "no collection 'boats'"),
        (["lineage", "vega/cars", "--depth", "0"], 2, "--depth"),
        (["lineage", "vega/cars", "-o", "/nowhere/x"], 9, "writing /nowhere/x"),
    ],
)
def test_bad_input(
    refused: Refused, two_versions: Path, arguments: list[str], code: int, complaint: str
) -> None:
    assert complaint in refused(*arguments, code=code)


def test_lineage(artfs: Artfs, two_versions: Path, session: Session, tmp_path: Path) -> None:
    cars = session.catalog.resolve("local", "vega", "cars", "v0").version
    run = session.catalog.create_run("local", "vega", name="train", job_type="fit")
    session.catalog.record_use(run.id, cars.id)
    shown = artfs("lineage", "vega/cars:v0")
    assert shown.lines[0] == "vega/cars:v0 (dataset, old)"
    assert f"└─→ train (fit {run.id})" in shown.lines
    assert artfs("lineage", "vega/cars:v0", "--json").json == {
        "name": "local/vega/cars:v0",
        "nodes": [
            {"key": "local/vega/cars:v0", "kind": "version", "label": "vega/cars:v0", "note": "dataset, old"},
            {"key": f"run/{run.id}", "kind": "run", "label": "train", "note": f"fit {run.id}"},
        ],
        "edges": [{"source": "local/vega/cars:v0", "target": f"run/{run.id}"}],
    }
    assert artfs("lineage", "vega/cars:v0", "--format", "dot").out.startswith("digraph lineage {\n")
    drawing = tmp_path / "x.svg"
    assert artfs("lineage", "vega/cars:v0", "--format", "svg", "-o", str(drawing)).out == ""
    assert drawing.read_text().startswith("<svg ")
