"""What is known of a logged artifact, and changing it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import (
    AliasInUseError,
    ArtifactNotLoggedError,
    ConflictError,
    InvalidArgumentError,
    InvalidMetadataError,
    InvalidNameError,
    NotFoundError,
    PathNotFoundError,
    TypeConflictError,
)


def test_every_property(session: Session, log_files: Any) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    log_files("ds", {"f": "old"})
    artifact = log_files("ds", {"f": "hello", "d/g": ""})
    assert {
        name: getattr(artifact, name)
        for name in (
            "entity", "project", "name", "qualified_name", "version", "source_entity", "source_project",
            "source_name", "source_qualified_name", "source_version", "is_link", "type", "description",
            "metadata", "aliases", "tags", "state", "size", "file_count", "history_step",
        )
    } == {
        "entity": "local", "project": "uncategorized", "name": "ds:v1",
        "qualified_name": "local/uncategorized/ds:v1", "version": "v1",
        "source_entity": "local", "source_project": "uncategorized", "source_name": "ds:v1",
        "source_qualified_name": "local/uncategorized/ds:v1", "source_version": "v1", "is_link": False,
        "type": "dataset", "description": None, "metadata": {}, "aliases": ["latest"], "tags": [],
        "state": "COMMITTED", "size": 5, "file_count": 2, "history_step": None,
    }  # fmt: skip
    assert isinstance(artifact.id, str)
    assert artifact.id == Api().artifact("ds").id != Api().artifact("ds:v0").id
    assert artifact.commit_hash == artifact.digest
    assert len(artifact.digest) == 64
    for text in (artifact.created_at, artifact.updated_at):
        assert before < datetime.fromisoformat(text) < datetime.now(UTC) + timedelta(seconds=1)
    assert repr(artifact) == "<Artifact local/uncategorized/ds:v1>"
    assert not artifact.is_draft()


@pytest.mark.parametrize(
    ("asked", "name", "version"),
    [
        ("ds", "ds:v1", "v1"),
        ("ds:latest", "ds:latest", "v1"),
        ("ds:old", "ds:old", "v0"),
        ("ds:v0", "ds:v0", "v0"),
        ("uncategorized/ds:v1", "ds:v1", "v1"),
        ("local/uncategorized/ds:old", "ds:old", "v0"),
    ],
)
def test_name_keeps_the_alias_that_was_asked_for(
    session: Session, log_files: Any, asked: str, name: str, version: str
) -> None:
    first = log_files("ds", {"f": "1"})
    first.aliases.append("old")
    first.save()
    log_files("ds", {"f": "2"})
    artifact = Api().artifact(asked)
    assert (artifact.name, artifact.version, artifact.source_name) == (name, version, f"ds:{version}")
    assert artifact.qualified_name == f"local/uncategorized/{name}"


def test_artifact_of_a_time(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    first = Api().artifact("ds")
    log_files("ds", {"f": "2"})
    artifact = Api().artifact(f"ds:@{first.created_at}")
    assert (artifact.name, artifact.version) == ("ds:v0", "v0")
    with pytest.raises(NotFoundError):
        Api().artifact("ds:@2001-01-01")


def test_api_type(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    assert Api().artifact("ds", type="dataset").version == "v0"
    with pytest.raises(TypeConflictError, match="of type 'dataset', not 'model'"):
        Api().artifact("ds", type="model")


@pytest.mark.parametrize("name", ["a/b/c/d", "ds:a/b", "d s", "", "a//b"])
def test_api_bad_name(session: Session, name: str) -> None:
    with pytest.raises(InvalidNameError):
        Api().artifact(name)


@pytest.mark.parametrize("name", ["other", "ds:v1", "ds:best", "p/ds", "team/uncategorized/ds"])
def test_api_nothing_of_that_name(session: Session, log_files: Any, name: str) -> None:
    log_files("ds", {"f": "1"})
    assert not Api().artifact_exists(name)
    with pytest.raises(NotFoundError):
        Api().artifact(name)


def test_artifact_exists(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    assert Api().artifact_exists("ds:v0")
    assert Api().artifact_exists("ds", type="dataset")
    assert not Api().artifact_exists("ds", type="model")
    with pytest.raises(InvalidNameError):
        Api().artifact_exists("d s")


def test_api_overrides(session: Session, log_files: Any) -> None:
    artifact = Artifact("ds", "dataset")
    with init(project="p", entity="team"):
        artifact.save()
    api = Api(overrides={"project": "p", "entity": "team"})
    assert api.artifact("ds").qualified_name == "team/p/ds:v0"
    assert api.artifact_exists("p/ds")
    assert not Api({"project": "p"}).artifact_exists("ds")
    with pytest.raises(InvalidArgumentError, match="unknown overrides: host"):
        Api({"host": "x"})
    with pytest.raises(InvalidNameError):
        Api({"project": "a/b"})


def test_api_session(
    session: Session, log_files: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_files("ds", {"f": "1"})
    monkeypatch.setenv("ARTFS_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.delenv("ARTFS_SERVER", raising=False)
    assert Api(session=session).artifact("ds").version == "v0"
    assert not Api().artifact_exists("ds")


def test_get_entry(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"d/f": "hello"})
    assert artifact.get_entry("d/f").size == artifact.get_entry(Path("./d//f")).size == 5
    for name in ("d", "nothing", "d/f/g", "../d", "/d/f", ""):
        with pytest.raises(KeyError):
            artifact.get_entry(name)
        with pytest.raises(PathNotFoundError):
            artifact.get_entry(name)
        assert artifact.manifest.get_entry_by_path(name) is None
    with pytest.raises(KeyError, match="there is no file 'd' in this artifact, but a directory"):
        artifact.get_entry("d")


# changing -----------------------------------------------------------------------------------------


def test_save_description_and_metadata(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    updated = artifact.updated_at
    artifact.description = "new"
    artifact.metadata["k"] = 1
    assert Api().artifact("ds").description is None
    artifact.save()
    fetched = Api().artifact("ds")
    assert (fetched.description, fetched.metadata) == ("new", {"k": 1})
    assert fetched.updated_at == artifact.updated_at > updated
    assert fetched.created_at == artifact.created_at
    artifact.description = None
    artifact.metadata = {}
    artifact.save()
    assert (Api().artifact("ds").description, Api().artifact("ds").metadata) == (None, {})


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (True, 1), (0, False), (1, 1.0), ([1], [True]), ({"x": 0}, {"x": False})]
)
def test_values_that_only_python_takes_for_equal_are_saved(session: Session, log_files: Any, old: Any, new: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    artifact.metadata = {"value": old}
    artifact.save()
    artifact.metadata["value"] = new
    artifact.save()
    for found in (artifact, Api().artifact("ds")):
        assert repr(found.metadata["value"]) == repr(new)


def test_save_writes_only_what_was_changed_here(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    one, two = Api().artifact("ds"), Api().artifact("ds")
    one.description = "one"
    one.aliases.append("a")
    one.tags.append("t")
    one.save()
    two.metadata["k"] = 2
    two.aliases.append("b")
    two.tags.append("u")
    two.save()
    fetched = Api().artifact("ds")
    assert (fetched.description, fetched.metadata) == ("one", {"k": 2})
    assert (sorted(fetched.aliases), sorted(fetched.tags)) == (["a", "b", "latest"], ["t", "u"])


@pytest.mark.parametrize("how", ["in place", "assigned"])
def test_save_aliases_and_tags(session: Session, log_files: Any, how: str) -> None:
    first = log_files("ds", {"f": "1"})
    second = log_files("ds", {"f": "2"})
    second.aliases = ["best", "latest"]
    second.tags = "solo"
    second.save()
    first = Api().artifact("ds:v0")
    if how == "in place":
        first.aliases.append("best")
        first.tags.extend(["a", "b", "a"])
    else:
        first.aliases = "best"
        first.tags = ["a", "b", "a"]
    first.save()
    assert first.aliases == ["best"]
    assert sorted(first.tags) == ["a", "b"]
    assert Api().artifact("ds:best").version == "v0"
    assert Api().artifact("ds:v1").aliases == ["latest"]
    assert Api().artifact("ds:v1").tags == ["solo"]
    first.aliases.remove("best")
    first.tags.remove("a")
    first.save()
    assert Api().artifact("ds:v0").aliases == []
    assert Api().artifact("ds:v0").tags == ["b"]


def test_latest_can_be_removed_and_moved(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    second = log_files("ds", {"f": "2"})
    second.aliases = []
    second.save()
    with pytest.raises(NotFoundError, match="no alias 'latest'"):
        Api().artifact("ds")
    first = Api().artifact("ds:v0")
    first.aliases.append("latest")
    first.save()
    assert Api().artifact("ds").version == "v0"


def test_bad_changes_write_nothing(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    artifact.description = "new"
    for attribute, bad, error in (
        ("aliases", "a/b", InvalidNameError), ("aliases", "v7", InvalidNameError),
        ("tags", "a/b", InvalidNameError),
    ):  # fmt: skip
        getattr(artifact, attribute).append(bad)
        with pytest.raises(error):
            artifact.save()
        getattr(artifact, attribute).remove(bad)
    artifact.metadata["x"] = float("inf")
    with pytest.raises(InvalidMetadataError):
        artifact.save()
    fetched = Api().artifact("ds")
    assert (fetched.description, fetched.aliases, fetched.tags, fetched.metadata) == (
        None,
        ["latest"],
        [],
        {},
    )
    del artifact.metadata["x"]
    artifact.save()
    assert Api().artifact("ds").description == "new"


def test_labels_that_are_refused_are_not_kept(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    with init() as run:
        bad: tuple[dict[str, Any], ...] = ({"aliases": "v7"}, {"tags": "a/b"})
        for labels in bad:
            with pytest.raises(InvalidNameError):
                run.log_artifact(artifact, **labels)
        with pytest.raises(InvalidNameError):
            run.use_artifact(artifact, aliases="v7")
    assert (artifact.aliases, artifact.tags) == (["latest"], [])
    artifact.description = "new"
    artifact.save()
    assert Api().artifact("ds").description == "new"


def test_save_without_changes_changes_nothing(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    token = session.catalog.change_token()
    artifact.save()
    assert session.catalog.change_token() == token


# delete -------------------------------------------------------------------------------------------


def test_delete(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    log_files("ds", {"f": "2"})
    first = Api().artifact("ds:v0")
    first.delete()
    assert first.state == "DELETED"
    with pytest.raises(NotFoundError, match="v0 was deleted"):
        Api().artifact("ds:v0")
    with pytest.raises(NotFoundError):
        first.delete()
    first.description = "x"
    with pytest.raises(NotFoundError):
        first.save()
    assert log_again(log_files) == "v2"


def log_again(log_files: Any) -> str:
    version: str = log_files("ds", {"f": "3"}).version
    return version


def test_delete_aliases(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    artifact = log_files("ds", {"f": "2"})
    for forbidden in (artifact.delete, lambda: artifact.delete(delete_aliases=False)):
        with pytest.raises(AliasInUseError, match="ds:latest"):
            forbidden()
    assert artifact.state == "COMMITTED"
    artifact.delete(delete_aliases=True)
    assert Api().artifact("ds").version == "v0"


# links --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("best", "local/uncategorized/best:v0"),
        ("other/best", "local/other/best:v0"),
        ("team/other/best", "team/other/best:v0"),
        ("wandb-registry-model/best", "local/wandb-registry-model/best:v0"),
    ],
)
def test_link(session: Session, log_files: Any, target: str, where: str) -> None:
    log_files("ds", {"f": "0"})
    source = log_files("ds", {"f": "1"})
    link = source.link(target)
    assert (link.qualified_name, link.is_link, link.version) == (where, True, "v0")
    assert (link.source_qualified_name, link.source_name, link.source_version) == (
        "local/uncategorized/ds:v1", "ds:v1", "v1",
    )  # fmt: skip
    assert (link.source_entity, link.source_project) == ("local", "uncategorized")
    assert (link.id, link.digest, link.type, link.aliases) == (
        source.id,
        source.digest,
        "dataset",
        ["latest"],
    )
    assert not source.is_link
    fetched = Api().artifact(f"{link.entity}/{link.project}/best")
    assert (fetched.is_link, fetched.source_qualified_name) == (True, source.qualified_name)


@pytest.mark.parametrize(("aliases", "expected"), [(None, []), ("a", ["a"]), (["a", "b"], ["a", "b"])])
def test_link_aliases(session: Session, log_files: Any, aliases: Any, expected: list[str]) -> None:
    source = log_files("ds", {"f": "1"})
    assert sorted(source.link("best", aliases).aliases) == [*expected, "latest"]
    assert Api().artifact("ds").aliases == ["latest"]


def test_link_again_and_another(session: Session, log_files: Any) -> None:
    first = log_files("ds", {"f": "1"})
    second = log_files("ds", {"f": "2"})
    assert first.link("best", "one").version == "v0"
    assert second.link("best").version == "v1"
    again = first.link("best", ["two"])
    assert (again.version, sorted(again.aliases)) == ("v0", ["latest", "one", "two"])
    assert again.link("more").source_name == "ds:v0"


def test_link_a_draft_logs_it_first(session: Session) -> None:
    artifact = Artifact("ds", "dataset")
    link = artifact.link("p/best")
    assert (artifact.name, link.source_name, link.project) == ("ds:v0", "ds:v0", "p")


def test_link_refusals(session: Session, log_files: Any) -> None:
    source = log_files("ds", {"f": "1"})
    model = log_files("m", {"f": "1"}, type="model")
    source.link("best")
    for target in ("a/b/c/d", "best:v0", "a b", ""):
        with pytest.raises(InvalidNameError):
            source.link(target)
    with pytest.raises(InvalidNameError):
        source.link("best", ["a/b"])
    with pytest.raises(ConflictError):
        source.link("m")
    with pytest.raises(TypeConflictError):
        model.link("best")


def test_changes_through_a_link(session: Session, log_files: Any) -> None:
    link = log_files("ds", {"f": "1"}).link("best")
    link.description = "shared"
    link.tags.append("t")
    link.aliases.append("own")
    link.save()
    source = Api().artifact("ds")
    assert (source.description, source.tags, source.aliases) == ("shared", ["t"], ["latest"])
    assert Api().artifact("best:own").version == "v0"


def test_source_artifact(session: Session, log_files: Any) -> None:
    source = log_files("ds", {"f": "1"})
    source.aliases.append("good")
    source.save()
    link = source.link("team/other/best", "own")
    assert source.source_artifact is source
    assert source.linked_at is None
    assert link.linked_at is not None
    assert link.linked_at > source.created_at
    found = link.source_artifact
    assert (found.qualified_name, found.is_link) == ("local/uncategorized/ds:v0", False)
    assert (found.id, sorted(found.aliases)) == (link.id, ["good", "latest"])


def test_linked_artifacts(session: Session, log_files: Any) -> None:
    other = log_files("ds", {"f": "0"})
    source = log_files("ds", {"f": "1"})
    assert source.linked_artifacts == []
    other.link("best")
    first = source.link("best", "own")
    source.link("team/p/more")
    found = source.linked_artifacts
    assert [link.qualified_name for link in found] == ["local/uncategorized/best:v1", "team/p/more:v0"]
    assert [sorted(link.aliases) for link in found] == [["latest", "own"], ["latest"]]
    assert all(link.is_link and link.id == source.id and link.linked_artifacts == [] for link in found)
    first.unlink()
    assert [link.name for link in Api().artifact("ds").linked_artifacts] == ["more:v0"]


def test_url(session: Session, log_files: Any) -> None:
    source = log_files("ds", {"f": "1"})
    link = source.link("te am/p/best")
    assert source.url == "artfs://@local/uncategorized/ds:v0"
    assert link.url == "artfs://@te am/p/best:v0"


@pytest.mark.parametrize("how", ["unlink", "delete", "delete with aliases"])
def test_unlink(session: Session, log_files: Any, how: str) -> None:
    source = log_files("ds", {"f": "1"})
    link = source.link("best", "a")
    if how == "unlink":
        link.unlink()
    else:
        link.delete(delete_aliases=how != "delete")
    assert not Api().artifact_exists("best:v0")
    assert Api().artifact("ds").state == "COMMITTED"
    with pytest.raises(NotFoundError):
        link.unlink()


def test_unlink_what_is_no_link(session: Session, log_files: Any) -> None:
    with pytest.raises(ValueError, match="is not a link"):
        log_files("ds", {"f": "1"}).unlink()


def test_deleting_the_source_removes_its_links(session: Session, log_files: Any) -> None:
    source = log_files("ds", {"f": "1"})
    source.link("best")
    source.delete(delete_aliases=True)
    assert not Api().artifact_exists("best:v0")


def test_draft_is_a_draft_again_for_nobody(session: Session) -> None:
    artifact = Artifact("ds", "dataset")
    with pytest.raises(ArtifactNotLoggedError):
        artifact.unlink()
    with pytest.raises(ArtifactNotLoggedError):
        artifact.delete()
