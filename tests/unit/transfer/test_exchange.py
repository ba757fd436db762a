"""Moving versions from one catalog to another."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from artfs.api.session import Session, open_session
from artfs.errors import BadBlobError, ConflictError, TypeConflictError
from artfs.model.manifest import Manifest
from artfs.model.records import Member, NewVersion
from artfs.settings import Settings
from artfs.testing.store_contract import some_bytes
from artfs.testing.trees import make
from artfs.transfer.exchange import Exchanged, Side, exchange
from artfs.transfer.push import push_directory

E, P = "local", "vision"


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[tuple[Session, Session]]:
    with open_session(Settings(tmp_path / "here")) as here, open_session(Settings(tmp_path / "there")) as there:
        yield here, there


def log(session: Session, folder: Path, collection: str, **fields: object) -> Member:
    with session.store.begin() as batch:
        pushed = push_directory(batch, folder)
        batch.sync()
        return session.catalog.commit(
            NewVersion(
                E, P, collection, "dataset", pushed.root, pushed.totals.size, pushed.totals.file_count,
                **fields,  # type: ignore[arg-type]
            )
        ).member


def move(here: Session, there: Session, *names: str, **more: object) -> Exchanged:
    collections = []
    for name in names:
        found = here.catalog.try_collection(E, P, name)
        assert found is not None
        collections.append(found)
    return exchange(
        Side(here.catalog, here.store), Side(there.catalog, there.store), collections, **more  # type: ignore[arg-type]
    )


def content(session: Session, member: Member) -> dict[str, str]:
    manifest = Manifest(session.pages, member.version.digest)
    for _, entry in manifest.files():
        fd = session.store.open_blob(entry.digest)
        assert os.fstat(fd).st_size == entry.size
        os.close(fd)
    return {path: entry.digest for path, entry in manifest.files()}


@pytest.fixture
def history(sessions: tuple[Session, Session], tmp_path: Path) -> list[Member]:
    here, _ = sessions
    then = datetime(2025, 1, 2, tzinfo=UTC)
    first = make(tmp_path / "1", {"a/b": "one", "big": some_bytes(3_000_000), "run*": "x"})
    second = make(tmp_path / "2", {"a/b": "two", "big": some_bytes(3_000_000), "run*": "x"})
    third = make(tmp_path / "3", {"c": "three"})
    return [
        log(here, first, "cars", aliases=("old",), metadata={"n": 1}, description="the first", created_at=then),
        log(here, second, "cars", tags=("clean",), index=4),
        log(here, third, "cars", aliases=("best",)),
    ]


def test_a_collection_goes_over_with_all_that_belongs_to_it(
    sessions: tuple[Session, Session], history: list[Member]
) -> None:
    here, there = sessions
    here.catalog.update_collection(history[0].collection_id, description="all cars", tags=["public"])
    done = move(here, there, "cars")
    assert [moved.created for moved in done.versions] == [True, True, True]
    collection = there.catalog.try_collection(E, P, "cars")
    assert collection is not None
    assert (collection.description, collection.tags, collection.type) == ("all cars", ("public",), "dataset")
    members = there.catalog.members(collection.id)
    for mine, theirs in zip(here.catalog.members(history[0].collection_id), members, strict=True):
        assert (mine.index, mine.aliases, mine.version.digest) == (theirs.index, theirs.aliases, theirs.version.digest)
        assert (mine.version.metadata, mine.version.tags) == (theirs.version.metadata, theirs.version.tags)
        assert (mine.version.description, mine.version.created_at) == (theirs.version.description, theirs.version.created_at)
        assert content(there, theirs) == content(here, mine)
    assert there.catalog.resolve(E, P, "cars", "@2025-02-01").index == 0


def test_twice_is_once_and_only_what_is_missing_travels(
    sessions: tuple[Session, Session], history: list[Member], tmp_path: Path
) -> None:
    here, there = sessions
    first = move(here, there, "cars")
    again = move(here, there, "cars")
    assert [moved.created for moved in again.versions] == [False] * 3
    assert (again.nbytes, again.blobs) == (0, 0)
    fourth = make(tmp_path / "4", {"a/b": "four", "big": some_bytes(3_000_000)})
    log(here, fourth, "cars")
    more = move(here, there, "cars")
    assert [moved.created for moved in more.versions] == [False, False, False, True]
    assert more.nbytes < 1000 < first.nbytes
    assert more.versions[-1].target.aliases == ("latest",)


def test_single_versions_can_go(sessions: tuple[Session, Session], history: list[Member]) -> None:
    here, there = sessions
    done = move(here, there, "cars", only=[4])
    (moved,) = done.versions
    assert (moved.target.index, moved.target.aliases) == (4, ("latest",))


def test_a_collection_that_has_versions_there_gets_new_indexes(
    sessions: tuple[Session, Session], history: list[Member], tmp_path: Path
) -> None:
    here, there = sessions
    theirs = log(there, make(tmp_path / "t", {"x": "theirs"}), "cars")
    done = move(here, there, "cars")
    assert [moved.target.index for moved in done.versions] == [1, 4, 5]
    assert there.catalog.member(theirs.id).version.state == "COMMITTED"


def test_links_go_over_with_what_they_lead_to(sessions: tuple[Session, Session], history: list[Member], tmp_path: Path) -> None:
    here, there = sessions
    other = log(here, make(tmp_path / "o", {"y": "other"}), "other")
    for member, alias in ((history[0], "prod"), (other, "gone")):
        here.catalog.link(member.version.id, E, P, "best", [alias])
    done = move(here, there, "best", "cars")
    assert [member.qualified_name for member in done.links] == [f"{E}/{P}/best:v0"]
    assert there.catalog.resolve(E, P, "best", "prod").version.source_index == 0
    assert [member.version.id for member in done.left_out] == [other.version.id]


def test_another_entity(sessions: tuple[Session, Session], history: list[Member]) -> None:
    here, there = sessions
    move(here, there, "cars", entity="team")
    assert there.catalog.entities() == ["team"]


def test_what_does_not_fit_is_refused(sessions: tuple[Session, Session], history: list[Member], tmp_path: Path) -> None:
    here, there = sessions
    there.catalog.create_collection(E, P, "cars", type="model")
    with pytest.raises(TypeConflictError):
        move(here, there, "cars")
    member = log(there, make(tmp_path / "m", {"x": "1"}), "source")
    there.catalog.link(member.version.id, E, P, "links")
    log(here, make(tmp_path / "n", {"x": "1"}), "links")
    with pytest.raises(ConflictError, match="holds links there"):
        move(here, there, "links")


def test_a_damaged_blob_does_not_get_there(sessions: tuple[Session, Session], history: list[Member]) -> None:
    here, there = sessions
    digest = content(here, history[2])["c"]
    path = here.store.path_of(digest)
    path.chmod(0o644)
    path.write_bytes(b"eerht")
    with pytest.raises(BadBlobError, match=digest):
        move(here, there, "cars", only=[5])
    assert there.catalog.entities() == []
