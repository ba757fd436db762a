"""Aliases, versions and links."""

from __future__ import annotations

import pytest

from artfs.catalog.base import Catalog
from artfs.errors import (
    AliasInUseError,
    ConflictError,
    InvalidMetadataError,
    InvalidNameError,
    NotFoundError,
    TypeConflictError,
)
from artfs.testing.catalog_contract.making import C, E, P, at, digest, log, new


class VersionsContract:
    def test_an_alias_names_one_member(self, catalog: Catalog) -> None:
        first, second = log(catalog, 1, aliases=("best",)), log(catalog, 2)
        moved = catalog.set_aliases(second.id, add=["best", "new"])
        assert moved.aliases == ("best", "latest", "new")
        assert catalog.member(first.id).aliases == ()
        assert catalog.resolve(E, P, C, "best").index == 1
        assert catalog.set_aliases(second.id, add=["best"], remove=["new", "absent", "v1"]).aliases == ("best", "latest")
        assert catalog.set_aliases(first.id, remove=["best"]).aliases == ()
        assert catalog.resolve(E, P, C, "best").index == 1

    def test_latest_can_be_removed_and_moved(self, catalog: Catalog) -> None:
        first, second = log(catalog, 1), log(catalog, 2)
        catalog.set_aliases(second.id, remove=["latest"])
        with pytest.raises(NotFoundError, match="no aliases; 2 versions"):
            catalog.resolve(E, P, C, "latest")
        catalog.set_aliases(first.id, add=["latest"])
        assert not catalog.commit(new(1)).created
        assert log(catalog, 2).index == 2

    def test_bad_aliases_are_refused(self, catalog: Catalog) -> None:
        member = log(catalog, 1)
        for bad in ("v1", "a:b", "a/b", "", "@x", ".."):
            with pytest.raises(InvalidNameError):
                catalog.set_aliases(member.id, add=["fine", bad])
        with pytest.raises(TypeError):
            catalog.set_aliases(member.id, add="best")
        assert catalog.member(member.id).aliases == ("latest",)
        with pytest.raises(NotFoundError):
            catalog.set_aliases(member.id + 1000, add=["x"])

    def test_every_change_of_an_alias_is_recorded(self, catalog: Catalog) -> None:
        first = log(catalog, 1, aliases=("best",))
        second = log(catalog, 2)
        catalog.set_aliases(second.id, add=["best"])
        catalog.set_aliases(second.id, add=["best"], remove=["absent"])
        catalog.set_aliases(second.id, remove=["best"])
        history = catalog.alias_history(first.collection_id)
        assert [event[1:] for event in history] == [
            ("latest", 0), ("best", 0), ("latest", 1), ("best", 1), ("best", None),
        ]
        assert [event[0] for event in history] == sorted(event[0] for event in history)
        assert (history[0][0], history[2][0]) == (first.created_at, second.created_at)
        assert len({event[0] for event in history}) == 4

    def test_a_version_can_be_described_and_tagged_everywhere_at_once(self, catalog: Catalog) -> None:
        member = log(catalog, 1, description="old", metadata={"n": 1}, tags=("a", "b"))
        link = catalog.link(member.version.id, E, P, "prod")
        changed = catalog.update_version(
            member.version.id, description="new", metadata={"n": 2}, add_tags=["c", "a"], remove_tags=["b", "x"]
        )
        assert (changed.description, changed.metadata, changed.tags) == ("new", {"n": 2}, ("a", "c"))
        assert changed.updated_at > changed.created_at
        assert catalog.member(link.id).version == catalog.member(member.id).version == changed
        assert catalog.update_version(member.version.id) == changed
        assert catalog.update_version(member.version.id, description=None, metadata={}).description is None
        with pytest.raises(InvalidNameError):
            catalog.update_version(member.version.id, add_tags=["a/b"])
        with pytest.raises(InvalidMetadataError):
            catalog.update_version(member.version.id, metadata={"x": float("inf")})

    def test_a_version_with_aliases_is_deleted_only_on_request(self, catalog: Catalog) -> None:
        first = log(catalog, 1, aliases=("best",))
        log(catalog, 2)
        with pytest.raises(AliasInUseError, match="cars:best"):
            catalog.delete_version(first.id)
        catalog.delete_version(first.id, delete_aliases=True)
        assert [member.index for member in catalog.members(first.collection_id)] == [1]
        with pytest.raises(NotFoundError, match="v0 was deleted"):
            catalog.resolve(E, P, C, "v0")
        with pytest.raises(NotFoundError):
            catalog.resolve(E, P, C, "best")
        assert catalog.member(first.id).version.state == "DELETED"
        assert list(catalog.live_roots()) == [digest(2)]

    def test_a_deleted_version_cannot_be_changed(self, catalog: Catalog) -> None:
        gone = log(catalog, 1)
        log(catalog, 2)
        catalog.delete_version(gone.id)
        run = catalog.create_run(E, P)
        for act in (
            lambda: catalog.delete_version(gone.id),
            lambda: catalog.set_aliases(gone.id, add=["x"]),
            lambda: catalog.update_version(gone.version.id, description="x"),
            lambda: catalog.link(gone.version.id, E, P, "prod"),
            lambda: catalog.record_use(run.id, gone.version.id),
        ):
            with pytest.raises(NotFoundError, match="deleted"):
                act()
        assert catalog.try_collection(E, P, "prod") is None

    def test_latest_moves_to_the_newest_that_stays(self, catalog: Catalog) -> None:
        members = [log(catalog, number) for number in range(3)]
        catalog.delete_version(members[1].id)
        with pytest.raises(AliasInUseError, match="cars:latest"):
            catalog.delete_version(members[2].id)
        catalog.delete_version(members[2].id, delete_aliases=True)
        assert catalog.resolve(E, P, C, "latest").index == 0
        catalog.delete_version(members[0].id, delete_aliases=True)
        with pytest.raises(NotFoundError, match="no versions"):
            catalog.resolve(E, P, C, "latest")
        assert [event[1:] for event in catalog.alias_history(members[0].collection_id)[-2:]] == [
            ("latest", 0), ("latest", None),
        ]

    def test_an_index_is_never_used_again(self, catalog: Catalog) -> None:
        for number in range(3):
            member = log(catalog, number)
            catalog.delete_version(member.id, delete_aliases=True)
        assert log(catalog, 0).index == 3

    def test_a_link_is_a_place_in_a_portfolio(self, catalog: Catalog) -> None:
        log(catalog, 0)
        source = log(catalog, 1, type="dataset", tags=("t",))
        link = catalog.link(source.version.id, E, "registry", "prod", ["live"])
        assert (link.qualified_name, link.aliases, link.is_link) == (f"{E}/registry/prod:v0", ("latest", "live"), True)
        assert catalog.member(source.id) == source
        assert (link.version, link.version.source_index) == (source.version, 1)
        portfolio = catalog.try_collection(E, "registry", "prod")
        assert portfolio is not None
        assert (portfolio.kind, portfolio.type, portfolio.id) == ("portfolio", "dataset", link.collection_id)
        assert catalog.memberships(source.version.id) == [source, link]
        assert catalog.resolve(E, "registry", "prod", "live") == link
        assert list(catalog.versions()) == [catalog.resolve(E, P, C, "v0"), source]

    def test_linking_again_keeps_the_index_and_moves_latest(self, catalog: Catalog) -> None:
        first, second = log(catalog, 1), log(catalog, 2)
        link = catalog.link(first.version.id, E, P, "prod", ["a"])
        catalog.link(second.version.id, E, P, "prod")
        again = catalog.link(first.version.id, E, P, "prod", ["b"])
        assert (again.id, again.index, again.aliases) == (link.id, 0, ("a", "b", "latest"))
        assert [member.index for member in catalog.members(link.collection_id)] == [0, 1]

    def test_versions_are_linked_to_portfolios_of_their_type_only(self, catalog: Catalog) -> None:
        data, model = log(catalog, 1), log(catalog, 1, "net", type="model")
        catalog.create_collection(E, P, "prod", kind="portfolio")
        catalog.link(model.version.id, E, P, "prod")
        with pytest.raises(TypeConflictError, match="model"):
            catalog.link(data.version.id, E, P, "prod")
        with pytest.raises(ConflictError, match="net"):
            catalog.link(model.version.id, E, P, "net")
        with pytest.raises(InvalidNameError):
            catalog.link(model.version.id, E, P, "other", ["v1"])
        with pytest.raises(NotFoundError):
            catalog.link(10**6, E, P, "other")
        assert catalog.try_collection(E, P, "other") is None

    def test_unlinking_takes_the_link_only(self, catalog: Catalog) -> None:
        first, second = log(catalog, 1), log(catalog, 2)
        kept = catalog.link(first.version.id, E, P, "prod")
        gone = catalog.link(second.version.id, E, P, "prod", ["live"])
        catalog.unlink(gone.id)
        assert [member.index for member in catalog.members(kept.collection_id)] == [0]
        assert catalog.resolve(E, P, "prod", "latest").index == 0
        assert catalog.resolve(E, P, C, "latest") == second
        with pytest.raises(NotFoundError, match="v1 was unlinked"):
            catalog.resolve(E, P, "prod", "v1")
        with pytest.raises(NotFoundError, match=r"v1 was latest at .* unlinked or deleted since"):
            catalog.resolve(E, P, "prod", at(gone.created_at))
        with pytest.raises(NotFoundError):
            catalog.unlink(gone.id)
        assert catalog.link(second.version.id, E, P, "prod").index == 2

    def test_a_source_cannot_be_unlinked(self, catalog: Catalog) -> None:
        source = log(catalog, 1)
        with pytest.raises(ConflictError, match="delete"):
            catalog.unlink(source.id)

    def test_deleting_a_link_is_unlinking(self, catalog: Catalog) -> None:
        source = log(catalog, 1)
        link = catalog.link(source.version.id, E, P, "prod", ["live"])
        catalog.delete_version(link.id)
        assert catalog.members(link.collection_id) == []
        assert catalog.resolve(E, P, C, "latest").version.state == "COMMITTED"

    def test_deleting_a_source_takes_its_links(self, catalog: Catalog) -> None:
        source = log(catalog, 1)
        catalog.set_aliases(source.id, remove=["latest"])
        link = catalog.link(source.version.id, E, P, "prod")
        with pytest.raises(AliasInUseError, match="prod:latest"):
            catalog.delete_version(source.id)
        catalog.delete_version(source.id, delete_aliases=True)
        assert catalog.members(link.collection_id) == []
        with pytest.raises(NotFoundError):
            catalog.member(link.id)
        assert [member.id for member in catalog.memberships(source.version.id)] == [source.id]
