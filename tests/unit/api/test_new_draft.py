"""A draft of what a version holds, and where files of this machine went in a draft."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.public import Api
from artfs.api.session import Session, open_session
from artfs.errors import ConflictError, NotFoundError
from artfs.settings import Settings
from artfs.transfer.gc import collect_garbage


def everything(session: Session, make_files: Any) -> Artifact:
    root = make_files("in", {"a": "1", "d/b": "22", "d/run.sh": "x", "empty/": "", "big": b"z" * 2_000_000})
    (root / "d" / "run.sh").chmod(0o755)
    os.symlink("b", root / "d" / "link")
    artifact = Artifact("ds", "dataset", description="what it is", metadata={"n": [1]})
    artifact.add_dir(root)
    with init() as run:
        run.log_artifact(artifact, aliases="best", tags="t")
    return artifact


def test_a_draft_has_the_content(session: Session, make_files: Any, tmp_path: Path) -> None:
    version = everything(session, make_files)
    draft = version.new_draft()
    assert (draft.is_draft(), draft.name, draft.type, draft.state) == (True, "ds", "dataset", "PENDING")
    assert (draft.description, draft.metadata) == ("what it is", {"n": [1]})
    assert (draft.digest, draft.size) == (version.digest, version.size)
    assert dict(draft.manifest.entries) == dict(version.manifest.entries)
    assert draft.get_added_local_path_name(str(tmp_path / "in" / "a")) is None
    draft.metadata["n"].append(2)
    assert version.metadata == {"n": [1]}


def test_logged_unchanged_it_is_no_new_version(session: Session, make_files: Any) -> None:
    version = everything(session, make_files)
    draft = version.new_draft()
    draft.save()
    assert (draft.version, draft.id) == ("v0", version.id)


def test_changed_it_is_the_next_version(session: Session, make_files: Any) -> None:
    version = everything(session, make_files)
    draft = version.new_draft()
    draft.remove("d/b")
    with draft.new_file("new") as stream:
        stream.write("new")
    with draft.new_file("a", "a") as stream:
        stream.write(" and more")
    draft.save()
    assert (draft.version, draft.aliases, draft.tags) == ("v1", ["latest"], [])
    assert sorted(draft.manifest.entries) == ["a", "big", "d/link", "d/run.sh", "new"]
    root = Path(draft.download())
    assert (root / "a").read_text() == "1 and more"
    assert (root / "empty").is_dir()
    assert os.access(root / "d" / "run.sh", os.X_OK)
    draft.verify()
    assert Api().artifact("ds:v0").manifest.entries["a"].size == 1


def test_a_draft_of_a_link_is_of_its_source(session: Session, log_files: Any) -> None:
    link = log_files("ds", {"f": "1"}).link("team/other/best")
    draft = link.new_draft()
    with draft.new_file("g") as stream:
        stream.write("2")
    draft.save()
    assert draft.qualified_name == "local/uncategorized/ds:v1"


def test_it_goes_where_its_version_was_logged(session: Session) -> None:
    version = Artifact("ds", "dataset")
    with init(project="p", entity="team"):
        version.save()
    draft = version.new_draft()
    with draft.new_file("f") as stream:
        stream.write("1")
    with init(project="q", entity="team") as run, pytest.raises(ConflictError, match="began with a version of team/p"):
        run.log_artifact(draft)
    with pytest.raises(ValueError, match="cannot log it"):
        draft.save(project="q")
    assert draft.is_draft()
    draft.save()
    assert draft.qualified_name == "team/p/ds:v1"


def test_it_goes_into_the_state_folder_of_its_version(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    with open_session(settings.with_changes(home=tmp_path / "other")) as other:
        with init(session=other):
            Artifact("ds", "dataset").save()
        draft = Api(session=other).artifact("ds").new_draft()
        with draft.new_file("f") as stream:
            stream.write("1")
        draft.save()
        assert Api(session=other).artifact("ds").version == "v1"
    assert not Api().artifact_exists("ds")


@pytest.mark.embedded("sweeps")
def test_its_content_outlives_the_version(session: Session, log_files: Any) -> None:
    version = log_files("ds", {"f": "1"})
    draft = version.new_draft()
    version.delete(delete_aliases=True)
    with pytest.raises(NotFoundError, match="was deleted"):
        version.new_draft()
    draft.description = "kept"
    draft.save()
    with open_session(session.settings) as own:
        assert collect_garbage(own.catalog, own.store).removed == 0  # type: ignore[arg-type]
    assert (draft.version, draft.description) == ("v1", "kept")
    draft.verify()


# where files of this machine went -----------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_added_local_path_name(session: Session, make_files: Any, monkeypatch: Any, policy: Any) -> None:
    root = make_files("in", {"a": "1", "d/b": "2", "other": "3"})
    artifact = Artifact("ds", "dataset")
    artifact.add_file(root / "a", "renamed", policy=policy)
    artifact.add_dir(root / "d", name="below", policy=policy)
    artifact.add_dir(root / "d", policy=policy)

    def check() -> None:
        assert artifact.get_added_local_path_name(local_path=str(root / "a")) == "renamed"
        assert artifact.get_added_local_path_name(str(root / "d" / "b")) == "b"
        for other in (root / "other", root / "d", root / "d" / "nothing", root / "db", "a"):
            assert artifact.get_added_local_path_name(str(other)) is None

    check()
    artifact.remove("renamed")
    check()
    artifact.save()
    check()
    monkeypatch.chdir(root)
    assert artifact.get_added_local_path_name("./a") == "renamed"
    assert artifact.get_added_local_path_name("d/b") == "b"
    assert Api().artifact("ds").get_added_local_path_name(str(root / "a")) is None


def test_added_local_path_name_is_of_the_last_addition(session: Session, make_files: Any) -> None:
    root = make_files("in", {"a": "1"})
    artifact = Artifact("ds", "dataset")
    artifact.add_dir(root, "one")
    artifact.add_dir(root, "two")
    assert artifact.get_added_local_path_name(f"{root}/a") == "two/a"
    artifact.add_file(root / "a", "itself")
    assert artifact.get_added_local_path_name(f"{root}/a") == "itself"
    artifact.add_file(root / "a", "a.tmp", is_tmp=True)
    assert artifact.get_added_local_path_name(f"{root}/a") == "6b86b273ff34fce19d6b.tmp"


def test_a_file_that_could_not_be_added_was_not_added(session: Session, make_files: Any) -> None:
    root = make_files("in", {"a": "1", "b": "2"})
    artifact = Artifact("ds", "dataset")
    artifact.add_file(root / "a", "x")
    with pytest.raises(ValueError):
        artifact.add_file(root / "b", "x")
    assert artifact.get_added_local_path_name(str(root / "b")) is None
