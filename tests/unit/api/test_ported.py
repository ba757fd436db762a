"""What the tests of the original assert and the other tests here do not: the corners that scripts written for it count
on. Where artfs differs (docs/coming-from-wandb.md lists where), the test says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import (
    ArtifactFinalizedError,
    ArtifactNotLoggedError,
    ConflictError,
    InvalidMetadataError,
    InvalidNameError,
    NotFoundError,
)

NOT_LOGGED = object()

DRAFT: dict[str, Any] = {
    "id": None,
    "entity": NOT_LOGGED,
    "project": NOT_LOGGED,
    "name": "ds",
    "qualified_name": NOT_LOGGED,
    "version": NOT_LOGGED,
    "collection": NOT_LOGGED,
    "source_entity": NOT_LOGGED,
    "source_project": NOT_LOGGED,
    "source_name": "ds",
    "source_qualified_name": NOT_LOGGED,
    "source_version": NOT_LOGGED,
    "source_collection": NOT_LOGGED,
    "is_link": False,
    "linked_artifacts": NOT_LOGGED,
    "linked_at": NOT_LOGGED,
    "incremental": False,
    "source_artifact": NOT_LOGGED,
    "type": "dataset",
    "url": NOT_LOGGED,
    "description": "d",
    "metadata": {"k": 1},
    "ttl": NOT_LOGGED,
    "aliases": NOT_LOGGED,
    "tags": NOT_LOGGED,
    "state": "PENDING",
    "size": 0,
    "commit_hash": NOT_LOGGED,
    "file_count": NOT_LOGGED,
    "created_at": NOT_LOGGED,
    "updated_at": NOT_LOGGED,
    "history_step": NOT_LOGGED,
}
"""Without `use_as`, which warns, and `manifest` and `digest`, which have their tests."""


@pytest.mark.parametrize("finalized", [False, True])
@pytest.mark.parametrize(("name", "expected"), DRAFT.items())
def test_properties_of_a_draft(name: str, expected: Any, finalized: bool) -> None:
    artifact = Artifact("ds", "dataset", description="d", metadata={"k": 1})
    if finalized:
        artifact.finalize()
    if expected is NOT_LOGGED:
        with pytest.raises(ArtifactNotLoggedError) as caught:
            getattr(artifact, name)
        assert caught.value.name == name
        assert not isinstance(caught.value, AttributeError)
    else:
        assert getattr(artifact, name) == expected
        assert hasattr(artifact, name)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("checkout", ()), ("delete", ()), ("download", ()), ("file", ()), ("files", ()), ("get", ("x",)),
        ("get_entry", ("x",)), ("get_path", ("x",)), ("json_encode", ()), ("logged_by", ()), ("new_draft", ()),
        ("unlink", ()), ("used_by", ()), ("verify", ()), ("wait", ()), ("wait", (0,)),
    ],
)  # fmt: skip
def test_methods_that_a_draft_refuses(method: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ArtifactNotLoggedError) as caught:
        getattr(Artifact("ds", "dataset"), method)(*arguments)
    assert caught.value.name == method


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("add", (object(), "x")), ("add_dir", (".",)), ("add_file", (__file__,)), ("add_reference", ("s3://b/k",)),
        ("new_file", ("x",)), ("remove", ("x",)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["finalized", "logged", "fetched"])
def test_methods_that_a_version_refuses(
    session: Session, how: str, method: str, arguments: tuple[Any, ...]
) -> None:
    artifact = Artifact("ds", "dataset")
    if how == "finalized":
        artifact.finalize()
    else:
        artifact.save()
    if how == "fetched":
        artifact = Api().artifact("ds")
    with pytest.raises(ArtifactFinalizedError) as caught:
        getattr(artifact, method)(*arguments)
    assert caught.value.name == method


# names and metadata -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a b", "a/b/c/d", "ds:a/b", "ds:", "", "ä:v0", "ds@v0"])
def test_bad_names_of_what_is_used(session: Session, name: str) -> None:
    with init() as run, pytest.raises(InvalidNameError):
        run.use_artifact(name)


def test_only_the_keys_at_the_top_are_counted() -> None:
    nested = {str(n): n for n in range(500)}
    assert Artifact("a", "t", metadata={"x": nested}).metadata == {"x": nested}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda metadata: metadata.update({str(n): n for n in range(101)}),
        lambda metadata: metadata.update(x=float("-inf")),
        lambda metadata: metadata.update(x={"y": [float("inf")]}),
    ],
)
def test_metadata_spoiled_in_place_is_found_when_it_is_logged(session: Session, spoil: Any) -> None:
    with init() as run:
        artifact = Artifact("a", "t")
        spoil(artifact.metadata)
        with pytest.raises(InvalidMetadataError):
            run.log_artifact(artifact)
    assert artifact.is_draft()
    assert not Api().artifact_exists("a")


# runs ---------------------------------------------------------------------------------------------


def test_what_is_used_keeps_its_project(session: Session) -> None:
    with init(project="one") as run:
        run.log_artifact(Artifact("ds", "dataset"))
    with init(project="two") as run:
        artifact = run.use_artifact("one/ds:latest")
        assert (artifact.project, run.project) == ("one", "two")
        with pytest.raises(ConflictError, match="logged in local/one already"):
            run.log_artifact(artifact)


def test_a_uri_is_logged_as_a_reference(session: Session, make_files: Any) -> None:
    root = make_files("in", {"a.txt": "1", "d/b.txt": "22"})
    with init() as run:
        one = run.log_artifact(f"{root.as_uri()}/a.txt")
        assert (one.source_name, one.type) == (f"run-{run.id}-a.txt:v0", "unspecified")
        assert one.get_entry("a.txt").ref == f"{root.as_uri()}/a.txt"
        many = run.log_artifact(root.as_uri(), name="many", type="dataset", aliases=["x"])
        assert sorted(many.manifest.entries) == ["a.txt", "d/b.txt"]
        with pytest.raises(ValueError):
            run.log_artifact(f"{root.as_uri()}/nothing")
    assert not Api().artifact_exists(f"run-{run.id}-nothing")


def test_waiting_for_what_is_logged(session: Session) -> None:
    with init() as run:
        artifact = run.log_artifact(Artifact("ds", "dataset"))
        assert artifact.wait(timeout=0) is artifact.wait() is artifact
    assert Api().artifact("ds").wait().state == "COMMITTED"


def test_the_same_draft_twice_in_a_run(session: Session) -> None:
    with init() as run:
        artifact = Artifact("ds", "dataset")
        first = run.log_artifact(artifact, aliases=["a"])
        second = run.log_artifact(artifact, aliases=["b"])
        assert first is second is artifact
        assert (artifact.version, sorted(artifact.aliases)) == ("v0", ["a", "b", "latest"])


def test_edits_after_add_do_not_reach_the_version(session: Session, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("before")
    with init() as run:
        artifact = Artifact("ds", "dataset")
        artifact.add_file(str(file))
        file.write_text("after!")
        run.log_artifact(artifact)
    file.unlink()
    assert Path(artifact.download(), "f").read_text() == "before"


# links --------------------------------------------------------------------------------------------


def test_is_link_on_every_way(session: Session, log_files: Any) -> None:
    source = log_files("ds", {"f": "1"})
    with init() as run:
        made = run.link_artifact(source, "wandb-registry-data/good", aliases=["prod"])
        links = [
            made,
            source.link("wandb-registry-data/good"),
            Api().artifact("wandb-registry-data/good:v0"),
            Api().artifact("local/wandb-registry-data/good:prod"),
            run.use_artifact("wandb-registry-data/good"),
            *source.linked_artifacts,
        ]
        sources = [source, Api().artifact("ds"), run.use_artifact("ds:v0"), *(link.source_artifact for link in links)]
    assert len(links) == 6
    assert all(link.is_link and link.project == "wandb-registry-data" for link in links)
    assert not any(found.is_link for found in sources)
    assert {found.id for found in [*links, *sources]} == {source.id}


def test_versions_are_counted_in_each_collection(session: Session, log_files: Any) -> None:
    for text in ("0", "1", "2"):
        source = log_files("ds", {"f": text})
    link = source.link("best")
    assert (source.version, link.version, link.source_version) == ("v2", "v0", "v2")
    assert (link.name, link.source_name) == ("best:v0", "ds:v2")


def test_aliases_are_of_one_collection(session: Session, log_files: Any) -> None:
    source = log_files("ds", {"f": "1"})
    link = source.link("best")
    link.aliases.append("prod")
    link.save()
    source.aliases.append("checked")
    source.save()
    assert sorted(Api().artifact("best").aliases) == ["latest", "prod"]
    assert sorted(Api().artifact("ds").aliases) == ["checked", "latest"]
    with pytest.raises(NotFoundError):
        Api().artifact("ds:prod")


def test_a_portfolio_is_deleted_and_then_the_sequence(session: Session, log_files: Any) -> None:
    source = log_files("ds", {"f": "1"})
    link = source.link("best")
    link.collection.delete()
    assert not Api().artifact_exists("best:v0")
    assert Api().artifact("ds").state == "COMMITTED"
    assert source.linked_artifacts == []
    again = source.link("best")
    source.collection.delete()
    for gone in ("ds:v0", again.name):
        assert not Api().artifact_exists(gone)
    for name in ("collection", "source_collection"):
        with pytest.raises(NotFoundError):
            getattr(source, name)


def test_tags_are_shared_with_links(session: Session, log_files: Any) -> None:
    source = log_files("ds", {"f": "1"})
    link = source.link("best")
    link.tags = ["b c", "a", "a"]
    link.save()
    assert sorted(Api().artifact("ds").tags) == ["a", "b c"]
    link.tags.remove("a")
    link.save()
    assert Api().artifact("ds").tags == ["b c"]


def test_what_was_known_stays_known_after_delete(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    artifact.delete(delete_aliases=True)
    assert (artifact.name, artifact.version, artifact.is_draft()) == ("ds:v0", "v0", False)
    with pytest.raises(NotFoundError):
        Api().artifact("ds:v0")


# files --------------------------------------------------------------------------------------------


def test_equal_bytes_have_equal_digests(session: Session, log_files: Any) -> None:
    one = log_files("one", {"a": "same", "b": "same"})
    two = log_files("two", {"c": "same"})
    digests = {entry.digest for artifact in (one, two) for entry in artifact.manifest.entries.values()}
    assert len(digests) == 1
    assert one.digest != two.digest


def test_a_second_download_leaves_files_alone(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"same": "1", "changed": "2"})
    root = Path(artifact.download())
    before = (root / "same").stat()
    (root / "changed").write_text("spoiled")
    (root / "more").write_text("mine")
    assert artifact.download() == str(root)
    after = (root / "same").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert ((root / "changed").read_text(), (root / "more").read_text()) == ("2", "mine")


@pytest.mark.parametrize("value", [None, False, True])
def test_skip_cache_never_mixes_files_up(session: Session, log_files: Any, tmp_path: Path, value: Any) -> None:
    """The original gives out another file's bytes of the same size after one download with skip_cache=True."""
    one, two = log_files("one", {"f": "aaaa"}), log_files("two", {"f": "bbbb"})
    assert Path(one.download(tmp_path / "1", skip_cache=value), "f").read_text() == "aaaa"
    assert Path(two.download(tmp_path / "2"), "f").read_text() == "bbbb"
    assert Path(one.download(tmp_path / "3"), "f").read_text() == "aaaa"


def test_files_may_have_any_name(session: Session, make_files: Any) -> None:
    names = ["a:b", "with space", "#%?", "ü", ".hidden", "back\\slash", "new\nline", "🦄"]
    artifact = Artifact("ds", "dataset")
    artifact.add_dir(make_files("in", {name: name for name in names}))
    artifact.save()
    assert sorted(os.listdir(artifact.download())) == sorted(names)
    artifact.verify()


def test_a_path_is_a_file_or_a_directory(session: Session) -> None:
    """The original takes both and skips one of them on download."""
    artifact = Artifact("ds", "dataset")
    with artifact.new_file("k") as stream:
        stream.write("1")
    with pytest.raises(ConflictError):
        artifact.new_file("k/z")


def test_two_fetches_are_two_objects(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    one, two = Api().artifact("ds"), Api().artifact("ds")
    assert one != two
    assert one.id == two.id == artifact.id
    assert len({one, two, artifact}) == 3
