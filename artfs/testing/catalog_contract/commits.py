"""What a commit makes, and how versions are found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from artfs.catalog.base import Catalog
from artfs.errors import (
    InvalidMetadataError,
    InvalidNameError,
    LatestMovedError,
    NotFoundError,
    UsageError,
)
from artfs.testing.catalog_contract.making import C, E, P, at, digest, log, new


class CommitContract:
    def test_the_first_commit_makes_project_collection_and_v0(self, catalog: Catalog) -> None:
        member = log(
            catalog, 1, description="d", metadata={"a": [1, {"b": None}], "é": "\u2028"}, aliases=("best", "latest"),
            tags=("z", "a", "z"),
        )
        version = member.version
        assert (member.qualified_name, member.index) == (f"{E}/{P}/{C}:v0", 0)
        assert (member.aliases, member.is_link) == (("best", "latest"), False)
        assert (version.digest, version.size, version.file_count) == (digest(1), 10, 2)
        assert (version.description, version.metadata) == ("d", {"a": [1, {"b": None}], "é": "\u2028"})
        assert (version.tags, version.state, version.type, version.source_index) == (("z", "a"), "COMMITTED", "dataset", 0)
        assert (version.run_id, version.history_step) == (None, None)
        assert version.created_at == version.updated_at == member.created_at
        assert catalog.member(member.id) == catalog.resolve(E, P, C, "v0") == member
        collection = catalog.try_collection(E, P, C)
        assert collection is not None
        assert (collection.type, collection.kind) == ("dataset", "sequence")

    def test_each_commit_moves_latest_and_takes_the_next_index(self, catalog: Catalog) -> None:
        members = [log(catalog, number, aliases=("best",) if number < 2 else ()) for number in range(4)]
        assert [member.index for member in members] == [0, 1, 2, 3]
        listed = catalog.members(members[0].collection_id)
        assert [member.aliases for member in listed] == [(), ("best",), (), ("latest",)]
        assert catalog.resolve(E, P, C, "latest") == members[3]
        assert [member.created_at for member in listed] == sorted({member.created_at for member in listed})

    def test_the_type_of_an_empty_collection_is_set_by_its_first_commit(self, catalog: Catalog) -> None:
        catalog.create_collection(E, P, C)
        catalog.create_collection(E, P, "untyped")
        catalog.create_collection(E, P, "typed", type="table")
        assert log(catalog, 1, type="model").version.type == "model"
        assert log(catalog, 1, "untyped", type="").version.type == "dataset"
        assert log(catalog, 1, "typed", type="").version.type == "table"
        assert log(catalog, 1, "new", type="").version.type == "dataset"

    def test_the_content_of_latest_makes_no_new_version(self, catalog: Catalog) -> None:
        first = log(catalog, 1, description="first", metadata={"n": 1}, tags=("a",))
        again = catalog.commit(
            new(1, description="again", metadata={"n": 2}, aliases=("best",), tags=("b",), expect_latest=7)
        )
        assert not again.created
        assert (again.member.id, again.member.index) == (first.id, 0)
        assert again.member.aliases == ("best", "latest")
        assert again.member.version.tags == ("a", "b")
        assert (again.member.version.description, again.member.version.metadata) == ("first", {"n": 1})
        assert len(catalog.members(first.collection_id)) == 1

    def test_content_older_than_latest_makes_a_new_version(self, catalog: Catalog) -> None:
        assert [log(catalog, content).index for content in "ABA"] == [0, 1, 2]

    def test_an_equal_digest_in_another_collection_is_another_version(self, catalog: Catalog) -> None:
        assert log(catalog, 1).version.id != log(catalog, 1, "other").version.id
        assert sorted(catalog.live_roots()) == [digest(1)]

    def test_latest_must_be_the_expected_one(self, catalog: Catalog) -> None:
        assert log(catalog, 1, expect_latest=-1).index == 0
        with pytest.raises(LatestMovedError, match="v0"):
            catalog.commit(new(2, expect_latest=-1))
        assert log(catalog, 2, expect_latest=0).index == 1
        with pytest.raises(LatestMovedError, match="v1"):
            catalog.commit(new(3, expect_latest=0))
        assert log(catalog, 3).index == 2

    @pytest.mark.parametrize(
        ("wrong", "error"),
        [
            ({"aliases": ("v3",)}, InvalidNameError),
            ({"aliases": ("a/b",)}, InvalidNameError),
            ({"aliases": ("@2026-01-01",)}, InvalidNameError),
            ({"aliases": "best"}, TypeError),
            ({"tags": ("a/b",)}, InvalidNameError),
            ({"type": "wandb-x"}, InvalidNameError),
            ({"collection": "a b"}, InvalidNameError),
            ({"entity": "a/b"}, InvalidNameError),
            ({"digest": "12"}, InvalidNameError),
            ({"size": -1}, UsageError),
            ({"file_count": 2**64}, UsageError),
            ({"metadata": {"a": float("inf")}}, InvalidMetadataError),
            ({"metadata": {str(number): 0 for number in range(101)}}, InvalidMetadataError),
            ({"description": "\udcff"}, UsageError),
            ({"run_id": "nobody"}, NotFoundError),
        ],
    )
    def test_a_refused_commit_leaves_nothing(self, catalog: Catalog, wrong: dict[str, Any], error: type[Exception]) -> None:
        with pytest.raises(error):
            catalog.commit(new(1, **{"project": "fresh", **wrong}))
        assert catalog.entities() == []
        assert list(catalog.live_roots()) == []

    @pytest.mark.parametrize("alias", ["best", "v2", "v02", f"v{10**17}", "V0", "", ".", "a/b", "\udcff", "v٣"])
    def test_a_missing_alias_is_reported_with_those_that_exist(self, catalog: Catalog, alias: str) -> None:
        log(catalog, 1)
        log(catalog, 2, aliases=("good",))
        with pytest.raises(NotFoundError, match="good, latest; 2 versions, v0 to v1"):
            catalog.resolve(E, P, C, alias)

    def test_names_are_case_sensitive(self, catalog: Catalog) -> None:
        lower, upper = log(catalog, 1, aliases=("a",)), log(catalog, 2, "CARS", aliases=("A",))
        assert lower.collection_id != upper.collection_id
        assert catalog.resolve(E, P, C, "a") == lower
        with pytest.raises(NotFoundError):
            catalog.resolve(E, P, C, "A")

    def test_no_name_that_is_not_text_is_found(self, catalog: Catalog) -> None:
        log(catalog, 1)
        assert catalog.try_project(E, "\udcff") is None
        assert catalog.try_collection(E, P, "\udcff") is None
        assert catalog.projects("\udcff") == []
        for names in (("\udcff", P, C), (E, "\udcff", C), (E, P, "\udcff")):
            with pytest.raises(NotFoundError):
                catalog.resolve(*names, "latest")

    def test_a_time_names_what_was_latest_then(self, catalog: Catalog) -> None:
        members = [log(catalog, number) for number in range(3)]
        for member, following in zip(members, [*members[1:], None], strict=True):
            assert catalog.resolve(E, P, C, at(member.created_at)).index == member.index
            if following is not None:
                just_before = following.created_at - timedelta(microseconds=1)
                assert catalog.resolve(E, P, C, at(just_before)).index == member.index
        eastern = members[0].created_at.astimezone(UTC).replace(tzinfo=None) + timedelta(hours=2)
        assert catalog.resolve(E, P, C, f"@{eastern.isoformat()}+02:00").index == 0

    def test_no_version_is_found_in_the_future_or_before_the_first(self, catalog: Catalog) -> None:
        first = log(catalog, 1)
        with pytest.raises(NotFoundError, match="still to come"):
            catalog.resolve(E, P, C, at(first.created_at + timedelta(days=1)))
        with pytest.raises(NotFoundError, match="still to come"):
            catalog.resolve(E, P, C, f"@{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}")
        with pytest.raises(NotFoundError, match="no version yet"):
            catalog.resolve(E, P, C, at(first.created_at - timedelta(microseconds=1)))
        with pytest.raises(NotFoundError, match="no version yet"):
            catalog.resolve(E, P, C, "@2000-01-01")
        with pytest.raises(InvalidNameError):
            catalog.resolve(E, P, C, "@yesterday")

    def test_a_time_whose_version_was_deleted_says_so(self, catalog: Catalog) -> None:
        first, second = log(catalog, 1), log(catalog, 2)
        catalog.delete_version(first.id)
        with pytest.raises(NotFoundError, match=r"v0 was latest at .* deleted since"):
            catalog.resolve(E, P, C, at(first.created_at))
        assert catalog.resolve(E, P, C, at(second.created_at)).index == 1

    def test_a_time_without_latest_says_so(self, catalog: Catalog) -> None:
        member = log(catalog, 1)
        catalog.set_aliases(member.id, remove=["latest"])
        removed = catalog.alias_history(member.collection_id)[-1][0]
        catalog.set_aliases(member.id, add=["latest"])
        with pytest.raises(NotFoundError, match="no version of vision/cars had the alias 'latest'"):
            catalog.resolve(E, P, C, at(removed))

    def test_a_version_of_another_catalog_keeps_its_index_and_time(self, catalog: Catalog) -> None:
        then = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
        first = log(catalog, "1", index=3, created_at=then)
        assert (first.index, first.created_at, first.version.created_at) == (3, then, then)
        later = then + timedelta(days=1)
        second = log(catalog, "2", index=4, created_at=later)
        assert (second.index, second.version.created_at) == (4, later)
        assert catalog.resolve(E, P, C, "@2024-05-06").id == first.id
        assert catalog.resolve(E, P, C, "@2024-05-07T07:08:09").id == first.id
        assert catalog.resolve(E, P, C, "@2024-05-08").id == second.id
        assert log(catalog, "3").index == 5

    def test_a_version_of_another_catalog_does_not_come_before_others(self, catalog: Catalog) -> None:
        here = log(catalog, "1")
        then = here.created_at - timedelta(days=1)
        moved = log(catalog, "2", index=0, created_at=then)
        assert moved.index == 1
        assert moved.created_at > here.created_at
        future = datetime.now(UTC) + timedelta(days=9)
        assert log(catalog, "3", created_at=future).created_at < future

    def test_a_version_of_another_catalog_is_made_once_and_whatever_latest_has(self, catalog: Catalog) -> None:
        log(catalog, "1", index=0)
        again = log(catalog, "1", index=2, description="once more")
        assert (again.index, again.aliases, again.version.description) == (2, ("latest",), "once more")
        for index in (0, 2):
            found = catalog.commit(new("1", index=index))
            assert (found.created, found.member.index) == (False, index)
        assert catalog.resolve(E, P, C, "latest").index == 2

    def test_a_version_of_another_catalog_that_makes_no_sense(self, catalog: Catalog) -> None:
        with pytest.raises(UsageError):
            log(catalog, "1", index=-1)
        with pytest.raises(UsageError):
            log(catalog, "1", created_at=datetime(2024, 1, 1))
        assert catalog.projects(E) == []
