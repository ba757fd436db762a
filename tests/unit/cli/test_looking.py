"""ls, info, diff, cat."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.api.session import Session
from artfs.cli.main import run

from .conftest import Artfs

Refused = Callable[..., str]


def test_an_empty_catalog(artfs: Artfs) -> None:
    result = artfs("ls")
    assert result.out == ""
    assert "no projects of local yet" in result.err
    assert artfs("ls", "-q").err == ""
    assert artfs("ls", "--json").json == []


def test_projects(artfs: Artfs, two_versions: Path) -> None:
    header, row = artfs("ls").lines
    assert header == "PROJECT  COLLECTIONS  UPDATED"
    assert row.split()[:2] == ["vega", "1"]
    (project,) = artfs("ls", "--json").json
    assert project | {"created_at": 0, "updated_at": 0} == {
        "name": "local/vega",
        "entity": "local",
        "project": "vega",
        "collections": 1,
        "created_at": 0,
        "updated_at": 0,
    }
    assert project["created_at"].endswith("Z")


def test_collections(artfs: Artfs, two_versions: Path) -> None:
    header, row = artfs("ls", "vega").lines
    assert header.split() == ["COLLECTION", "TYPE", "VERSIONS", "LATEST", "SIZE", "UPDATED"]
    assert row.split()[:6] == ["cars", "dataset", "2", "v1", "1.2", "MiB"]
    assert "DESCRIPTION" in artfs("ls", "-l", "vega").lines[0]
    assert artfs("ls", "local/vega", "--json", code=3).json["error"]["kind"] == "not-found"
    (found,) = artfs("ls", "vega", "--json").json
    assert found["latest"] == "v1"
    assert found["aliases"] == {"old": "v0", "latest": "v1"}
    assert (found["versions"], found["file_count"], found["size"]) == (2, 3, 1280036)


def test_versions(artfs: Artfs, two_versions: Path) -> None:
    header, first, second = artfs("ls", "vega/cars").lines
    assert header.split() == ["VERSION", "ALIASES", "SIZE", "FILES", "CREATED", "DESCRIPTION"]
    assert first.split()[:2] == ["v0", "old"]
    assert second.endswith("more rows")
    shown = artfs("ls", "vega/cars", "--json").json
    assert [(v["version"], v["aliases"], v["tags"]) for v in shown] == [
        ("v0", ["old"], []),
        ("v1", ["latest"], ["checked"]),
    ]
    assert shown[0]["metadata"] == {"rows": 1}
    assert shown[0]["digest"] in artfs("ls", "-l", "vega/cars").lines[1]


def test_files(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("ls", "vega/cars:v0").lines == ["big.bin", "cars.csv", "empty/", "images/", "link"]
    assert artfs("ls", "vega/cars:v0/images").lines == ["show.sh"]
    assert artfs("ls", "vega/cars:v0/images/show.sh").lines == ["images/show.sh"]
    assert artfs("ls", "-R", "vega/cars:v0").lines == [
        "big.bin",
        "cars.csv",
        "empty/",
        "images/",
        "images/show.sh",
        "link",
    ]
    assert artfs("ls", "-R", "vega/cars:v0/images").lines == ["images/show.sh"]
    long = artfs("ls", "-l", "vega/cars:v0").lines
    assert [line.split()[0] for line in long] == ["KIND", "file", "file", "dir", "dir", "link"]
    assert long[-1].endswith("link -> images/show.sh")
    assert artfs("ls", "-l", "vega/cars:v0/images").lines[1].startswith("file*")


def test_files_as_json(artfs: Artfs, two_versions: Path) -> None:
    shown = {entry["path"]: entry for entry in artfs("ls", "-R", "vega/cars:v0", "--json").json}
    assert shown["link"] == {"path": "link", "kind": "link", "target": "images/show.sh"}
    assert shown["images/show.sh"]["executable"] is True
    assert shown["cars.csv"]["size"] == 22
    assert shown["images"]["file_count"] == 1
    assert {entry["kind"] for entry in shown.values()} == {"file", "directory", "link"}
    assert artfs("ls", "vega/cars:v0/images", "--json").json == [shown["images/show.sh"]]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["ls", "boats"], 3, "no project local/boats; there are: vega"),
        (["ls", "vega/boats"], 3, "no collection local/vega/boats; `artfs ls vega` lists them"),
        (["ls", "boats/x"], 3, "no project local/boats"),
        (["ls", "vega/cars:best"], 3, "it has latest, old; 2 versions, v0 to v1"),
        (["ls", "vega/cars:v7"], 3, "v7"),
        (["ls", "vega/cars:@2001-01-01"], 3, "2001-01-01"),
        (["ls", "vega/cars:@2999-01-01"], 3, "2999-01-01"),
        (["ls", "vega/cars:v0/nope"], 3, "no file or folder nope in local/vega/cars:v0"),
        (["ls", "vega/cars:v0/cars.csv/x"], 3, "no file or folder cars.csv/x"),
        (["ls", "-R", "vega"], 2, "-R lists the files of a version"),
        (["ls", "-R"], 2, "-R lists the files of a version"),
        (["ls", "a/b/c/d"], 2, "it has more parts"),
        (["info", "vega/cars:best"], 3, "no alias 'best'"),
        (["info", "vega/boats"], 3, "no collection local/vega/boats"),
        (["info", "vega/cars:v0/cars.csv"], 2, "a path inside the version means nothing here"),
        (["diff", "vega/cars:v0"], 3, "local/vega/cars:v0 is the first version there"),
        (["diff", "vega/cars:v0", "vega/cars:best"], 3, "no alias 'best'"),
        (["cat", "vega/cars:v0"], 2, "say which file"),
        (["cat", "vega/cars:v0/nope"], 3, "no file or folder nope"),
        (["cat", "vega/cars:v0/images"], 4, "is not a file"),
    ],
)
def test_bad_input(
    refused: Refused, two_versions: Path, arguments: list[str], code: int, complaint: str
) -> None:
    assert complaint in refused(*arguments, code=code)


def test_info_of_a_version(artfs: Artfs, two_versions: Path, session: Session) -> None:
    member = session.catalog.resolve("local", "vega", "cars", "v0")
    session.catalog.link(member.version.id, "local", "shared", "best", ["prod"])
    run = session.catalog.create_run("local", "vega", name="training")
    session.catalog.record_use(run.id, member.version.id)
    lines = dict(line.split(":", 1) for line in artfs("info", "vega/cars:old").lines)
    assert lines["version"].strip() == "local/vega/cars:v0"
    assert lines["content"].strip() == "3 files, 1.2 MiB (1,280,032 bytes)"
    assert lines["metadata.rows"].strip() == "1"
    assert lines["also in"].strip() == "local/shared/best:v0"
    assert lines["used by"].strip() == f"run {run.id} (training)"
    assert "linked from:" in artfs("info", "shared/best:prod").out
    found = artfs("info", "vega/cars:old", "--json").json
    assert [m["name"] for m in found["memberships"]] == ["local/shared/best:v0"]
    assert found["used_by"][0]["name"] == "training"
    assert found["logged_by"] is None
    assert found["mounted_at"] == []


def test_info_of_a_collection(artfs: Artfs, two_versions: Path) -> None:
    text = artfs("info", "vega/cars").out
    assert "old = v0" in text
    assert "2 of 2.4 MiB in all" in text
    assert artfs("info", "vega/cars", "--json").json == artfs("ls", "vega", "--json").json[0]


def test_a_version_by_time(artfs: Artfs, two_versions: Path) -> None:
    first, second = artfs("ls", "vega/cars", "--json").json
    assert artfs("info", f"vega/cars:@{first['created_at']}", "--json").json["version"] == "v0"
    assert artfs("info", f"vega/cars:@{second['created_at']}", "--json").json["version"] == "v1"


def test_diff(artfs: Artfs, two_versions: Path) -> None:
    expected = [
        "local/vega/cars:v0 -> local/vega/cars:v1",
        "M  cars.csv  (22 B -> 32 B)",
        "D  images/show.sh  (10 B)",
        "D  link  (0 B)",
        "A  new.txt  (4 B)",
        "1 added, 1 changed, 2 removed; +4 B",
    ]
    assert artfs("diff", "vega/cars:v0", "vega/cars:v1").lines == expected
    assert artfs("diff", "vega/cars").lines == expected
    assert artfs("diff", "vega/cars", "--stat").lines == [expected[0], expected[-1]]
    assert (
        artfs("diff", "vega/cars:v1", "vega/cars:v0", "--stat").lines[-1]
        == "2 added, 1 changed, 1 removed; -4 B"
    )


def test_diff_of_the_same(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("diff", "vega/cars:v0", "vega/cars:old").lines[-1] == "no changes"
    artfs("diff", "vega/cars:v0", "vega/cars:old", "--exit-code")
    artfs("diff", "vega/cars", "--exit-code", code=1)
    artfs("diff", "vega/cars", "--exit-code", "--json", code=1)


def test_diff_as_json(artfs: Artfs, two_versions: Path) -> None:
    found = artfs("diff", "vega/cars", "--json").json
    assert found["summary"] == {"added": 1, "changed": 1, "removed": 2, "size_change": 4}
    assert [(c["path"], c["change"]) for c in found["changes"]] == [
        ("cars.csv", "changed"),
        ("images/show.sh", "removed"),
        ("link", "removed"),
        ("new.txt", "added"),
    ]
    assert found["changes"][0]["old"]["size"] == 22
    assert found["changes"][3]["old"] is None
    assert (found["old"]["name"], found["new"]["name"]) == ("local/vega/cars:v0", "local/vega/cars:v1")
    assert "changes" not in artfs("diff", "vega/cars", "--json", "--stat").json


def test_cat(artfs: Artfs, two_versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", out)
    assert run(["cat", "vega/cars:v0/big.bin"]) == 0
    assert isinstance(out.buffer, io.BytesIO)
    assert out.buffer.getvalue() == bytes(range(256)) * 5000


def test_cat_of_damaged_bytes_fails(
    refused: Refused, two_versions: Path, session: Session, artfs: Artfs
) -> None:
    (entry,) = artfs("ls", "vega/cars:v0/big.bin", "--json").json
    path = session.store.path_of(entry["digest"])
    path.chmod(0o600)
    path.write_bytes(b"")
    assert entry["digest"] in refused("cat", "vega/cars:v0/big.bin", code=8)
