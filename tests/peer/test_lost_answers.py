"""A change whose answer got lost is asked for again, and made once: what somebody else has done in between stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artfs.catalog.base import Catalog
from artfs.client.catalog import RemoteCatalog
from artfs.client.http import Http
from artfs.testing.catalog_contract.making import C, E, P, log, new
from artfs.testing.faultproxy import Fault, FaultProxy
from artfs.testing.serving import ServerProcess


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(["-m", "artfs.testing.nameserver", str(tmp_path / "catalog.db")]) as server:
        yield server


@pytest.fixture
def other(server: ServerProcess) -> Iterator[RemoteCatalog]:
    with RemoteCatalog(Http(server.url, "")) as catalog:
        yield catalog


@pytest.fixture
def losing(server: ServerProcess) -> Iterator[Callable[[Callable[[Catalog], Any], Callable[[], object]], Any]]:
    """Makes a change whose first answer is lost, and calls `meanwhile` before it is asked for again. Returns what it answers."""
    with FaultProxy(server.url) as proxy, RemoteCatalog(Http(proxy.url, "")) as catalog:

        def lose(change: Callable[[Catalog], Any], meanwhile: Callable[[], object]) -> Any:
            lost: list[str] = []

            def saw(reached: bool, what: str) -> None:
                if not reached:
                    lost.append(what)
                    meanwhile()

            catalog.http.on_contact = saw
            proxy.add(Fault("reset", after=0, match="/v1/"))
            answer = change(catalog)
            assert len(lost) == 1
            return answer

        yield lose


def test_a_commit_makes_one_version_and_moves_no_alias_back(losing: Any, other: RemoteCatalog) -> None:
    log(other, "before")
    done = losing(
        lambda catalog: catalog.commit(new("mine", aliases=("best",))), lambda: log(other, "theirs", aliases=("best",))
    )
    assert (done.created, done.member.index, done.member.aliases) == (True, 1, ("best", "latest"))
    members = other.members(done.member.collection_id)
    assert [(member.index, member.aliases) for member in members] == [(0, ()), (1, ()), (2, ("best", "latest"))]


def test_a_commit_of_what_was_there_stays_one(losing: Any, other: RemoteCatalog) -> None:
    first = log(other, "same")
    done = losing(lambda catalog: catalog.commit(new("same")), lambda: log(other, "theirs"))
    assert (done.created, done.member.id) == (False, first.id)
    assert [member.index for member in other.members(first.collection_id)] == [0, 1]
    assert other.resolve(E, P, C, "latest").index == 1


def test_an_alias_stays_where_somebody_moved_it(losing: Any, other: RemoteCatalog) -> None:
    first, second = log(other, 1), log(other, 2)
    changed = losing(
        lambda catalog: catalog.set_aliases(first.id, add=["best"]), lambda: other.set_aliases(second.id, add=["best"])
    )
    assert changed.aliases == ("best",)
    assert other.resolve(E, P, C, "best").id == second.id


def test_a_description_is_not_put_back(losing: Any, other: RemoteCatalog) -> None:
    version = log(other, 1).version
    changed = losing(
        lambda catalog: catalog.update_version(version.id, description="mine", add_tags=["a"]),
        lambda: other.update_version(version.id, description="theirs", remove_tags=["a"]),
    )
    assert (changed.description, changed.tags) == ("mine", ("a",))
    (member,) = other.memberships(version.id)
    assert (member.version.description, member.version.tags) == ("theirs", ())


def test_a_link_moves_latest_once(losing: Any, other: RemoteCatalog) -> None:
    first, second = log(other, 1), log(other, 2)
    linked = losing(
        lambda catalog: catalog.link(first.version.id, E, P, "best"), lambda: other.link(second.version.id, E, P, "best")
    )
    assert linked.index == 0
    assert other.resolve(E, P, "best", "latest").index == 1


def test_one_run_begins(losing: Any, other: RemoteCatalog) -> None:
    run = losing(lambda catalog: catalog.create_run(E, P), lambda: None)
    assert other.runs(E, P) == [run]
