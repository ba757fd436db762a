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


def move(here: Session, there: Session, *names: str, only: list[int] | None = None, **more: object) -> Exchanged:
    """`only`: of the first of the collections."""
    collections = []
    for name in names:
        found = here.catalog.try_collection(E, P, name)
        assert found is not None
        collections.append(found)
    chosen = None if only is None else {collections[0].id: only}
    return exchange(
        Side(here.catalog, here.store), Side(there.catalog, there.store), collections, only=chosen,
        **more,  # type: ignore[arg-type]
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


def test_a_version_that_went_back_to_an_earlier_content_goes_over_as_well(
    sessions: tuple[Session, Session], history: list[Member], tmp_path: Path
) -> None:
    here, there = sessions
    move(here, there, "cars")
    back = log(here, tmp_path / "1", "cars", aliases=("good",))
    done = move(here, there, "cars")
    assert [moved.created for moved in done.versions] == [False, False, False, True]
    assert there.catalog.resolve(E, P, "cars", "latest").version.digest == back.version.digest
    assert there.catalog.resolve(E, P, "cars", "good").index == back.index
    assert there.catalog.resolve(E, P, "cars", "old").index == 0


def test_an_interrupted_move_that_goes_on_describes_the_collection(
    sessions: tuple[Session, Session], history: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = sessions
    here.catalog.update_collection(history[0].collection_id, description="all cars", tags=["public"])
    here.catalog.link(history[0].version.id, E, P, "best")
    with monkeypatch.context() as patch:
        patch.setattr(type(there.catalog), "set_aliases", interrupted)
        with pytest.raises(KeyboardInterrupt):
            move(here, there, "cars")
    move(here, there, "cars")
    collection = there.catalog.try_collection(E, P, "cars")
    assert collection is not None
    assert (collection.description, collection.tags) == ("all cars", ("public",))


def interrupted(*args: object, **more: object) -> None:
    raise KeyboardInterrupt


def test_what_others_say_of_a_collection_there_is_kept(
    sessions: tuple[Session, Session], history: list[Member]
) -> None:
    here, there = sessions
    here.catalog.update_collection(history[0].collection_id, description="all cars", tags=["public"])
    here.catalog.link(history[0].version.id, E, P, "best")
    move(here, there, "cars", "best")
    for name in ("cars", "best"):
        found = there.catalog.try_collection(E, P, name)
        assert found is not None
        there.catalog.update_collection(found.id, description="theirs", tags=["checked"])
    move(here, there, "cars", "best")
    for name in ("cars", "best"):
        found = there.catalog.try_collection(E, P, name)
        assert found is not None
        assert (found.description, found.tags) == ("theirs", ("checked",))


def test_older_versions_that_come_later_do_not_take_latest(
    sessions: tuple[Session, Session], history: list[Member]
) -> None:
    here, there = sessions
    move(here, there, "cars", only=[5])
    move(here, there, "cars", only=[0])
    assert there.catalog.resolve(E, P, "cars", "latest").index == 5
    done = move(here, there, "cars")
    assert [moved.created for moved in done.versions] == [False, True, False]
    assert there.catalog.resolve(E, P, "cars", "latest").index == 5


def test_latest_goes_over_when_it_was_given_to_an_older_version(
    sessions: tuple[Session, Session], history: list[Member]
) -> None:
    here, there = sessions
    here.catalog.set_aliases(history[1].id, add=["latest"])
    move(here, there, "cars")
    assert there.catalog.resolve(E, P, "cars", "latest").index == history[1].index


def test_latest_of_others_stays_when_an_older_version_comes(
    sessions: tuple[Session, Session], history: list[Member], tmp_path: Path
) -> None:
    here, there = sessions
    move(here, there, "cars")
    first = there.catalog.resolve(E, P, "cars", "old")
    there.catalog.delete_version(first.id, delete_aliases=True)
    theirs = log(there, make(tmp_path / "t", {"x": "theirs"}), "cars")
    done = move(here, there, "cars")
    assert [moved.created for moved in done.versions] == [True, False, False]
    assert there.catalog.resolve(E, P, "cars", "latest").id == theirs.id


def test_a_version_with_the_content_of_the_one_before_it_goes_over(
    sessions: tuple[Session, Session], tmp_path: Path
) -> None:
    here, there = sessions
    one, two = make(tmp_path / "1", {"a": "one"}), make(tmp_path / "2", {"a": "two"})
    log(here, one, "cars")
    between = log(here, two, "cars")
    log(here, one, "cars", description="once more", metadata={"n": 2})
    here.catalog.delete_version(between.id)
    done = move(here, there, "cars")
    assert [(moved.target.index, moved.created) for moved in done.versions] == [(0, True), (2, True)]
    assert there.catalog.resolve(E, P, "cars", "v2").version.description == "once more"
    again = move(here, there, "cars")
    assert [(moved.target.index, moved.created) for moved in again.versions] == [(0, False), (2, False)]


def test_links_that_are_there_are_left_as_they_are(sessions: tuple[Session, Session], history: list[Member]) -> None:
    here, there = sessions
    for member in history[:2]:
        here.catalog.link(member.version.id, E, P, "best")
    assert len(move(here, there, "cars", "best").links) == 2
    first = there.catalog.resolve(E, P, "best", "v0")
    there.catalog.set_aliases(first.id, add=["latest"])
    before = there.catalog.change_token()
    assert move(here, there, "cars", "best").links == []
    assert there.catalog.change_token() == before
    here.catalog.set_aliases(here.catalog.resolve(E, P, "best", "v0").id, add=["prod"])
    move(here, there, "cars", "best")
    assert there.catalog.resolve(E, P, "best", "prod").index == 0
    assert there.catalog.resolve(E, P, "best", "latest").index == 0


def test_finding_that_all_is_there_takes_few_calls(
    sessions: tuple[Session, Session], history: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a network each is a round trip."""
    here, there = sessions
    move(here, there, "cars")
    calls: list[int] = []
    member = type(there.catalog).member
    with monkeypatch.context() as patch:
        patch.setattr(type(there.catalog), "member", lambda self, key: calls.append(key) or member(self, key))
        done = move(here, there, "cars")
    assert [moved.target.aliases for moved in done.versions] == [("old",), (), ("best", "latest")]
    assert calls == []


def test_aliases_that_others_changed_later_stay(sessions: tuple[Session, Session], history: list[Member]) -> None:
    here, there = sessions
    here.catalog.link(history[0].version.id, E, P, "links", ["prod"])
    here.catalog.link(history[1].version.id, E, P, "links")
    move(here, there, "cars", "links")
    there.catalog.set_aliases(there.catalog.resolve(E, P, "cars", "v4").id, add=["old"])
    there.catalog.set_aliases(there.catalog.resolve(E, P, "cars", "v5").id, remove=["best"])
    there.catalog.set_aliases(there.catalog.resolve(E, P, "links", "v1").id, add=["prod"])
    done = move(here, there, "cars", "links")
    assert done.kept == [f"{E}/{P}/cars:old", f"{E}/{P}/cars:best", f"{E}/{P}/links:prod"]
    assert there.catalog.resolve(E, P, "cars", "old").index == 4
    assert "best" not in there.catalog.resolve(E, P, "cars", "v5").aliases
    assert there.catalog.resolve(E, P, "links", "prod").index == 1
    # What is changed here after that goes over.
    here.catalog.set_aliases(history[2].id, add=["old"])
    here.catalog.set_aliases(here.catalog.resolve(E, P, "links", "v0").id, remove=["prod"])
    here.catalog.set_aliases(here.catalog.resolve(E, P, "links", "v0").id, add=["prod"])
    assert move(here, there, "cars", "links").kept == [f"{E}/{P}/cars:best"]
    assert there.catalog.resolve(E, P, "cars", "old").index == 5
    assert there.catalog.resolve(E, P, "links", "prod").index == 0


def test_collections_of_two_entities_do_not_become_one(
    sessions: tuple[Session, Session], history: list[Member], tmp_path: Path
) -> None:
    here, there = sessions
    totals = history[0].version
    here.catalog.commit(NewVersion("me", P, "cars", "dataset", totals.digest, totals.size, totals.file_count))
    both = [*here.catalog.collections(E, P), *here.catalog.collections("me", P)]
    with pytest.raises(ConflictError, match=f"{E}/{P}/cars and me/{P}/cars would both be team/{P}/cars"):
        exchange(Side(here.catalog, here.store), Side(there.catalog, there.store), both, entity="team")
    assert there.catalog.entities() == []
    exchange(Side(here.catalog, here.store), Side(there.catalog, there.store), both)
    assert there.catalog.entities() == [E, "me"]
