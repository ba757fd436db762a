"""Adding values to an artifact: what is stored once, what replaces what, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import artfs
from artfs.api.artifact import Artifact
from artfs.api.session import Session
from artfs.errors import (
    ArtifactFinalizedError,
    ConflictError,
    InvalidNameError,
)
from artfs.testing.madevalues import (
    PIXELS,
    stored_json,
    table,
)


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
    assert len(artifact["it"]) == 3  # type: ignore[arg-type] # the table that was added


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
    assert again.get("t").data[0][0] == noise  # type: ignore[union-attr] # the table that was added
    again.verify(again.download())
