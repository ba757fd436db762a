"""Tables, images and other values in artifacts: add, get, and the files that are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bokeh.plotting import figure

import artfs
from artfs.api.artifact import Artifact
from artfs.api.media.base import Value
from artfs.api.media.registry import CLASSES
from artfs.api.session import Session
from artfs.errors import (
    ArtfsError,
    ArtifactFinalizedError,
    ArtifactNotLoggedError,
    BadObjectError,
    ConflictError,
    InvalidNameError,
)

PIXELS = np.arange(4 * 6 * 3, dtype="uint8").reshape(4, 6, 3)
LABELS = {0: "cat", 1: "dog"}
CLASS_SET = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
BOXES = [
    {
        "position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4},
        "class_id": 1,
        "box_caption": "it",
        "scores": {"sure": 0.5},
    },
    {"position": {"middle": [1, 2], "width": 3, "height": 4}, "class_id": 0, "domain": "pixel"},
]


def plot() -> Any:
    made = figure()
    made.line([1, 2], [3, 4])
    return made


def rich_image() -> artfs.Image:
    return artfs.Image(
        PIXELS,
        caption="hi",
        grouping=3,
        boxes={"pred": {"box_data": BOXES, "class_labels": LABELS}},
        masks={"truth": {"mask_data": np.eye(4, 6, dtype="uint8"), "class_labels": LABELS}},
    )


def table() -> artfs.Table:
    return artfs.Table(["id", "score"], [["a", 1], ["b", 2.5]])


MAKERS: dict[str, Callable[[], Value]] = {
    "bokeh-file": lambda: artfs.Bokeh(plot()),
    "joined-table": lambda: artfs.JoinedTable(table(), artfs.Table(["id", "w"], [["a", 2]]), "id"),
    "partitioned-table": lambda: artfs.PartitionedTable("parts"),
    "table": table,
    "classes": lambda: artfs.Classes(CLASS_SET),
    "mask": lambda: artfs.ImageMask({"mask_data": np.eye(3, dtype="uint8")}, "layer"),
    "bounding-boxes": lambda: artfs.BoundingBoxes2D({"box_data": BOXES, "class_labels": LABELS}, "layer"),
    "audio-file": lambda: artfs.Audio(np.sin(np.arange(800) / 9), sample_rate=8000, caption="la"),
    "image-file": rich_image,
    "video-file": lambda: artfs.Video(np.zeros((3, 3, 8, 8), "uint8"), caption="dark"),
    "html-file": lambda: artfs.Html("<p>a page</p>"),
    "object3D-file": lambda: artfs.Object3D(np.eye(3), caption="points"),
}


def round_trip(value: Value, name: str = "it") -> Any:
    artifact = Artifact("values", "dataset")
    artifact.add(value, name)
    artifact.save()
    return artfs.Api().artifact("values:latest").get(name)


def stored_json(artifact: Artifact, path: str) -> Any:
    root = Path(artifact.download())
    return json.loads((root / path).read_text())


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


# adding -------------------------------------------------------------------------------------------


def test_the_same_object_is_added_once(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    made = table()
    first = artifact.add(made, "first")
    assert artifact.add(made, "second") == first
    assert list(artifact.manifest) == ["first.table.json"]
    artifact.remove(first)
    assert artifact.add(made, "second").path == "second.table.json"


def test_a_name_that_is_taken_keeps_what_it_has(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    first = artifact.add(table(), "it")
    other = artfs.Table(["picture"], [[artfs.Image(PIXELS)]])
    assert artifact.add(other, "it") == first
    assert list(artifact.manifest) == ["it.table.json"], "nothing of the other one is left behind"
    assert artifact.add(other, "it", overwrite=True) != first
    artifact.save()
    assert artifact.get("it") == other


def test_an_object_that_changed_replaces_itself(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    made = table()
    first = artifact.add(made, "it")
    made.add_data("c", 3)
    assert artifact.add(made, "it") == first
    assert artifact.add(made, name="it", overwrite=True) != first
    artifact.save()
    assert len(artifact["it"]) == 3  # type: ignore[arg-type]


def test_items_are_set_like_a_dict(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact["it"] = table()
    artifact.save()
    assert artifact["it"] == table()


@pytest.mark.parametrize("obj", [{"a": 1}, "text", None, PIXELS, artfs.Table], ids=repr)
def test_other_objects_are_refused(session: Session, obj: Any) -> None:
    artifact = Artifact("values", "dataset")
    with pytest.raises(TypeError, match="an artifact takes Bokeh, JoinedTable"):
        artifact.add(obj, "it")
    assert len(artifact.manifest) == 0


def test_a_finalized_artifact_takes_none(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact.finalize()
    with pytest.raises(ArtifactFinalizedError):
        artifact.add(table(), "it")
    logged = Artifact("values", "dataset")
    logged.save()
    with pytest.raises(ArtifactFinalizedError):
        logged["it"] = table()


@pytest.mark.parametrize("name", ["", "../it", "/it"])
def test_bad_names(session: Session, name: str) -> None:
    with pytest.raises(InvalidNameError):
        Artifact("values", "dataset").add(table(), name)


def test_a_directory_has_the_name(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact.add(table(), "it.table.json/other")
    with pytest.raises(ConflictError):
        artifact.add(table(), "it")


def test_tables_under_media_are_named_by_content(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    entry = artifact.add(table(), "media/tables/mine")
    assert entry.path == f"media/tables/{entry.digest[:20]}.table.json"


def test_equal_pixels_are_stored_once(session: Session) -> None:
    artifact = Artifact("values", "dataset")
    artifact.add(artfs.Image(PIXELS), "one")
    artifact.add(artfs.Image(PIXELS), "two")
    assert len(artifact.manifest.get_entries_in_directory("media/images")) == 1


def test_a_file_keeps_its_name(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    artfs.Image(PIXELS).save(path)
    artifact = Artifact("values", "dataset")
    artifact.add(artfs.Image(path), "it")
    artifact.save()
    (entry,) = artifact.manifest.get_entries_in_directory("media/images")
    assert entry.path == f"media/images/{entry.digest[:20]}/cat.png"
    # … also as a part of another value, in the next artifact.
    again = Artifact("again", "dataset")
    again.add(artfs.Table(["c"], [[artifact.get("it")]]), "it")
    assert entry.path in again.manifest.entries


def test_a_file_that_is_there_already_is_used(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    artfs.Image(PIXELS).save(path)
    artifact = Artifact("values", "dataset")
    artifact.add_file(path, "pictures/1.png")
    artifact.add(artfs.Image(path), "it")
    artfs.Image(PIXELS + 1).save(path)
    artifact.add(artfs.Image(path), "changed")
    artifact.save()
    assert stored_json(artifact, "it.image-file.json")["path"] == "pictures/1.png"
    assert artifact.get("it") == artfs.Image(PIXELS)
    assert artifact.get("changed") == artfs.Image(path)
    assert len(artifact.manifest.get_entries_in_directory("media/images")) == 1


def test_large_files(session: Session, tmp_path: Path) -> None:
    """Over a mebibyte a blob has a block list."""
    rng = np.random.default_rng(0)
    noise = artfs.Image(rng.integers(0, 255, (800, 800, 3), "uint8"))
    assert len(noise.read()) > 1024 * 1024
    wide = artfs.Table(["n"], [["x" * 1024] for _ in range(2000)])
    artifact = Artifact("values", "dataset")
    artifact.add(noise, "noise")
    artifact.add(wide, "wide")
    artifact.save()
    assert (artifact.get("noise"), artifact.get("wide")) == (noise, wide)
    again = Artifact("again", "dataset")
    again.add(artfs.Table(["picture"], [[artifact.get("noise")]]), "t")
    again.save()
    assert again.get("t").data[0][0] == noise  # type: ignore[union-attr]
    again.verify(again.download())


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


# what others wrote --------------------------------------------------------------------------------

BAD = {
    "it.table.json": [
        "no json",
        "[]",
        "{}",
        '{"_type": "image-file"}',
        '{"_type": "table", "columns": ["a"]}',
        '{"_type": "table", "columns": ["a"], "data": [[1, 2]]}',
        '{"_type": "table", "columns": ["a", 1], "data": []}',
        '{"_type": "table", "columns": [["a"]], "data": []}',
        '{"_type": "table", "columns": ["a"], "data": [], "column_types": 3}',
        '{"_type": "table", "columns": ["a"], "data": [[1e99]], "column_types": '
        '{"wb_type": "typedDict", "params": {"type_map": {"a": {"wb_type": "timestamp"}}}}}',
        '{"_type": "table", "columns": ["a"], "data": [["x"]], "column_types": '
        '{"wb_type": "typedDict", "params": {"type_map": {"a": {"wb_type": "timestamp"}}}}}',
        '{"_type": "table", "columns": ["a"], "data": [[null]], "column_types": {"wb_type": "typedDict", "params": '
        '{"type_map": {"a": {"wb_type": "ndarray", "params": {"shape": [2], "serialization_path": '
        '{"path": "it.table.json", "key": "a"}}}}}}}',
        "[" * 100_000,
    ],
    "it.image-file.json": [
        '{"_type": "image-file"}',
        '{"_type": "image-file", "path": 3}',
        '{"_type": "image-file", "path": "nowhere.png"}',
        '{"_type": "image-file", "path": "../../etc/passwd"}',
        '{"_type": "image-file", "path": "/etc/passwd"}',
        '{"_type": "image-file", "path": "it.image-file.json", "width": "x"}',
        '{"_type": "image-file", "path": "it.image-file.json", "boxes": {"a": [{}]}}',
        '{"_type": "image-file", "path": "it.image-file.json", "classes": {"path": "it.image-file.json"}}',
    ],
    "it.joined-table.json": [
        '{"_type": "joined-table", "table1": "it.joined-table.json", "table2": "x", "join_key": "a"}',
        '{"_type": "joined-table", "table1": "plain", "table2": "plain", "join_key": "a"}',
    ],
    "it.partitioned-table.json": ['{"_type": "partitioned-table", "parts_path": "../.."}'],
    "it.classes.json": ['{"_type": "classes", "class_set": [{"id": "x"}]}'],
    "it.bounding-boxes.json": ["{}", '[{"position": {}}]'],
}


@pytest.mark.parametrize(
    ("path", "text"), [(path, text) for path, texts in BAD.items() for text in texts], ids=lambda x: x[:60]
)
def test_malformed_json_is_an_error_that_names_it(session: Session, path: str, text: str) -> None:
    artifact = Artifact("values", "dataset")
    with artifact.new_file(path) as stream:
        stream.write(text)
    with artifact.new_file("plain") as stream:
        stream.write("plain")
    artifact.save()
    with pytest.raises(BadObjectError, match="'it.* of local/uncategorized/values:v0") as caught:
        artifact.get("it")
    assert caught.value.digest == artifact.get_entry(path).digest


def test_a_file_that_is_no_image(session: Session, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(ValueError, match="no image"):
        artfs.Image(tmp_path / "x.png")


# in other processes, and without libraries --------------------------------------------------------


def test_the_same_values_have_the_same_digest_in_every_process(run_python: Any, session: Session) -> None:
    code = """
import artfs
from bokeh.plotting import figure
for _ in range({count}): figure()
plot = figure(); plot.line([1, 2], [3, 4])
a = artfs.Artifact("x", "dataset")
a.add(artfs.JoinedTable(artfs.Table(["k"], [[1]]), artfs.Table(["k"], [[2]]), "k"), "joined")
a.add(artfs.Bokeh(plot), "plot")
print(a.digest)
"""
    digests = {run_python(code.replace("{count}", count)).stdout for count in ("0", "3")}
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


def test_importing_loads_no_library(run_python: Any) -> None:
    code = """
import sys, artfs
artfs.Artifact, artfs.Table, artfs.Image, artfs.Video
print(sorted({"numpy", "pandas", "pyarrow", "PIL", "soundfile", "av", "bokeh"} & set(sys.modules)))
"""
    assert run_python(code).stdout == "[]\n"


@pytest.mark.parametrize(
    ("library", "code", "name"),
    [
        ("PIL", "artfs.Image([[1, 2]])", "Pillow"),
        ("PIL", "artfs.Video(numpy.zeros((1, 3, 2, 2)))", "Pillow"),
        ("av", "artfs.Video(numpy.zeros((1, 3, 2, 2)), format='mp4')", "PyAV"),
        ("soundfile", "artfs.Audio([0.5], sample_rate=8000)", "soundfile"),
        ("bokeh", "artfs.Bokeh(object())", "bokeh"),
        ("numpy", "artfs.Object3D([[1, 2, 3]])", "numpy"),
        ("pandas", "artfs.Table(['a'], [[1]]).get_dataframe()", "pandas"),
        ("pyarrow", "artfs.Table(['a'], [[1]]).to_arrow()", "pyarrow"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(run_python: Any, library: str, code: str, name: str) -> None:
    before = "" if library == "numpy" else "import numpy\n"
    done = run_python(
        f"import sys\n{before}sys.modules[{library!r}] = None\nimport artfs\n"
        f"try:\n    {code}\nexcept ImportError as error:\n    print(type(error).__name__, error)"
    )
    assert done.stderr == ""
    assert done.stdout.startswith("MissingExtraError ")
    assert f" needs {name}, " in done.stdout
    assert "pip install 'artfs[media]'" in done.stdout


# in a notebook ------------------------------------------------------------------------------------


def test_what_a_notebook_shows(session: Session) -> None:
    artifact = Artifact("values", "dataset", description="<script>", metadata={"<k>": "<v>"})
    made = artfs.Table(["<c>"], [["<b>"], [None]])
    artifact.add(made, "<it>")
    draft = artifact._repr_html_()
    assert "values (draft)" in draft
    artifact.save()
    shown = artifact._repr_html_()
    for text in ("local/uncategorized/values:v0", "latest", artifact.digest, "&lt;script&gt;", "&lt;v&gt;"):
        assert text in shown
    assert "&lt;it&gt;.table.json" in shown
    for html in (draft, shown, made._repr_html_()):
        assert "<script>" not in html
        assert "<b>" not in html
        assert "<it>" not in html
    assert "<th>&lt;c&gt;</th>" in made._repr_html_()
    assert "<td>&lt;b&gt;</td>" in made._repr_html_()
    image = artfs.Image(PIXELS, caption='"><script>')._repr_html_()
    assert 'src="data:image/png;base64,' in image
    assert "<script>" not in image
