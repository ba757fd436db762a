"""Tables, images and other values in artifacts: add, get, and the files that are stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import artfs
from artfs.api.artifact import Artifact
from artfs.api.media.registry import CLASSES
from artfs.api.session import Session
from artfs.errors import (
    ArtfsError,
    ArtifactNotLoggedError,
    InvalidNameError,
)
from artfs.testing.madevalues import (
    BOXES,
    CLASS_SET,
    MAKERS,
    PIXELS,
    rich_image,
    round_trip,
    stored_json,
    table,
)


def test_every_class_of_the_reference_is_here() -> None:
    assert {cls.kind for cls in CLASSES} == set(MAKERS)
    assert all(getattr(artfs, cls.__name__) is cls for cls in CLASSES)
    assert all(getattr(artfs.data_types, cls.__name__) is cls for cls in CLASSES)


@pytest.mark.parametrize("kind", MAKERS)
def test_what_was_added_comes_back_equal(session: Session, kind: str) -> None:
    value = MAKERS[kind]()
    assert value == MAKERS[kind]()
    back = round_trip(value)
    assert type(back) is type(value)
    assert back == value
    assert value == back
    assert back != table() or kind == "table"


@pytest.mark.parametrize("kind", MAKERS)
def test_the_name_gets_the_suffix_once(session: Session, kind: str) -> None:
    artifact = Artifact("values", "dataset")
    entry = artifact.add(MAKERS[kind](), "deep/./er//it")
    assert entry.path == f"deep/er/it.{kind}.json"
    assert artifact.add(MAKERS[kind](), f"two.{kind}.json").path == f"two.{kind}.json"
    artifact.save()
    assert artifact.get("two") == artifact[f"two.{kind}.json"] == artifact.get("deep/er/it") == MAKERS[kind]()


@pytest.mark.parametrize("kind", MAKERS)
def test_equal_values_make_equal_artifacts(session: Session, kind: str) -> None:
    one, two = (Artifact("values", "dataset") for _ in range(2))
    one.add(MAKERS[kind](), "it")
    two.add(MAKERS[kind](), "it")
    assert one.digest == two.digest


def test_a_file_of_its_own_is_named_after_its_content(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    for kind, make in MAKERS.items():
        artifact.add(make(), kind)
    artifact.save()
    entries = artifact.manifest.entries
    folders = {
        "media/bokeh": ".bokeh.json",
        "media/images/mask": ".mask.png",
        "media/audio": ".wav",
        "media/videos": ".gif",
        "media/html": ".html",
        "media/object3D": ".pts.json",
    }
    for folder, ending in folders.items():
        found = list(artifact.manifest.get_entries_in_directory(folder))
        assert found
        assert {entry.path for entry in found} == {f"{folder}/{entry.digest[:20]}{ending}" for entry in found}
    shared = "media/classes/6a9618b6e1984fbf0729d506f14a2a0f_cls.classes.json"
    assert shared in entries
    assert stored_json(artifact, "image-file.image-file.json")["classes"] == {
        "type": "classes-file",
        "path": shared,
        "digest": entries[shared].digest,
    }


def test_the_json_of_an_image(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact.add(rich_image(), "it")
    artifact.save()
    (picture,) = [path for path in artifact.manifest if path.endswith(".png") and "mask" not in path]
    (mask,) = [path for path in artifact.manifest if path.endswith(".mask.png")]
    found = stored_json(artifact, "it.image-file.json")
    del found["classes"]
    assert found == {
        "_type": "image-file",
        "path": picture,
        "sha256": artifact.get_entry(picture).digest,
        "format": "png",
        "width": 6,
        "height": 4,
        "caption": "hi",
        "grouping": 3,
        "boxes": {"pred": BOXES},
        "masks": {"truth": {"_type": "mask", "path": mask, "sha256": artifact.get_entry(mask).digest}},
    }


def test_the_json_of_a_table(session: Session) -> None:
    made = artfs.Table(
        ["n", "when", "pixels", "few"],
        [
            [1, datetime(2020, 1, 1), np.zeros((2, 2)), np.arange(3)],
            [float("nan"), datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), np.ones((2, 2)), [1]],
        ],
    )
    artifact = Artifact("values", "dataset")
    artifact.add(made, "it")
    artifact.save()
    (packed,) = [entry.path for entry in artifact.manifest.get_entries_in_directory("media/serialized_data")]

    def optional(*members: Any) -> Any:
        return {"wb_type": "union", "params": {"allowed_types": list(members)}}

    none = {"wb_type": "none"}
    array = {"shape": [2, 2], "serialization_path": {"path": packed, "key": "pixels"}}
    numbers = {"element_type": {"wb_type": "number"}, "length": 3}
    text = (Path(artifact.download()) / "it.table.json").read_text()
    assert json.loads(text) == {
        "_type": "table",
        "columns": ["n", "when", "pixels", "few"],
        "column_types": {
            "wb_type": "typedDict",
            "params": {
                "type_map": {
                    "n": optional(none, {"wb_type": "number"}),
                    "when": optional(none, {"wb_type": "timestamp"}),
                    "pixels": optional({"wb_type": "ndarray", "params": array}, none),
                    "few": optional({"wb_type": "list", "params": numbers}, none),
                }
            },
        },
        "data": [[1, 1577836800000, None, [0, 1, 2]], [None, 1000, None, [1]]],
        "log_mode": "IMMUTABLE",
        "ncols": 4,
        "nrows": 2,
    }
    assert text == json.dumps(json.loads(text), sort_keys=True)


def test_the_json_of_the_others(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    for make in MAKERS.values():
        artifact.add(make(), "it")
    artifact.save()
    assert stored_json(artifact, "it.classes.json") == {"_type": "classes", "class_set": CLASS_SET}
    assert stored_json(artifact, "it.bounding-boxes.json") == BOXES
    assert stored_json(artifact, "it.partitioned-table.json") == {
        "_type": "partitioned-table",
        "parts_path": "parts",
    }
    joined = stored_json(artifact, "it.joined-table.json")
    assert joined.keys() == {"_type", "table1", "table2", "join_key"}
    for number in (1, 2):
        path = joined[f"table{number}"]
        assert path == f"t{number}_{artifact.get_entry(path).digest[:20]}.table.json"
    for kind, more in {
        "audio-file": {"caption": "la"},
        "video-file": {"caption": "dark", "width": 8, "height": 8},
        "html-file": {},
        "bokeh-file": {},
        "mask": {},
        "object3D-file": {"caption": "points"},
    }.items():
        found = stored_json(artifact, f"it.{kind}.json")
        digest = artifact.get_entry(found["path"]).digest
        assert found == {"_type": kind, "path": found["path"], "sha256": digest, **more}


# getting ------------------------------------------------------------------------------------------


def test_a_draft_gives_nothing_back(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact.add(table(), "it")
    with pytest.raises(ArtifactNotLoggedError):
        artifact.get("it")
    with pytest.raises(ArtifactNotLoggedError):
        artifact["it"]


def test_what_is_no_value_is_none(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    with artifact.new_file("plain.json") as stream:
        stream.write("{}")
    artifact.add(table(), "folder/it")
    artifact.save()
    assert artifact.get("plain.json") is None
    assert artifact.get("folder") is None
    assert artifact.get("nothing") is None
    assert artifact["plain"] is None
    assert artifact.get_entry("folder/it").path == artifact.get_entry("folder/it.table.json").path == "folder/it.table.json"
    with pytest.raises(KeyError):
        artifact.get_entry("it")
    with pytest.raises(InvalidNameError):
        artifact.get("../it")


def test_each_get_makes_a_new_object(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact.add(table(), "it")
    artifact.save()
    one, two = artifact.get("it"), artifact.get("it")
    assert one == two
    assert one is not two


@pytest.mark.parametrize("kind", MAKERS)
def test_what_came_from_another_artifact_is_a_reference_to_it(session: Session, kind: str) -> None:
    artifact = Artifact("values", "dataset")
    artifact.add(MAKERS[kind](), "it")
    artifact.save()
    first = artifact.get_entry(f"it.{kind}.json")
    again = Artifact("again", "dataset")
    entry = again.add(artifact.get("it"), "other")  # type: ignore[arg-type]
    again.save()
    assert (entry.path, entry.ref, entry.digest) == (f"other.{kind}.json", first.ref_url(), first.digest)
    assert list(again.manifest) == [entry.path]
    assert again.get("other") == MAKERS[kind]()
    third = Artifact("third", "dataset")
    assert third.add(again.get("other"), "it").ref == first.ref_url(), "the artifact that has it, not the one between"  # type: ignore[arg-type]


def test_what_was_changed_since_is_stored(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact.add(table(), "it")
    artifact.save()
    longer = artifact.get("it")
    assert isinstance(longer, artfs.Table)
    longer.add_data("c", 3)
    again = Artifact("again", "dataset")
    assert again.add(longer, "it").ref is None
    again.save()
    assert again.get("it") == longer


def test_what_came_from_an_artifact_that_is_gone_is_stored(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact.add(table(), "it")
    artifact.save()
    kept = artifact.get("it")
    assert kept is not None
    artifact.delete(delete_aliases=True)
    again = Artifact("again", "dataset")
    assert again.add(kept, "it").ref is None


def test_a_draft_of_the_same_artifact_keeps_what_it_has(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact.add(table(), "it")
    artifact.save()
    draft = artifact.new_draft()
    entry = draft.add(artifact.get("it"), "it", overwrite=True)  # type: ignore[arg-type]
    assert (entry.ref, entry.digest) == (None, artifact.get_entry("it.table.json").digest)


def test_audio_by_its_uri_is_a_reference(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "la la.wav"
    made = artfs.Audio(np.zeros(80), sample_rate=8000)
    made.save(path)
    there = artfs.Audio(path.as_uri(), caption="la")
    with pytest.raises(ValueError, match="can be read once"):
        there.read()
    artifact = Artifact("values", "dataset")
    artifact.add(there, "it")
    artifact.save()
    (entry,) = artifact.manifest.get_entries_in_directory("media/audio")
    assert entry.ref is not None
    assert entry.path.endswith("/la la.wav")
    back = artifact.get("it")
    assert isinstance(back, artfs.Audio)
    assert (back.uri, back.caption, back.read()) == (entry.ref, "la", made.read())
    path.write_bytes(b"changed")
    with pytest.raises(ArtfsError):
        back.read()


def test_parts_of_a_table(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact.add(artfs.Table(["n"], [[1], [2]]), "parts/a")
    artifact.add(artfs.Table(["n"], [[3]]), "parts/deep/b")
    artifact.add(artfs.Image(PIXELS), "parts/picture")
    artifact.add(artfs.PartitionedTable("parts"), "all")
    artifact.add(artfs.JoinedTable(artfs.PartitionedTable("parts"), artfs.Table(["n", "m"], [[3, "x"]]), "n"), "j")
    artifact.save()
    whole = artifact.get("all")
    assert isinstance(whole, artfs.PartitionedTable)
    assert list(whole.iterrows()) == [(0, [1]), (1, [2]), (0, [3])]
    assert list(whole) == [[1], [2], [3]]
    assert whole.get_dataframe()["n"].tolist() == [1, 2, 3]
    joined = artifact.get("j")
    assert isinstance(joined, artfs.JoinedTable)
    assert joined.get_dataframe().to_dict("records") == [{"n": 3, "m": "x"}]


def test_joined_tables_by_path_and_by_object(session: Session) -> None:
    one, two = table(), artfs.Table(["id", "w"], [["a", 2]])
    artifact = Artifact("values", "dataset")
    artifact.add(one, "one")
    artifact.add(two, "two")
    artifact.add(artfs.JoinedTable(one, "two.table.json", "id"), "it")
    artifact.save()
    assert stored_json(artifact, "it.joined-table.json")["table1"] == "one.table.json"
    assert len(artifact.manifest) == 3
    joined = artifact.get("it")
    assert isinstance(joined, artfs.JoinedTable)
    assert (joined.table1, joined.table2) == (one, two)
    frame = joined.get_dataframe()
    assert frame.to_dict("records") == [{"id": "a", "score": 1.0, "w": 2}]


def test_tables_that_point_at_each_other(session: Session) -> None:
    people = artfs.Table(["name"], [["ada"], ["alan"]])
    people.set_pk("name")
    papers = artfs.Table(["title", "by"], [["x", "ada"], ["y", None]])
    papers.set_fk("by", people, "name")
    back = round_trip(papers)
    assert back == papers
    assert back.column_types["by"] == "key of the column 'name' of another table or none"
