"""get, verify, gc, backup, restore, status."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.api.session import Session
from artfs.model.records import NewVersion
from artfs.settings import Settings
from artfs.transfer.push import push_entries

from .conftest import Artfs, make_cars

Refused = Callable[..., str]


def same(left: Path, right: Path) -> bool:
    found = filecmp.dircmp(left, right, ignore=[])
    inner = all(same(left / name, right / name) for name in found.common_dirs)
    return inner and not (found.left_only or found.right_only or found.diff_files or found.funny_files)


def blob_of(session: Session, artfs: Artfs, path: str) -> Path:
    (entry,) = artfs("ls", f"vega/cars:v0/{path}", "--json").json
    return session.store.path_of(entry["digest"])


def damage(blob: Path) -> None:
    size = blob.stat().st_size
    blob.chmod(0o600)
    blob.write_bytes(bytes(size))


def test_get_a_version(artfs: Artfs, two_versions: Path, tmp_path: Path) -> None:
    result = artfs("get", "vega/cars:v0", "out")
    assert result.out == "got local/vega/cars:v0: 3 files (1.2 MiB) in out\n"
    make_cars(tmp_path / "source")
    assert same(tmp_path / "source", tmp_path / "out")
    assert os.access(tmp_path / "out/images/show.sh", os.X_OK)
    assert os.readlink(tmp_path / "out/link") == "images/show.sh"


def test_get_without_a_destination(artfs: Artfs, two_versions: Path, tmp_path: Path) -> None:
    artfs("get", "vega/cars")
    assert same(two_versions, tmp_path / "artifacts/cars:v1")
    assert artfs("get", "vega/cars").out.startswith(
        "got local/vega/cars:v1: 0 files (0 B), 3 there already in"
    )


def test_get_references(artfs: Artfs, session: Session, tmp_path: Path) -> None:
    (tmp_path / "far" / "d").mkdir(parents=True)
    (tmp_path / "far" / "d" / "f").write_text("from afar")
    (found,) = session.references.examine(f"file://{tmp_path}/far").objects
    with session.store.begin() as batch:
        built = push_entries(batch, {"in/d/f": found.entry(b"f")})
        batch.sync()
        session.catalog.commit(NewVersion("local", "vega", "refs", "dataset", built.root, 9, 1))
    assert artfs("get", "vega/refs", "out").out == "got local/vega/refs:v0: 0 files (0 B), 1 reference in out\n"
    assert (tmp_path / "out/in/d/f").read_text() == "from afar"
    artfs("get", "vega/refs:v0/in/d", "part")
    assert (tmp_path / "part/f").read_text() == "from afar"
    assert artfs("get", "vega/refs:v0/in/d/f", "one").out == "got local/vega/refs:v0/in/d/f: 0 files (0 B), 1 reference in .\n"
    assert (tmp_path / "one").read_text() == "from afar"
    artfs("get", "vega/refs:v0/in/d/f", "one", code=4)
    (tmp_path / "far" / "d" / "f").write_text("changed")
    artfs("get", "vega/refs", "again", code=8)
    artfs("cat", "vega/refs:v0/in/d/f", code=8)
    (tmp_path / "far" / "d" / "f").write_text("from afar")
    assert artfs("cat", "vega/refs:v0/in/d/f").out == "from afar"


def test_get_a_folder_of_a_version(artfs: Artfs, two_versions: Path, tmp_path: Path) -> None:
    artfs("get", "vega/cars:v0/images", "a/b")
    assert os.listdir(tmp_path / "a/b") == ["show.sh"]
    artfs("get", "vega/cars:v0/empty", "c")
    assert os.listdir(tmp_path / "c") == []


def test_links_out_of_a_folder_are_kept(artfs: Artfs, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "a").write_text("a")
    (source / "deep" / "er" / "up").symlink_to("../../a")
    artfs("log", source, "p/c")
    artfs("get", "p/c:v0/deep", "out")
    assert os.readlink(tmp_path / "out/er/up") == "../../a"


def test_get_a_file(artfs: Artfs, two_versions: Path, tmp_path: Path) -> None:
    artfs("get", "vega/cars:v0/images/show.sh", "run.sh")
    assert os.access(tmp_path / "run.sh", os.X_OK)
    artfs("get", "vega/cars:v0/images/show.sh", ".")
    assert (tmp_path / "show.sh").read_text() == "#!/bin/sh\n"
    artfs("get", "vega/cars:v0/cars.csv", "new/")
    assert (tmp_path / "new" / "cars.csv").exists()
    (tmp_path / "run.sh").write_text("mine")
    artfs("get", "vega/cars:v0/images/show.sh", "run.sh", "--overwrite")
    assert (tmp_path / "run.sh").read_text() == "#!/bin/sh\n"


def test_get_hard_links(session: Session, artfs: Artfs, two_versions: Path, tmp_path: Path) -> None:
    artfs("get", "vega/cars:v0", "out", "--hard-links")
    assert (tmp_path / "out/cars.csv").samefile(blob_of(session, artfs, "cars.csv"))
    artfs("get", "vega/cars:v0", "out", "--overwrite")
    assert not (tmp_path / "out/cars.csv").samefile(blob_of(session, artfs, "cars.csv"))


def test_get_over_a_folder(artfs: Artfs, two_versions: Path, tmp_path: Path) -> None:
    artfs("get", "vega/cars:v0", "out")
    (tmp_path / "out" / "mine").touch()
    found = artfs("get", "vega/cars:v1", "out", "--overwrite", "--json").json
    assert found | {"digest": "", "path": ""} == {
        "name": "local/vega/cars:v1",
        "digest": "",
        "path": "",
        "written": 2,
        "written_size": 36,
        "unchanged": 1,
        "links": 0,
        "references": [],
    }
    assert (tmp_path / "out" / "mine").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["get", "vega/cars:v0", "full"], 4, "full is not empty; --overwrite replaces files that differ"),
        (["get", "vega/cars:v0", "full/x"], 4, "full/x is a file"),
        (["get", "vega/cars:v0/cars.csv", "full/x"], 4, "full/x exists; --overwrite replaces it"),
        (["get", "vega/cars:v0/cars.csv", "full/x/y"], 4, "is not a folder"),
        (["get", "vega/cars:v0/link", "out"], 4, "is a symbolic link"),
        (["get", "vega/cars:v0/nope", "out"], 3, "no file or folder nope"),
        (["get", "vega/cars:v9", "out"], 3, "v9"),
        (["verify"], 2, "say a version, or --store"),
        (["verify", "vega/cars", "--store"], 2, "not both"),
        (["verify", "vega/cars:v9"], 3, "v9"),
        (["verify", "vega/cars", "nowhere"], 3, "there is no folder"),
        (["verify", "vega/cars", "full/x"], 2, "full/x"),
        (["restore", "full"], 3, "is no complete backup"),
        (["backup", "full"], 4, "neither empty nor a backup"),
    ],
)
def test_bad_input(
    refused: Refused, two_versions: Path, tmp_path: Path, arguments: list[str], code: int, complaint: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    assert complaint in refused(*arguments, code=code)
    assert (tmp_path / "full" / "x").read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_damaged_bytes_do_not_come_out(
    refused: Refused, artfs: Artfs, two_versions: Path, session: Session, tmp_path: Path
) -> None:
    blob = blob_of(session, artfs, "cars.csv")
    damage(blob)
    said = refused("get", "vega/cars:v0", "out", code=8)
    assert blob.name in said
    assert "cars.csv" in said
    assert not (tmp_path / "out" / "cars.csv").exists()


def test_verify_a_sound_version(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("verify", "vega/cars:v0").out == "local/vega/cars:v0 is sound: 3 files, 1.2 MiB\n"
    assert artfs("verify", "vega/cars:v0", "--json").json["ok"] is True
    assert artfs("verify", "--store").out == "every blob of the store is what its name says\n"


def test_verify_names_what_is_damaged(artfs: Artfs, two_versions: Path, session: Session) -> None:
    blob = blob_of(session, artfs, "big.bin")
    damage(blob)
    (line, summary) = artfs("verify", "vega/cars:v0", code=8).lines
    assert line == f"damaged  big.bin: its blob's bytes have another digest [{blob.name}]"
    assert summary == "1 problem found"
    found = artfs("verify", "vega/cars:v0", "--json", code=8).json
    assert found["ok"] is False
    assert [(p["kind"], p["path"], p["digest"]) for p in found["problems"]] == [
        ("damaged", "big.bin", blob.name)
    ]
    assert blob.name in artfs("verify", "--store", code=8).out


def test_verify_names_what_is_missing(artfs: Artfs, two_versions: Path, session: Session) -> None:
    blob = blob_of(session, artfs, "images/show.sh")
    blob.unlink()
    assert artfs("verify", "vega/cars:v0", code=8).lines[0].startswith("missing  images/show.sh: ")


def test_verify_a_folder(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("verify", "vega/cars:v1", two_versions).out.endswith(
        "/cars is local/vega/cars:v1: 3 files, 1.2 MiB\n"
    )
    (two_versions / "mine\n").touch()
    (two_versions / "new.txt").write_text("neu\n")
    (two_versions / "big.bin").unlink()
    assert artfs("verify", "vega/cars:v1", two_versions, code=1).lines == [
        "missing  big.bin: it is not there",
        "extra    mine\\n: the version does not have it",
        "changed  new.txt: its bytes differ",
        "3 problems found",
    ]


def test_gc_frees_what_deleted_versions_needed(artfs: Artfs, two_versions: Path) -> None:
    assert artfs("gc", "--json").json["removed"] == 0
    artfs("delete", "vega/cars:v0", "--delete-aliases")
    planned = artfs("gc", "--dry-run", "--json").json
    assert planned["removed"] > 0
    assert planned["removed_size"] > 0
    assert artfs("gc", "--dry-run").out.startswith("would free")
    assert artfs("gc", "--json").json == planned | {"dry_run": False}
    artfs("verify", "vega/cars:v1")


def test_gc_keeps_what_a_draft_needs(artfs: Artfs, two_versions: Path) -> None:
    artfs("draft", "from", "vega/cars:v0")
    artfs("delete", "vega/cars:v0", "--delete-aliases")
    assert artfs("gc", "--json").json["removed"] == 0
    artfs("draft", "abandon", "vega/cars:v0")
    assert artfs("gc", "--json").json["removed"] > 0


def test_backup_and_restore(artfs: Artfs, refused: Refused, two_versions: Path, tmp_path: Path) -> None:
    first = artfs("backup", "bk", "--json").json
    assert first["copied"] == first["blobs"] > 0
    assert artfs("backup", "bk").out.endswith(", 0 blobs (0 B) copied\n")
    assert artfs("--home", "bk", "verify", "vega/cars:v0").code == 0
    assert "is not empty" in refused("restore", "bk", code=4)
    assert artfs("restore", "bk", "--home", "new").out.startswith(f"restored to {tmp_path}/new: ")
    assert artfs("ls", "vega/cars", "--json", "--home", "new").json == artfs("ls", "vega/cars", "--json").json
    assert artfs("verify", "--home", "new", "--store").code == 0


def test_a_backup_tells_of_damaged_blobs(artfs: Artfs, two_versions: Path, session: Session) -> None:
    blob = blob_of(session, artfs, "cars.csv")
    damage(blob)
    assert f"left out, as it is damaged: {blob.name}" in artfs("backup", "bk", code=8).err
    assert artfs("backup", "bk", "--json", code=8).json["damaged"] == [blob.name]


def test_status(artfs: Artfs, two_versions: Path, settings: Settings) -> None:
    artfs("draft", "from", "vega/cars")
    text = artfs("status").out
    assert "1 project, 1 collection, 2 versions of 2.4 MiB in all" in text
    assert "no mount is running" in text
    assert "local/vega/cars:latest" in text
    found = artfs("status", "--json").json
    assert found["home"] == str(settings.home)
    assert (found["mounts"], found["versions"], found["projects"]) == ([], 2, 1)
    draft = {"entity": "local", "project": "vega", "name": "cars:latest", "base": "v1", "waits": False, "problem": None}
    assert found["drafts"] == [draft]
    assert 0 < found["blobs_size"] < found["versions_size"]
