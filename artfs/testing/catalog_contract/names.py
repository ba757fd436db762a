"""Projects and collections."""

from __future__ import annotations

import pytest

from artfs.catalog.base import Catalog
from artfs.errors import (
    ConflictError,
    InvalidNameError,
    NotFoundError,
    TypeConflictError,
)
from artfs.model.paging import PageRequest
from artfs.testing.catalog_contract.making import C, E, P, digest, log, new


class NamesContract:
    def test_an_empty_catalog_has_nothing(self, catalog: Catalog) -> None:
        assert catalog.entities() == []
        assert catalog.projects(E) == []
        assert catalog.try_project(E, P) is None
        assert catalog.try_collection(E, P, C) is None
        assert list(catalog.live_roots()) == []
        assert list(catalog.versions()) == []

    def test_projects_are_listed_by_name_for_each_entity(self, catalog: Catalog) -> None:
        for name in ("zebra", "ant", "Moth"):
            catalog.create_project(E, name)
        catalog.create_project("team", "bee")
        assert [project.name for project in catalog.projects(E)] == ["Moth", "ant", "zebra"]
        assert catalog.entities() == [E, "team"]
        assert catalog.try_project("team", "ant") is None

    def test_names_sort_by_their_code_points(self, catalog: Catalog) -> None:
        """Whatever order a database has for words of a language."""
        projects = ["b", "B", "a b", "ab", "a-c", "é", "z", "Z", "ä", "日", "𝄞", "10", "9"]
        for name in projects:
            catalog.create_project(E, name)
            catalog.create_project(name, P)
        assert [project.name for project in catalog.projects(E)] == sorted(projects)
        assert catalog.entities() == sorted([*projects, E])
        collections = ["b", "B", "a_b", "ab", "a-c", "a.d", "A-c", "z", "Z", "10", "9"]
        for name in collections:
            log(catalog, 1, name, aliases=collections)
        assert [found.name for found in catalog.collections(E, P)] == sorted(collections)
        cursor, seen = None, []
        while True:
            page = catalog.page_of_collections(E, P, PageRequest("name", 3, cursor))
            seen += [found.name for found in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == sorted(collections)
        assert catalog.resolve(E, P, "z", "latest").aliases == tuple(sorted([*collections, "latest"]))
        assert catalog.protect_aliases(E, P, add=collections) == sorted(collections)

    def test_creating_a_project_again_gives_the_same(self, catalog: Catalog) -> None:
        first = catalog.create_project(E, P)
        assert catalog.create_project(E, P) == first
        assert catalog.try_project(E, P) == first
        assert first.created_at.tzinfo is not None

    @pytest.mark.parametrize("name", ["drafts", ".hidden", "@me", "a/b", ""])
    def test_a_bad_project_name_is_refused(self, catalog: Catalog, name: str) -> None:
        with pytest.raises(InvalidNameError):
            catalog.create_project(E, name)
        with pytest.raises(InvalidNameError):
            catalog.commit(new(1, project=name))
        assert catalog.projects(E) == []

    def test_only_an_empty_project_can_be_deleted(self, catalog: Catalog) -> None:
        collection = catalog.create_collection(E, P, C)
        with pytest.raises(ConflictError):
            catalog.delete_project(E, P)
        catalog.delete_collection(collection.id)
        catalog.delete_project(E, P)
        assert catalog.projects(E) == []
        assert catalog.entities() == []
        with pytest.raises(NotFoundError):
            catalog.delete_project(E, P)

    def test_a_deleted_project_can_be_made_again_and_is_empty(self, catalog: Catalog) -> None:
        first = catalog.create_project(E, P)
        run = catalog.create_run(E, P)
        catalog.delete_project(E, P)
        second = catalog.create_project(E, P)
        assert second.id != first.id
        assert catalog.runs(E, P) == []
        assert catalog.run(run.id).id == run.id

    def test_a_missing_project_is_reported_with_those_that_exist(self, catalog: Catalog) -> None:
        catalog.create_project(E, "vision-2")
        for act in (
            lambda: catalog.collections(E, P),
            lambda: catalog.resolve(E, P, C, "latest"),
            lambda: catalog.runs(E, P),
        ):
            with pytest.raises(NotFoundError, match="vision-2"):
                act()

    def test_creating_a_collection_creates_its_project(self, catalog: Catalog) -> None:
        made = catalog.create_collection(E, P, C, description="all cars")
        assert (made.entity, made.project, made.name) == (E, P, C)
        assert (made.type, made.kind, made.description, made.tags) == ("", "sequence", "all cars", ())
        assert catalog.try_collection(E, P, C) == made
        assert catalog.create_collection(E, P, C) == made
        assert catalog.members(made.id) == []

    def test_collections_are_listed_by_name_and_type(self, catalog: Catalog) -> None:
        for name, type_ in (("b", "model"), ("c", "dataset"), ("a", "model")):
            catalog.create_collection(E, P, name, type=type_)
        assert [found.name for found in catalog.collections(E, P)] == ["a", "b", "c"]
        assert [found.name for found in catalog.collections(E, P, type="model")] == ["a", "b"]
        assert catalog.collections(E, P, type="none") == []

    def test_a_collection_has_one_type(self, catalog: Catalog) -> None:
        assert catalog.create_collection(E, P, C).type == ""
        assert catalog.create_collection(E, P, C, type="model").type == "model"
        assert catalog.create_collection(E, P, C).type == "model"
        with pytest.raises(TypeConflictError, match="model"):
            catalog.create_collection(E, P, C, type="dataset")
        with pytest.raises(TypeConflictError, match="model"):
            catalog.commit(new(1, type="dataset"))
        with pytest.raises(InvalidNameError):
            catalog.create_collection(E, P, "other", type="job")
        assert catalog.try_collection(E, P, "other") is None

    def test_a_collection_has_one_kind(self, catalog: Catalog) -> None:
        catalog.create_collection(E, P, "seq")
        catalog.create_collection(E, P, "port", kind="portfolio")
        with pytest.raises(ConflictError, match="sequence"):
            catalog.create_collection(E, P, "seq", kind="portfolio")
        with pytest.raises(ConflictError, match="portfolio"):
            catalog.commit(new(1, "port"))

    def test_a_collection_can_be_renamed_described_and_tagged(self, catalog: Catalog) -> None:
        member = log(catalog, 1, aliases=("best",))
        changed = catalog.update_collection(member.collection_id, name="autos", description="d", tags=["b", "a", "b"])
        assert (changed.name, changed.description, changed.tags) == ("autos", "d", ("b", "a"))
        assert catalog.resolve(E, P, "autos", "best").version.id == member.version.id
        assert catalog.try_collection(E, P, C) is None
        assert catalog.update_collection(member.collection_id).tags == ("b", "a")
        assert catalog.update_collection(member.collection_id, tags=["a", "c"]).tags == ("a", "c")
        both = catalog.update_collection(member.collection_id, add_tags=["d", "a"], remove_tags=["c", "gone"])
        assert both.tags == ("a", "d")
        assert catalog.update_collection(member.collection_id, tags=["e", "f"], remove_tags=["f"]).tags == ("e",)
        emptied = catalog.update_collection(member.collection_id, description="", tags=())
        assert (emptied.description, emptied.tags) == (None, ())

    def test_a_collection_cannot_take_anothers_name_or_a_bad_one(self, catalog: Catalog) -> None:
        one = catalog.create_collection(E, P, "one")
        catalog.create_collection(E, P, "two")
        with pytest.raises(ConflictError, match="two"):
            catalog.update_collection(one.id, name="two")
        with pytest.raises(InvalidNameError):
            catalog.update_collection(one.id, name="a/b")
        with pytest.raises(InvalidNameError):
            catalog.update_collection(one.id, tags=["a/b"])
        assert catalog.update_collection(one.id, name="one") == one

    def test_deleting_a_sequence_deletes_its_versions_and_their_links(self, catalog: Catalog) -> None:
        first, second = log(catalog, 1), log(catalog, 2)
        other = log(catalog, 3, "other")
        catalog.link(other.version.id, E, P, "prod")
        link = catalog.link(first.version.id, E, P, "prod")
        catalog.delete_collection(first.collection_id)
        assert [found.name for found in catalog.collections(E, P)] == ["other", "prod"]
        assert list(catalog.live_roots()) == [digest(3)]
        assert [member.version.id for member in catalog.members(link.collection_id)] == [other.version.id]
        assert catalog.resolve(E, P, "prod", "latest").version.id == other.version.id
        assert [found.version.id for found in catalog.versions("DELETED")] == [first.version.id, second.version.id]
        with pytest.raises(NotFoundError):
            catalog.members(first.collection_id)
        with pytest.raises(NotFoundError):
            catalog.delete_collection(first.collection_id)

    def test_a_deleted_collections_name_is_free_and_begins_again(self, catalog: Catalog) -> None:
        first = log(catalog, 1)
        catalog.delete_collection(first.collection_id)
        again = log(catalog, 1, type="model")
        assert (again.index, again.version.type) == (0, "model")
        assert again.id != first.id

    def test_deleting_a_portfolio_leaves_the_versions(self, catalog: Catalog) -> None:
        source = log(catalog, 1)
        link = catalog.link(source.version.id, E, P, "prod", ["live"])
        catalog.delete_collection(link.collection_id)
        assert catalog.resolve(E, P, C, "latest") == source
        assert catalog.memberships(source.version.id) == [source]

    def test_a_missing_collection_is_reported_with_close_names(self, catalog: Catalog) -> None:
        catalog.create_collection(E, P, "cars-2024")
        with pytest.raises(NotFoundError, match="did you mean cars-2024"):
            catalog.resolve(E, P, "cars-2025", "latest")
