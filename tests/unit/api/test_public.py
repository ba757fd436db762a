"""artfs.Api: what is in the catalog, and the collections, types, registries and runs that it gives."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.collection import ArtifactCollection
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import (
    AliasProtectedError,
    ArtifactNotLoggedError,
    ConflictError,
    InvalidArgumentError,
    InvalidNameError,
    NotFoundError,
)
from artfs.model.ttl import ArtifactTTL

LogFiles = Callable[..., Artifact]


@pytest.fixture
def api(session: Session) -> Api:
    return Api()


def log_many(log_files: LogFiles, count: int, name: str = "ds", **more: Any) -> list[Artifact]:
    return [log_files(name, {"n.txt": str(number)}, **more) for number in range(count)]


# artifacts --------------------------------------------------------------------------------------------------------


def test_versions_come_newest_first_in_pages(api: Api, log_files: LogFiles) -> None:
    made = log_many(log_files, 5)
    found = api.artifacts("dataset", "ds", per_page=2)
    assert len(found) == 5
    assert [artifact.name for artifact in found] == ["ds:v4", "ds:v3", "ds:v2", "ds:v1", "ds:v0"]
    assert {artifact.id for artifact in found} == {artifact.id for artifact in made}
    assert found[0].aliases == ["latest"]


def test_a_list_goes_on_where_another_ended(api: Api, log_files: LogFiles) -> None:
    log_many(log_files, 5)
    first = api.artifacts("dataset", "ds", per_page=2)
    assert [first[0].version, first[1].version] == ["v4", "v3"]
    rest = api.artifacts("dataset", "ds", start=first.cursor)
    assert [artifact.version for artifact in rest] == ["v2", "v1", "v0"]
    with pytest.raises(InvalidArgumentError):
        list(api.artifacts("dataset", "ds", order="createdAt", start=first.cursor))


@pytest.mark.parametrize(
    ("order", "versions"),
    [
        ("createdAt", "v0 v1 v2"), ("-createdAt", "v2 v1 v0"), ("+created_at", "v0 v1 v2"), ("size", "v1 v0 v2"),
        ("-size", "v2 v0 v1"), ("versionIndex", "v0 v1 v2"), ("updatedAt", "v1 v2 v0"),
    ],
)  # fmt: skip
def test_orders(api: Api, log_files: LogFiles, order: str, versions: str) -> None:
    for text in ("four", "1", "longest"):
        log_files("ds", {"n.txt": text})
    first = api.artifact("ds:v0")
    first.description = "changed last"
    first.save()
    assert [artifact.version for artifact in api.artifacts("dataset", "ds", order)] == versions.split()


def test_versions_by_tags(api: Api, log_files: LogFiles) -> None:
    for artifact, tags in zip(log_many(log_files, 3), (["a"], ["a", "b"], []), strict=True):
        artifact.tags = tags
        artifact.save()
    found = api.artifacts("dataset", "ds", tags=["a"], per_page=1)
    assert ([artifact.version for artifact in found], len(found)) == (["v1", "v0"], 2)
    assert [artifact.version for artifact in api.artifacts("dataset", "ds", tags=["a", "b"])] == ["v1"]
    assert [artifact.version for artifact in api.artifacts("dataset", "ds", tags="b")] == ["v1"]
    assert not api.artifacts("dataset", "ds", tags=["c"])


def test_versions_of_what_is_not_there(api: Api, log_files: LogFiles) -> None:
    log_many(log_files, 1)
    for type_, name, message in (
        ("dataset", "other", "it has ds"),
        ("model", "ds", "is of type 'dataset'"),
        ("dataset", "nowhere/ds", "nowhere"),
    ):
        with pytest.raises(NotFoundError, match=message):
            api.artifacts(type_, name)
    with pytest.raises(InvalidNameError, match="leave out ':latest'"):
        api.artifacts("dataset", "ds:latest")
    with pytest.raises(InvalidArgumentError):
        list(api.artifacts("dataset", "ds", order="digest"))


def test_artifact_versions_is_deprecated(api: Api, log_files: LogFiles) -> None:
    log_many(log_files, 2)
    with pytest.warns(DeprecationWarning, match="use artifacts"):
        assert len(api.artifact_versions("dataset", "ds")) == 2


# collections ------------------------------------------------------------------------------------------------------


def test_types_and_collections(api: Api, log_files: LogFiles) -> None:
    for name, type_ in (("b", "dataset"), ("a", "dataset"), ("m", "model")):
        log_files(name, {"x": name}, type=type_)
    assert [found.name for found in api.artifact_types()] == ["dataset", "model"]
    assert [found.name for found in api.artifact_types("local/uncategorized")] == ["dataset", "model"]
    kind = api.artifact_type("dataset", "uncategorized")
    assert (kind.name, kind.entity, kind.project) == ("dataset", "local", "uncategorized")
    assert [found.name for found in kind.collections()] == ["a", "b"]
    assert kind.collection("b").name == "b"
    with pytest.raises(NotFoundError, match="type 'model', not 'dataset'"):
        kind.collection("m")
    with pytest.raises(NotFoundError, match="it has dataset, model"):
        api.artifact_type("audio")
    with pytest.raises(NotFoundError, match="nowhere"):
        api.artifact_types("nowhere")


def test_collections_are_filtered_ordered_and_paged(api: Api, log_files: LogFiles) -> None:
    for name in ("b", "a", "c"):
        found = log_files(name, {"x": name}).collection
        found.tags = ["prod"] if name != "a" else []
        found.save()

    def names(**more: Any) -> list[str]:
        return [found.name for found in api.artifact_collections("uncategorized", "dataset", **more)]

    assert names() == ["a", "b", "c"]
    assert names(order="-name", per_page=2) == ["c", "b", "a"]
    assert names(order="createdAt") == ["b", "a", "c"]
    assert names(filters={"tag": "prod"}, per_page=1) == ["b", "c"]
    assert names(filters={"name": {"$regex": "^[ab]$"}}) == ["a", "b"]
    assert names(filters={"name": "none"}) == []
    first = api.artifact_collections("uncategorized", "dataset", per_page=1)
    assert (len(first), first[0].name, names(start=first.cursor)) == (3, "a", ["b", "c"])
    assert len(api.artifact_collections("uncategorized", "dataset", filters={"tag": "prod"})) == 2
    with pytest.raises(InvalidArgumentError, match="cannot be filtered by 'size'"):
        names(filters={"size": 3})
    with pytest.raises(NotFoundError):
        list(api.artifact_collections("nowhere", "dataset"))


def test_a_collection_exists_with_its_type(api: Api, log_files: LogFiles) -> None:
    log_many(log_files, 1)
    for name, type_, there in (
        ("ds", "dataset", True), ("ds", None, True), ("ds", "model", False), ("other", None, False),
        ("nowhere/ds", "dataset", False), ("local/uncategorized/ds", "dataset", True),
    ):  # fmt: skip
        assert api.artifact_collection_exists(name, type_) is there
    with pytest.raises(InvalidNameError):
        api.artifact_collection_exists("a b", "dataset")


def test_a_collection_knows_itself(api: Api, log_files: LogFiles) -> None:
    first, _ = log_many(log_files, 2)
    first.aliases = ["best"]
    first.save()
    found = api.artifact_collection("dataset", "ds")
    assert (found.entity, found.project, found.name, found.type) == ("local", "uncategorized", "ds", "dataset")
    assert (found.description, found.tags, found.aliases) == (None, [], ["best", "latest"])
    assert found.is_sequence()
    assert found.created_at <= found.updated_at
    assert found.id == api.artifact("ds:v0").collection.id
    assert repr(found) == "<ArtifactCollection local/uncategorized/ds (dataset)>"
    assert [artifact.version for artifact in found.artifacts(per_page=1)] == ["v1", "v0"]
    with pytest.raises(NotFoundError):
        api.artifact_collection("dataset", "other")


def test_a_collection_is_renamed_described_and_tagged_by_save(api: Api, log_files: LogFiles) -> None:
    log_many(log_files, 2)
    found = api.artifact_collection("dataset", "ds")
    found.name, found.description = "renamed", "words"
    found.tags = ["a", "b"]
    found.tags.append("c")
    assert api.artifact_collection_exists("ds")
    found.save()
    assert (found.name, found.description, found.tags) == ("renamed", "words", ["a", "b", "c"])
    again = api.artifact_collection("dataset", "renamed")
    assert (again.id, again.description, again.tags) == (found.id, "words", ["a", "b", "c"])
    assert api.artifact("renamed:latest").version == "v1"
    assert not api.artifact_collection_exists("ds")
    again.description = None
    again.tags = "only"
    again.save()
    assert (again.description, api.artifact_collection("dataset", "renamed").tags) == (None, ["only"])


def test_bad_changes_of_a_collection_are_refused(api: Api, log_files: LogFiles) -> None:
    log_files("ds", {"x": "1"})
    log_files("taken", {"x": "1"})
    found = api.artifact_collection("dataset", "ds")
    for name in ("a/b", "x" * 129, "", "a b"):
        with pytest.raises(InvalidNameError):
            found.name = name
    with pytest.raises(InvalidNameError):
        found.tags = ["a/b"]
    found.name = "taken"
    with pytest.raises(ConflictError, match="taken"):
        found.save()
    assert api.artifact_collection_exists("ds")


def test_the_type_of_a_sequence_is_changed(api: Api, log_files: LogFiles) -> None:
    artifact = log_files("ds", {"x": "1"})
    found = api.artifact_collection("dataset", "ds")
    found.type = "model"
    found.save()
    assert api.artifact("ds:v0").type == "model"
    with pytest.warns(DeprecationWarning, match="set `type`"):
        found.change_type("table")
    assert api.artifact("ds:v0", type="table").type == "table"
    links = artifact.link("links").collection
    links.type = "other"
    with pytest.raises(ConflictError, match="portfolio"):
        links.save()
    with pytest.raises(InvalidNameError):
        links.type = "wandb-x"


def test_the_collections_of_a_link(api: Api, log_files: LogFiles) -> None:
    source = log_files("ds", {"x": "1"})
    link = source.link("best")
    assert (link.collection.name, link.collection.is_sequence()) == ("best", False)
    assert (link.source_collection.name, source.collection.name, source.source_collection.name) == ("ds",) * 3
    link.collection.delete()
    assert api.artifact("ds:v0").linked_artifacts == []
    with pytest.raises(NotFoundError):
        assert link.collection
    api.artifact_collection("dataset", "ds").delete()
    assert not api.artifact_exists("ds:v0")
    draft = Artifact("ds", "dataset")
    for name in ("collection", "source_collection"):
        with pytest.raises(ArtifactNotLoggedError, match=name):
            getattr(draft, name)


# registries -------------------------------------------------------------------------------------------------------


def test_a_registry_is_made_by_linking_to_it(api: Api, log_files: LogFiles) -> None:
    artifact = log_files("net", {"w": "1"}, type="model")
    link = artifact.link("wandb-registry-model/best", aliases=["prod"])
    assert (link.project, link.name, sorted(link.aliases)) == ("wandb-registry-model", "best:v0", ["latest", "prod"])
    assert api.artifact("wandb-registry-model/best:prod").source_qualified_name == artifact.qualified_name
    assert [found.name for found in api.registries()] == ["model"]
    for name in ("model", "wandb-registry-model"):
        found = api.registry(name)
        assert (found.name, found.full_name, found.entity) == ("model", "wandb-registry-model", "local")
    assert [(c.name, c.type, c.is_sequence()) for c in found.collections()] == [("best", "model", False)]
    assert [c.name for c in found.collections(filter={"name": "other"})] == []
    with pytest.raises(ConflictError, match="collections"):
        found.delete()


def test_nothing_is_logged_to_a_registry(api: Api, log_files: LogFiles) -> None:
    assert api.create_registry("model").full_name == "wandb-registry-model"
    assert api.create_registry("wandb-registry-model").name == "model"
    with pytest.raises(ConflictError, match="registry"):
        Artifact("net", "model").save(project="wandb-registry-model")
    assert list(api.registry("model").collections()) == []
    api.registry("model").delete()
    with pytest.raises(NotFoundError, match="no registry 'model'"):
        api.registry("model")
    with pytest.raises(InvalidNameError):
        api.create_registry("")


# policies ---------------------------------------------------------------------------------------------------------


def test_default_ttls(api: Api, log_files: LogFiles, session: Session) -> None:
    log_files("ds", {"x": "1"})
    assert (api.ttl_default(), api.ttl_default("uncategorized")) == (None, ArtifactTTL.INHERIT)
    api.set_ttl_default(timedelta(days=30))
    api.set_ttl_default(timedelta(days=3), "uncategorized")
    assert (api.ttl_default(), api.ttl_default("uncategorized")) == (timedelta(days=30), timedelta(days=3))
    assert session.catalog.resolve("local", "uncategorized", "ds", "v0").version.lifetime == timedelta(days=3)
    api.set_ttl_default(ArtifactTTL.INHERIT, "uncategorized")
    assert session.catalog.resolve("local", "uncategorized", "ds", "v0").version.lifetime == timedelta(days=30)
    with pytest.raises(InvalidArgumentError):
        api.set_ttl_default(timedelta(0))
    with pytest.raises(NotFoundError):
        api.ttl_default("nowhere")


def test_protected_aliases(api: Api, log_files: LogFiles, session: Session) -> None:
    first, second = log_many(log_files, 2)
    first.aliases = ["prod"]
    first.save()
    assert api.protect_aliases(add="prod") == ["prod"]
    assert api.protected_aliases("uncategorized") == ["prod"]
    second.aliases.append("prod")
    draft = Artifact("ds", "dataset")
    with draft.new_file("y") as stream:
        stream.write("y")

    def log_draft() -> object:
        with init() as run:
            return run.log_artifact(draft, aliases="prod")

    acts: tuple[Callable[[], object], ...] = (
        second.save,
        log_draft,
        lambda: second.link("links", aliases=["prod"]),
        lambda: first.delete(delete_aliases=True),
        lambda: first.collection.delete(),
    )
    for act in acts:
        with pytest.raises(AliasProtectedError, match="prod is protected in local/uncategorized"):
            act()
    assert api.artifact("ds:prod").version == "v0"
    assert draft.is_draft()
    allowed = session.settings.with_changes(allow_protected=True)
    with init(settings=allowed) as run:
        run.log_artifact(draft, aliases="prod")
    assert api.artifact("ds:prod").version == "v2"
    assert api.protect_aliases(remove=["prod"]) == []
    second.save()
    assert api.artifact("ds:prod").version == "v1"


# runs -------------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_its_path(api: Api) -> None:
    with init(name="n", job_type="train", config={"lr": 0.1}) as run:
        pass
    for path in (run.id, f"uncategorized/{run.id}", f"local/uncategorized/{run.id}", f"/local/uncategorized/{run.id}"):
        found = api.run(path)
        assert (found.id, found.name, found.job_type, found.config, found.state) == (
            run.id, "n", "train", {"lr": 0.1}, "finished",
        )  # fmt: skip
    assert found.path == ["local", "uncategorized", run.id]
    assert found.url == f"artfs://local/uncategorized/runs/{run.id}"
    assert found.finished_at is not None
    assert found.created_at <= found.finished_at
    with pytest.raises(NotFoundError, match="it is in local/uncategorized"):
        api.run(f"other/{run.id}")
    with pytest.raises(NotFoundError):
        api.run("nobody")
    for bad in ("a/b/c/d", "", "a//b"):
        with pytest.raises(InvalidNameError):
            api.run(bad)


def test_runs_are_filtered_ordered_and_paged(api: Api) -> None:
    for number, lr in enumerate((0.3, 0.1, 0.2)):
        with init(name=f"n{number}", config={"lr": lr, "opt": {"kind": "adam"}}) as run:
            run.log({"loss": lr * 10, "odd": number % 2})
    with init(name="empty"):
        pass

    def names(**more: Any) -> list[str]:
        return [run.name for run in api.runs("uncategorized", **more)]

    assert names() == ["n0", "n1", "n2", "empty"]
    assert names(order="-created_at", per_page=3) == ["empty", "n2", "n1", "n0"]
    assert names(order="-display_name") == ["n2", "n1", "n0", "empty"]
    assert names(order="config.lr.value", per_page=1) == ["n1", "n2", "n0", "empty"]
    assert names(order="-summary_metrics.loss", per_page=2) == ["n0", "n2", "n1", "empty"]
    assert names(filters={"config.lr": {"$gt": 0.1}}, per_page=1) == ["n0", "n2"]
    assert names(filters={"summary_metrics.odd": 1}) == ["n1"]
    assert names(filters={"config.opt.kind": "adam", "display_name": {"$regex": "0|1"}}) == ["n0", "n1"]
    assert names(filters={"state": "running"}) == []
    first = api.runs(per_page=2)
    assert (len(first), first[1].name, names(start=first.cursor)) == (4, "n1", ["n2", "empty"])
    assert len(api.runs(filters={"config.lr": 0.1})) == 1
    for bad in ({"order": "x"}, {"filters": {"x": 1}}, {"order": "config.lr", "start": "x"}):
        with pytest.raises(InvalidArgumentError):
            names(**bad)


def test_what_a_run_logged_and_used(api: Api, log_files: LogFiles) -> None:
    inputs = log_many(log_files, 3)
    with init() as run:
        for artifact in inputs:
            run.use_artifact(artifact)
        for number in range(2):
            out = Artifact("out", "model")
            with out.new_file("n") as stream:
                stream.write(str(number))
            run.log_artifact(out)
    found = api.run(run.id)
    assert [artifact.name for artifact in found.logged_artifacts()] == ["out:v0", "out:v1"]
    assert [artifact.name for artifact in found.used_artifacts(per_page=1)] == ["ds:v0", "ds:v1", "ds:v2"]
    first = found.used_artifacts(per_page=2)
    assert (len(first), first[0].name) == (3, "ds:v0")
    assert [artifact.name for artifact in found.used_artifacts(start=first.cursor)] == ["ds:v2"]
    made_by = api.artifact("out:v0").logged_by()
    assert made_by is not None
    assert made_by.id == run.id
    assert [user.id for user in inputs[0].used_by()] == [run.id]
    assert api.artifact("out:v0").used_by() == []


def test_users_of_a_link_are_users_of_the_version(api: Api, log_files: LogFiles, session: Session) -> None:
    source = log_files("ds", {"x": "1"})
    link = source.link("links")
    with init() as run:
        run.use_artifact("links:latest")
    assert [user.id for user in link.used_by()] == [user.id for user in source.used_by()] == [run.id]
    maker = link.logged_by()
    assert maker is not None
    assert maker.job_type == "auto"
    draft = Artifact("other", "dataset")
    for name in ("logged_by", "used_by"):
        with pytest.raises(ArtifactNotLoggedError):
            getattr(draft, name)()
    with init() as run:
        run.use_artifact(draft)
    assert draft.logged_by() is None


def test_inputs_and_outputs_are_noted_later(api: Api, log_files: LogFiles) -> None:
    artifact, other = log_files("ds", {"x": "1"}), log_files("other", {"x": "2"})
    with init() as first, init(project="elsewhere") as far:
        pass
    found = api.run(first.id)
    assert found.log_artifact(artifact, aliases=["best"], tags=["t"]) is artifact
    assert found.use_artifact(other) is other
    assert [it.name for it in found.logged_artifacts()] == ["ds:v0"]
    assert [it.name for it in found.used_artifacts()] == ["other:v0"]
    assert (sorted(artifact.aliases), artifact.tags) == (["best", "latest"], ["t"])
    made_by = artifact.logged_by()
    assert made_by is not None
    assert made_by.id != first.id
    with pytest.raises(ConflictError, match="cannot be the output of a run of local/elsewhere"):
        api.run(far.id).log_artifact(artifact)
    for act in (found.log_artifact, found.use_artifact):
        with pytest.raises(ArtifactNotLoggedError):
            act(Artifact("draft", "dataset"))
        with pytest.raises(TypeError):
            act("ds:latest")  # type: ignore[arg-type]


def test_an_artifact_that_is_logged_again_is_output_of_both_runs(api: Api, log_files: LogFiles) -> None:
    artifact = log_files("ds", {"x": "1"})
    with init() as run:
        run.log_artifact(artifact, aliases="again")
    assert [it.name for it in api.run(run.id).logged_artifacts()] == ["ds:v0"]
    assert "again" in api.artifact("ds:v0").aliases


def test_projects(api: Api, log_files: LogFiles) -> None:
    log_files("ds", {"x": "1"})
    assert [project.name for project in api.projects()] == ["uncategorized"]
    assert api.projects("nobody") == []
    assert api.default_entity == "local"


def test_collections_are_of_the_public_class(api: Api, log_files: LogFiles) -> None:
    assert isinstance(log_files("ds", {"x": "1"}).collection, ArtifactCollection)
