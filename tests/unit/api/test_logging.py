"""From draft to version: save, log_artifact, no-ops, what is left after a failure."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.public import Api
from artfs.api.session import Session, open_session
from artfs.api.telling import progress
from artfs.errors import (
    ArtifactFinalizedError,
    ConflictError,
    InvalidMetadataError,
    InvalidNameError,
    NotFoundError,
    TypeConflictError,
)
from artfs.settings import Settings
from artfs.testing.drafted import draft, versions
from artfs.transfer.gc import collect_garbage
from artfs.wire.control import Progress


def test_save_makes_a_version(session: Session) -> None:
    artifact = Artifact("ds", "dataset", description="d", metadata={"k": [1]})
    with artifact.new_file("f") as stream:
        stream.write("one")
    digest = artifact.digest
    artifact.save()
    assert not artifact.is_draft()
    assert (artifact.name, artifact.state, artifact.digest, artifact.aliases) == (
        "ds:v0",
        "COMMITTED",
        digest,
        ["latest"],
    )
    assert (artifact.description, artifact.metadata, artifact.file_count, artifact.size) == (
        "d",
        {"k": [1]},
        1,
        3,
    )
    assert artifact.wait() is artifact
    assert artifact.wait(timeout=0) is artifact


def test_save_an_empty_artifact(session: Session) -> None:
    artifact = Artifact("ds", "dataset")
    artifact.save()
    assert (artifact.version, artifact.file_count, artifact.size) == ("v0", 0, 0)
    artifact.verify()


def test_save_outside_a_run_makes_one_of_type_auto(session: Session) -> None:
    draft().save()
    runs = session.catalog.runs(session.settings.entity, session.settings.project)
    assert [(run.job_type, run.state) for run in runs] == [("auto", "finished")]
    assert [member.name for member in session.catalog.versions_of_run(runs[0].id, used=False)] == ["ds:v0"]


def test_save_in_a_run_is_logged_by_it(session: Session) -> None:
    with init(project="outer"), init(project="inner") as run:
        artifact = draft()
        artifact.save(project="ignored")
    assert artifact.project == "inner"
    logged = session.catalog.versions_of_run(run.id, used=False)
    assert [member.qualified_name for member in logged] == [artifact.qualified_name]
    assert session.catalog.runs(run.entity, "inner")[0].state == "finished"


def test_save_project(session: Session) -> None:
    artifact = draft()
    artifact.save("elsewhere")
    assert artifact.qualified_name == "local/elsewhere/ds:v0"
    with pytest.raises(InvalidNameError):
        draft().save(project="a/b")
    assert session.catalog.try_project("local", "a/b") is None


def test_save_settings(session: Session, settings: Settings, tmp_path: Path) -> None:
    """The bytes were put into one store, and are wanted in another."""
    other = settings.with_changes(home=tmp_path / "other", project="p", entity="team")
    artifact = draft("x" * 100)
    (tmp_path / "big").write_bytes(b"y" * 2_000_000)
    artifact.add_file(tmp_path / "big")
    artifact.add_file(tmp_path / "big", "again", policy="immutable")
    artifact.save(settings=other)
    assert artifact.qualified_name == "team/p/ds:v0"
    artifact.verify(artifact.download(tmp_path / "out"))
    assert versions(session) == []
    with open_session(other) as opened:
        assert opened.catalog.resolve("team", "p", "ds", "v0").version.digest == artifact.digest


def test_same_content_as_latest_is_no_new_version(session: Session) -> None:
    first = draft()
    first.save()
    again = draft()
    again.description = "dropped"
    again.save()
    assert (again.name, again.id, again.description) == ("ds:v0", first.id, None)
    other = draft("two")
    other.save()
    assert other.version == "v1"
    back = draft("one")
    back.save()
    assert back.version == "v2"  # `latest` had other content
    assert versions(session) == ["ds:v0", "ds:v1", "ds:v2"]


def test_saved_by_several_threads_at_once(session: Session) -> None:
    artifact = draft()
    draft("other", name="ds").save()
    threads = [threading.Thread(target=artifact.save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert versions(session) == ["ds:v0", "ds:v1"]
    assert artifact.version == "v1"


@pytest.mark.parametrize("is_draft", [True, False])
def test_logged_by_several_threads_at_once_it_has_all_their_labels(session: Session, is_draft: bool) -> None:
    artifact = draft()
    if not is_draft:
        artifact.save()
    runs = [init() for _ in range(6)]

    def log(number: int) -> None:
        runs[number].log_artifact(artifact, aliases=f"a{number}", tags=f"t{number}")

    threads = [threading.Thread(target=log, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Api().artifact("ds:v0")
    assert sorted(found.aliases) == ["a0", "a1", "a2", "a3", "a4", "a5", "latest"]
    assert sorted(found.tags) == ["t0", "t1", "t2", "t3", "t4", "t5"]
    for run in runs:
        run.finish()
        assert [logged.name for logged in Api().run(run.id).logged_artifacts()] == ["ds:v0"]


@pytest.mark.parametrize("how", ["file", "folder"])
def test_saved_while_another_thread_adds(session: Session, make_files: Any, how: str) -> None:
    root = make_files("in", {"large": bytes(3_000_000), "other": bytes(3_000_000)})
    artifact = draft()

    def save(told: Progress) -> None:
        if told.phase == "push" and artifact.is_draft():
            thread = threading.Thread(target=artifact.save)
            thread.start()
            thread.join()

    with progress(save), pytest.raises(ArtifactFinalizedError):
        if how == "file":
            artifact.add_file(root / "large")
        else:
            artifact.add_dir(root)
    assert sorted(artifact.manifest.entries) == ["f"]
    if session.remote is None:
        collect_garbage(session.catalog, session.store)  # type: ignore[arg-type] # nobody holds the store any more
    artifact.verify(artifact.download())


def test_saved_while_a_new_file_is_written(session: Session) -> None:
    artifact = draft()
    with pytest.raises(ArtifactFinalizedError), artifact.new_file("g") as stream:
        stream.write("g")
        artifact.save()
    assert sorted(artifact.manifest.entries) == ["f"]


def test_type_conflict(session: Session) -> None:
    draft().save()
    other = draft("two", type="model")
    with pytest.raises(TypeConflictError, match="dataset"):
        other.save()
    assert other.is_draft()
    assert versions(session) == ["ds:v0"]


def test_metadata_changed_in_place_is_checked(session: Session) -> None:
    artifact = draft()
    artifact.metadata["bad"] = float("inf")
    with pytest.raises(InvalidMetadataError):
        artifact.save()
    del artifact.metadata["bad"]
    artifact.metadata["good"] = float("nan")
    artifact.save()
    assert artifact.metadata == {"good": None}


def test_incremental_adds_to_latest(session: Session, make_files: Any) -> None:
    first = Artifact("ds", "dataset", incremental=True)
    first.add_dir(make_files("one", {"a": "1", "d/b": "2", "e/": ""}))
    first.save()
    assert sorted(first.manifest.entries) == ["a", "d/b"]
    more = Artifact("ds", "dataset", incremental=True)
    assert (more.incremental, first.incremental) == (True, False)
    more.add_dir(make_files("two", {"a": "changed", "d/c": "3", "d/e/": "", "g/": ""}))
    assert sorted(more.manifest.entries) == ["a", "d/c"]
    more.save()
    assert sorted(more.manifest.entries) == ["a", "d/b", "d/c"]
    assert Path(more.download(), "a").read_text() == "changed"
    assert sorted(p.name for p in Path(more.download()).rglob("*") if p.is_dir()) == ["d", "e", "e", "g"]
    more.verify()
    nothing = Artifact("ds", "dataset", incremental=True)
    nothing.save()
    assert nothing.version == more.version == "v1"


def test_incremental_removes_no_directory(session: Session) -> None:
    first = Artifact("ds", "dataset")
    for path in ("d/x", "d/y/z", "f"):
        with first.new_file(path) as stream:
            stream.write(path)
    first.save()
    for path in ("d", "d/y", "f/below"):
        more = Artifact("ds", "dataset", incremental=True)
        with more.new_file(path) as stream:
            stream.write("more")
        with pytest.raises(ConflictError, match="director"):
            more.save()
        assert more.is_draft()
    assert versions(session) == ["ds:v0"]


def test_incremental_drafts_at_once_lose_nothing(session: Session) -> None:
    draft("base").save()
    artifacts = []
    for number in range(8):
        artifact = Artifact("ds", "dataset", incremental=True)
        with artifact.new_file(str(number)) as stream:
            stream.write(str(number))
        artifacts.append(artifact)
    threads = [threading.Thread(target=artifact.save) for artifact in artifacts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(Api().artifact("ds").manifest.entries) == [*"01234567", "f"]
    assert sorted(artifact.version for artifact in artifacts) == [f"v{n}" for n in range(1, 9)]


# run.log_artifact ---------------------------------------------------------------------------------


def test_log_artifact_object(session: Session) -> None:
    with init() as run:
        artifact = draft()
        assert run.log_artifact(artifact) is artifact
        assert artifact.name == "ds:v0"
        assert Api().artifact("ds").name == "ds:v0"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ["latest"]),
        ("best", ["best", "latest"]),
        (["a", "b"], ["a", "b", "latest"]),
        (("latest", "latest"), ["latest"]),
        ([], ["latest"]),
    ],
)
def test_log_artifact_aliases(session: Session, given: Any, expected: list[str]) -> None:
    with init() as run:
        artifact = run.log_artifact(draft(), aliases=given)
        assert sorted(artifact.aliases) == expected
        assert sorted(Api().artifact("ds").aliases) == expected


@pytest.mark.parametrize("alias", ["a/b", "a:b", "", "v3", "@x", "x" * 129, "a\n"])
def test_log_artifact_bad_alias(session: Session, alias: str) -> None:
    with init() as run:
        artifact = draft()
        for given in (alias, ["ok", alias]):
            with pytest.raises(ValueError):
                run.log_artifact(artifact, aliases=given)
        assert artifact.is_draft()
        assert versions(session) == []
        artifact.save()
        with pytest.raises(InvalidNameError):
            artifact.aliases = [alias]


@pytest.mark.parametrize(
    ("given", "expected"), [(None, []), ("one", ["one"]), (["b c", "a", "a"], ["a", "b c"])]
)
def test_log_artifact_tags(session: Session, given: Any, expected: list[str]) -> None:
    with init() as run:
        assert sorted(run.log_artifact(draft(), tags=given).tags) == expected


@pytest.mark.parametrize("tag", ["", " a", "a ", "a/b", "a!", "x" * 129])
def test_log_artifact_bad_tag(session: Session, tag: str) -> None:
    with init() as run:
        artifact = draft()
        with pytest.raises(InvalidNameError):
            run.log_artifact(artifact, tags=["ok", tag])
        assert artifact.is_draft()
        artifact.save()
        with pytest.raises(InvalidNameError):
            artifact.tags = [tag]


def test_log_the_same_content_again_adds_labels(session: Session) -> None:
    with init() as run:
        run.log_artifact(draft(), aliases="a", tags="t")
    with init() as again:
        artifact = again.log_artifact(draft(), aliases="b", tags="u")
    assert (artifact.version, sorted(artifact.aliases), sorted(artifact.tags)) == (
        "v0",
        ["a", "b", "latest"],
        ["t", "u"],
    )
    assert [m.name for m in session.catalog.versions_of_run(again.id, used=False)] == ["ds:v0"]
    assert [m.name for m in session.catalog.versions_of_run(run.id, used=False)] == ["ds:v0"]


def test_log_a_logged_artifact_adds_labels(session: Session) -> None:
    with init() as run:
        first = run.log_artifact(draft("one"))
        run.log_artifact(draft("two"))
        first.description = "unsaved"
        run.log_artifact(first, aliases=["old"], tags=["t"])
    assert (first.version, first.aliases, first.tags, first.description) == ("v0", ["old"], ["t"], "unsaved")
    assert versions(session) == ["ds:v0", "ds:v1"]
    assert Api().artifact("ds").version == "v1"
    with (
        init(project="other") as run,
        pytest.raises(ConflictError, match="logged in local/uncategorized already"),
    ):
        run.log_artifact(first)


def test_log_file(session: Session, make_files: Any) -> None:
    path = make_files("in", {"data.csv": "1,2"}) / "data.csv"
    with init() as run:
        artifact = run.log_artifact(str(path))
        assert (artifact.name, artifact.type) == (f"run-{run.id}-data.csv:v0", "unspecified")
        assert list(artifact.manifest.entries) == ["data.csv"]
        named = run.log_artifact(path, name="csv", type="dataset", aliases="best", tags="t")
        assert (named.name, named.type, sorted(named.aliases), named.tags) == (
            "csv:v0",
            "dataset",
            ["best", "latest"],
            ["t"],
        )


def test_log_directory(session: Session, make_files: Any) -> None:
    root = make_files("in", {"a": "1", "d/b": "2"})
    with init() as run:
        artifact = run.log_artifact(f"{root}/", type="dataset")
        assert artifact.name == f"run-{run.id}-in:v0"
        assert sorted(artifact.manifest.entries) == ["a", "d/b"]


def test_log_what_cannot_be_logged(session: Session, make_files: Any) -> None:
    root = make_files("in", {"bad name": "1"})
    with init() as run:
        for path in (root / "nothing", "file:///nothing/there", ""):
            with pytest.raises(ValueError):
                run.log_artifact(path, name="x")
        with pytest.raises(InvalidNameError, match="bad name"):
            run.log_artifact(root / "bad name")
        for thing in (None, 7, {"a": 1}, b"in"):
            with pytest.raises(TypeError):
                run.log_artifact(thing)  # type: ignore[arg-type]
        artifact = draft()
        with pytest.raises(ValueError, match="leave `name` out"):
            run.log_artifact(artifact, name="other")
        with pytest.raises(ValueError, match="leave `type` out"):
            run.log_artifact(artifact, type="other")
        run.log_artifact(artifact, name="ds", type="dataset")
        run.log_artifact(artifact, name="ds", type="dataset")
    assert versions(session) == ["ds:v0"]


def test_not_found_says_what_there_is(session: Session) -> None:
    draft().save()
    with pytest.raises(NotFoundError, match="v0"):
        Api().artifact("ds:v1")
