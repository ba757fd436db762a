"""What a draft takes and refuses, argument by argument: its own properties, and its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.session import Session
from artfs.errors import (
    ArtifactFinalizedError,
    ArtifactNotLoggedError,
    InvalidArgumentError,
    InvalidMetadataError,
    InvalidNameError,
    NotFoundError,
    PathNotFoundError,
)
from artfs.settings import Settings
from artfs.testing.contents import paths

# constructor --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "9", "x" * 128, "-"])
def test_good_names(name: str) -> None:
    assert Artifact(name, "dataset").name == name


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a b", "ä", "a\n", "x" * 129, ".", ".."])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidNameError):
        Artifact(name, "dataset")
    with pytest.raises(ValueError):
        Artifact(name, "dataset")


def test_name_that_is_no_text() -> None:
    with pytest.raises(TypeError):
        Artifact(7, "dataset")  # type: ignore[arg-type]


@pytest.mark.parametrize("type", ["dataset", "model", "my_model-2.x"])
def test_good_types(type: str) -> None:
    assert Artifact("a", type).type == type


@pytest.mark.parametrize("type", ["", "a/b", "a b", "job", "wandb-x", "x" * 129])
def test_bad_types(type: str) -> None:
    with pytest.raises(InvalidNameError):
        Artifact("a", type)


def test_description() -> None:
    assert Artifact("a", "t").description is None
    artifact = Artifact("a", "t", description="one")
    assert artifact.description == "one"
    artifact.description = "two"
    assert artifact.description == "two"
    for bad in (7, b"x"):
        with pytest.raises(TypeError):
            Artifact("a", "t", description=bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            artifact.description = bad  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, {}),
        ("", {}),
        ({"a": 1}, {"a": 1}),
        ('{"a": [1, 2]}', {"a": [1, 2]}),
        ({"a": float("nan")}, {"a": None}),
        ({1: (2, 3)}, {"1": [2, 3]}),
        ({str(n): n for n in range(100)}, {str(n): n for n in range(100)}),
    ],
)
def test_good_metadata(given: Any, kept: dict[str, Any]) -> None:
    artifact = Artifact("a", "t", metadata=given)
    assert artifact.metadata == kept
    artifact.metadata = given
    assert artifact.metadata == kept


@pytest.mark.parametrize(
    "given", [{"a": float("inf")}, {str(n): n for n in range(101)}, "{", '{"a": Infinity}', "[1]"]
)
def test_bad_metadata(given: Any) -> None:
    with pytest.raises(InvalidMetadataError):
        Artifact("a", "t", metadata=given)
    artifact = Artifact("a", "t")
    with pytest.raises(ValueError):
        artifact.metadata = given


def test_metadata_is_a_deep_copy() -> None:
    given: dict[str, Any] = {"a": {"b": [1]}}
    artifact = Artifact("a", "t", metadata=given)
    given["a"]["b"].append(2)
    assert artifact.metadata == {"a": {"b": [1]}}


def test_use_as_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match="use_as") as found:
        artifact = Artifact("a", "t", use_as="input")
    assert found[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="use_as") as found:
        assert artifact.use_as is None
    assert found[0].filename == __file__


@pytest.mark.parametrize("region", ["coreweave-us", "", " ", "Default"])
def test_unknown_storage_region(region: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"there is no storage region '{region}'.*'default'"):
        Artifact("a", "t", storage_region=region)


def test_storage_region(
    session: Session, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TypeError):
        Artifact("a", "t", storage_region=7)  # type: ignore[arg-type]
    Artifact("a", "t", storage_region="default").save()
    other = settings.with_changes(home=tmp_path / "other", storage_region="fast")
    artifact = Artifact("b", "t", storage_region="default")
    with pytest.raises(ValueError, match="stored in 'fast'"):
        artifact.save(settings=other)
    assert artifact.is_draft()
    with init(settings=other):
        artifact = Artifact("c", "t", storage_region="fast")
        artifact.save()
    assert artifact.version == "v0"
    monkeypatch.setenv("ARTFS_STORAGE_REGION", "here")
    assert Artifact("d", "t", storage_region="here").is_draft()


def test_making_a_draft_touches_nothing(tmp_path: Path) -> None:
    artifact = Artifact("a", "t", metadata={"x": 1})
    artifact.remove  # noqa: B018
    assert artifact.digest
    assert not (tmp_path / "home").exists()


# properties of a draft ----------------------------------------------------------------------------

ONLY_LOGGED = (
    "entity", "project", "qualified_name", "version", "source_entity", "source_project",
    "source_qualified_name", "source_version", "linked_artifacts", "source_artifact", "url", "aliases", "tags",
    "commit_hash", "file_count", "created_at", "updated_at", "history_step",
)  # fmt: skip


@pytest.mark.parametrize("name", ONLY_LOGGED)
def test_property_of_logged_artifacts_only(name: str) -> None:
    artifact = Artifact("a", "t")
    with pytest.raises(ArtifactNotLoggedError, match=f"'{name}' needs a logged artifact") as caught:
        getattr(artifact, name)
    assert caught.value.name == name
    with pytest.raises(ArtifactNotLoggedError):
        hasattr(artifact, name)


@pytest.mark.parametrize("name", ["aliases", "tags"])
def test_labels_of_a_draft_cannot_be_set(name: str) -> None:
    with pytest.raises(ArtifactNotLoggedError):
        setattr(Artifact("a", "t"), name, ["x"])


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("wait", ()), ("wait", (3,)), ("get_entry", ("x",)), ("download", ()), ("verify", ()),
        ("delete", ()), ("unlink", ()),
    ],
)  # fmt: skip
def test_method_of_logged_artifacts_only(method: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ArtifactNotLoggedError, match=f"'{method}'") as caught:
        getattr(Artifact("a", "t"), method)(*arguments)
    assert caught.value.name == method


def test_what_a_draft_knows(session: Session) -> None:
    artifact = Artifact("a", "t")
    assert (artifact.id, artifact.name, artifact.source_name, artifact.state) == (None, "a", "a", "PENDING")
    assert (artifact.size, len(artifact.manifest), artifact.is_link) == (0, 0, False)
    assert artifact.is_draft()
    assert repr(artifact) == "<Artifact a>"
    with artifact.new_file("f") as stream:
        stream.write("hello")
    assert artifact.size == artifact.manifest.size() == 5
    assert artifact.digest == artifact.manifest.digest()


@pytest.mark.parametrize(
    "name", ["id", "entity", "name", "version", "type", "digest", "size", "state", "manifest"]
)
def test_property_without_setter(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Artifact("a", "t"), name, "x")


def test_digest_depends_on_content_only(session: Session) -> None:
    one, two = Artifact("a", "t"), Artifact("b", "u", description="d", metadata={"x": 1})
    for artifact, names in ((one, ["x/1", "x/2", "y"]), (two, ["y", "x/2", "x/1"])):
        for name in names:
            with artifact.new_file(name) as stream:
                stream.write(name)
    assert one.digest == two.digest
    one.remove("y")
    assert one.digest != two.digest


# remove, finalize ---------------------------------------------------------------------------------


def test_remove(session: Session, make_files: Any) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", {"d/x": "1", "d/e/y": "2", "dd": "3", "f": "4"}))
    artifact.remove("d")
    assert paths(artifact) == ["dd", "f"]
    artifact.remove(artifact.manifest.entries["f"])
    artifact.remove(Path("./dd"))
    assert paths(artifact) == []
    assert artifact.digest == Artifact("b", "t").digest


@pytest.mark.parametrize("item", ["nothing", "", ".", "./", "d/", "x", "/f", "../f", "f\0"])
def test_remove_what_is_not_there(session: Session, make_files: Any, item: str) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", {"f": "4"}))
    with pytest.raises(FileNotFoundError):
        artifact.remove(item)
    with pytest.raises(NotFoundError):
        artifact.remove(item)
    assert paths(artifact) == ["f"]


def test_remove_an_entry_of_another_artifact(session: Session, make_files: Any) -> None:
    one, two = Artifact("a", "t"), Artifact("b", "t")
    entry = one.add_file(make_files("in", {"f": "4"}) / "f")
    with pytest.raises(FileNotFoundError):
        two.remove(entry)


@pytest.mark.parametrize("how", ["finalize", "save"])
def test_nothing_can_be_changed_afterwards(session: Session, make_files: Any, how: str) -> None:
    root = make_files("in", {"f": "4"})
    artifact = Artifact("a", "t")
    artifact.add_file(root / "f")
    getattr(artifact, how)()
    for change in (
        lambda: artifact.add_file(root / "f"),
        lambda: artifact.add_dir(root),
        lambda: artifact.new_file("g"),
        lambda: artifact.remove("f"),
    ):
        with pytest.raises(ArtifactFinalizedError) as caught:
            change()
        assert caught.value.name in ("add_file", "add_dir", "new_file", "remove")
    artifact.finalize()
    assert artifact.is_draft() == (how == "finalize")
    artifact.save()
    assert artifact.version == "v0"


# manifest -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [False, True])
def test_manifest(session: Session, make_files: Any, save: bool) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", {"d/x": "1", "d/e/y": "22", "dd": "3"}))
    if save:
        artifact.save()
    manifest = artifact.manifest
    entries = manifest.entries
    assert sorted(entries) == sorted(manifest) == ["d/e/y", "d/x", "dd"]
    assert len(entries) == len(manifest) == 3
    assert "d/x" in entries
    assert "d" not in entries
    assert entries.get("nothing") is None
    assert sorted(entry.path for entry in entries.values()) == ["d/e/y", "d/x", "dd"]
    assert {path: entry.size for path, entry in entries.items()} == {"d/e/y": 2, "d/x": 1, "dd": 1}
    assert sorted(entry.path for entry in manifest.get_entries_in_directory("d")) == ["d/e/y", "d/x"]
    assert manifest.get_entries_in_directory("e") == manifest.get_entries_in_directory("dd") == []
    found = manifest.get_entry_by_path("./d/x")
    assert found == entries["d/x"]
    assert hash(found) == hash(entries["d/x"])
    assert repr(found) == "<ManifestEntry 'd/x' size=1>"
    assert repr(entries) == "<3 manifest entries>"
    with pytest.raises(KeyError):
        entries["d"]
    with pytest.raises(PathNotFoundError):
        entries["nothing"]
    with pytest.raises(TypeError):
        entries["new"] = found  # type: ignore[index]
