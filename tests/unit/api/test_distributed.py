"""One version that several runs make: upsert_artifact and finish_artifact."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.media.table import Table
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import (
    ArtifactFinalizedError,
    ArtifactNotLoggedError,
    ConflictError,
    InvalidNameError,
    NotFoundError,
    TypeConflictError,
)
from artfs.transfer.gc import collect_garbage


def draft(files: dict[str, str], name: str = "ds", type: str = "dataset", **more: Any) -> Artifact:
    artifact = Artifact(name, type, **more)
    for path, text in files.items():
        with artifact.new_file(path) as stream:
            stream.write(text)
    return artifact


def texts(artifact: Artifact, root: Path) -> dict[str, str]:
    folder = Path(artifact.download(root))
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_runs_of_a_group_make_one_version(session: Session, tmp_path: Path) -> None:
    runs = []
    for number in range(3):
        with init(project="p", group="job") as run:
            part = draft({f"part{number}": str(number), "last": str(number)})
            assert run.upsert_artifact(part, aliases=[f"a{number}"]) is part
            runs.append(run.id)
        assert part.is_draft()
        assert (part.state, part.distributed_id) == ("PENDING", "job")
        assert part.wait() is part
        with pytest.raises(ArtifactNotLoggedError):
            part.version  # noqa: B018
    assert not Api().artifact_exists("p/ds")
    with init(project="p", group="job") as run:
        made = run.finish_artifact(draft({"own": "x"}, description="all", metadata={"n": 3}), aliases="whole")
        runs.append(run.id)
    assert (made.qualified_name, made.file_count, made.description, made.metadata) == ("local/p/ds:v0", 5, "all", {"n": 3})
    assert sorted(made.aliases) == ["a0", "a1", "a2", "latest", "whole"]
    assert texts(made, tmp_path / "out") == {"part0": "0", "part1": "1", "part2": "2", "last": "2", "own": "x"}
    assert (found := made.logged_by()) is not None
    assert found.id == runs[-1]
    assert [[it.name for it in Api().run(f"p/{one}").logged_artifacts()] for one in runs] == [["ds:v0"]] * 4


def test_a_distributed_id_is_needed(session: Session) -> None:
    with init() as run:
        for act in (run.upsert_artifact, run.finish_artifact):
            with pytest.raises(TypeError, match="needs a distributed_id, or a run with a group"):
                act(draft({"f": "1"}))
            with pytest.raises(InvalidNameError):
                act(draft({"f": "1"}), distributed_id="a\nb")
        one = draft({"f": "1"})
        with pytest.raises(InvalidNameError):
            one.distributed_id = ""
        one.distributed_id = "mine"
        run.upsert_artifact(one)
        assert run.finish_artifact(draft({}), distributed_id="mine").file_count == 1
        assert run.finish_artifact(draft({"f": "2"}), distributed_id="mine").file_count == 1


def test_ids_and_names_keep_parts_apart(session: Session) -> None:
    with init(group="one") as run:
        run.upsert_artifact(draft({"one": "1"}))
        run.upsert_artifact(draft({"two": "1"}), distributed_id="two")
        run.upsert_artifact(draft({"far": "1"}, name="other"))
        run.log_artifact(draft({"log": "1"}))
        assert sorted(run.finish_artifact(draft({})).manifest.entries) == ["one"]
        assert sorted(run.finish_artifact(draft({}), distributed_id="two").manifest.entries) == ["two"]
        assert sorted(run.finish_artifact(draft({}, name="other")).manifest.entries) == ["far"]


def test_what_comes_after_belongs_to_the_next_version(session: Session) -> None:
    with init(group="job") as run:
        run.upsert_artifact(draft({"a": "1"}))
        assert run.finish_artifact(draft({"b": "1"})).version == "v0"
        run.upsert_artifact(draft({"c": "1"}))
        later = run.finish_artifact(draft({"d": "1"}))
        assert (later.version, sorted(later.manifest.entries)) == ("v1", ["c", "d"])


def test_a_part_may_make_the_version_itself(session: Session) -> None:
    with init(group="job") as run:
        one, two = draft({"a": "1"}), draft({"b": "1"})
        run.upsert_artifact(one)
        run.upsert_artifact(two)
        assert run.finish_artifact(one) is one
        assert (one.version, sorted(one.manifest.entries)) == ("v0", ["a", "b"])
        with pytest.raises(ConflictError, match="another run has made the version"):
            run.finish_artifact(two)
        assert two.is_draft()
        for again in (run.upsert_artifact, run.finish_artifact):
            with pytest.raises(ArtifactFinalizedError):
                again(one)


def test_a_part_is_none_by_itself(session: Session) -> None:
    with init(group="job") as run:
        part = draft({"a": "1"})
        run.upsert_artifact(part)
        with pytest.raises(ArtifactFinalizedError, match=r"a part of a version that run\.finish_artifact makes"):
            run.log_artifact(part)
        with pytest.raises(ArtifactFinalizedError):
            part.save()
        with pytest.raises(ArtifactFinalizedError):
            run.upsert_artifact(part)
        with pytest.raises(ArtifactFinalizedError):
            part.new_file("b")
    assert not Api().artifact_exists("ds")


def test_parts_that_cannot_be(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    with init(group="job") as run:
        with pytest.raises(TypeConflictError):
            run.upsert_artifact(draft({"f": "2"}, type="model"))
        with pytest.raises(InvalidNameError):
            run.upsert_artifact(draft({"f": "2"}), aliases=["a/b"])
        with pytest.raises(TypeError, match="upsert_artifact takes an Artifact or a path, not int"):
            run.upsert_artifact(3)  # type: ignore[arg-type]
        assert session.catalog.parts("local", "uncategorized", "ds", "job") == []
    with pytest.raises(ConflictError, match="is finished"):
        run.upsert_artifact(draft({"f": "2"}))
    with pytest.raises(ConflictError, match="is finished"):
        run.finish_artifact(draft({"f": "2"}))


def test_a_path_is_a_file_or_a_directory_in_all_parts(session: Session) -> None:
    with init(group="job") as run:
        run.upsert_artifact(draft({"a": "1"}))
        run.upsert_artifact(draft({"a/b": "1"}))
        whole = draft({})
        with pytest.raises(ConflictError, match="'a' is a file or link, and a directory"):
            run.finish_artifact(whole)
    assert whole.is_draft()
    assert not Api().artifact_exists("ds")


def test_paths_and_empty_folders_are_parts(session: Session, make_files: Any) -> None:
    root = make_files("in", {"one/a": "1", "one/empty/": "", "two": "2"})
    with init(group="job") as run:
        run.upsert_artifact(root / "one", name="ds", type="dataset")
        made = run.finish_artifact(str(root / "two"), name="ds", type="dataset")
        assert sorted(made.manifest.entries) == ["a", "two"]
        assert (Path(made.download()) / "empty").is_dir()


def test_tables_of_parts(session: Session) -> None:
    tables = [Table(columns=["n"], data=[[number]]) for number in range(3)]
    for number, table in enumerate(tables):
        with init(group="job") as run:
            part = draft({})
            part.add(table, f"t{number}")
            (run.finish_artifact if number == 2 else run.upsert_artifact)(part)
    made = Api().artifact("ds:latest")
    assert [made.get(f"t{number}") for number in range(3)] == tables


def test_an_incremental_draft_adds_its_parts_to_latest(session: Session, log_files: Any) -> None:
    log_files("ds", {"old": "1"})
    with init(group="job") as run:
        run.upsert_artifact(draft({"a": "1"}))
        made = run.finish_artifact(draft({"b": "1"}, incremental=True))
    assert sorted(made.manifest.entries) == ["a", "b", "old"]


@pytest.mark.embedded("sweeps")
def test_parts_are_kept_by_a_sweep(session: Session, tmp_path: Path) -> None:
    with init(group="job") as run:
        run.upsert_artifact(draft({"a": "kept"}))
        gone = draft({"x": "gone"})
        digest = gone.manifest.entries["x"].digest
        del gone
        collect_garbage(session.catalog, session.store)
        assert session.store.try_size(digest) is None
        assert texts(run.finish_artifact(draft({})), tmp_path / "out") == {"a": "kept"}


def test_runs_contribute_at_the_same_time(session: Session) -> None:
    def contribute(number: int) -> None:
        with init(project="p", group="job") as run:
            run.upsert_artifact(draft({f"part{number}": str(number)}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(contribute, range(24)))
    with init(project="p", group="job") as run:
        assert run.finish_artifact(draft({})).file_count == 24


def test_what_comes_while_the_version_is_made_is_in_it(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    with init(group="job") as run:
        run.upsert_artifact(draft({"a": "1"}))
        commit, late = session.catalog.commit, [draft({"b": "1"})]

        def slow(new: Any) -> Any:
            if late:
                run.upsert_artifact(late.pop())
            return commit(new)

        monkeypatch.setattr(session.catalog, "commit", slow)
        made = run.finish_artifact(draft({}))
    assert sorted(made.manifest.entries) == ["a", "b"]


def test_a_draft_of_a_version_is_a_part_of_its_project_only(session: Session, log_files: Any) -> None:
    log_files("ds", {"f": "1"})
    with init(project="other", group="job") as run, pytest.raises(ConflictError, match="began with a version of"):
        run.upsert_artifact(Api().artifact("ds").new_draft())
    with pytest.raises(NotFoundError):
        Api().artifact("other/ds")
