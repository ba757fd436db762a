"""Who may make which call: every route, for every role, and what is said to those who may not."""

from __future__ import annotations

from typing import Any

import pytest

from artfs.model.access import ROLES, is_enough
from artfs.wire.routes import ROUTES, SERVER_ROUTES, Place, Route

from .conftest import OPEN, OTHER, SECRET, E, World, new_body

ALL = ROUTES + SERVER_ROUTES
QUERIES = {
    "resolve": "alias=latest", "parts": "distributed_id=d", "page_of_collections": "order=name",
    "page_of_members": "order=index",
    "page_of_runs": "order=name",
    "versions_of_run": "used=false", "page_of_run_versions": "used=false&order=created_at",
    "delete_version": "delete_aliases=true",
}


def body_of(route: Route, project: str) -> Any:
    return {
        "commit": lambda: new_body(project),
        "add_part": lambda: {
            "entity": E, "project": project, "collection": "cars", "type": "dataset", "distributed_id": "d", "digest": "a" * 64,
        },
        "link": lambda: {"entity": E, "project": project, "collection": "links"},
        "set_default_ttl": lambda: {"ttl": "P30D"},
        "set_default_entity_ttl": lambda: {"ttl": "P30D"},
        "add_history": lambda: [{"step": 0, "at": "2026-11-01T00:00:00Z", "values": {"a": 1}}],
        "create_token": lambda: {"name": "new"},
        "grant": lambda: {"entity": E, "project": OPEN, "role": "reader"},
    }.get(route.name, lambda: {} if route.body is not None else None)()


def call(world: World, route: Route, project: str, token: str | None) -> tuple[int, Any]:
    """Makes the call, on what is in that project."""
    ids = world.ids
    arguments = {
        "entity": E, "project": project, "collection": "cars", "collection_id": ids[f"{project}/collection"],
        "member_id": ids[f"{project}/member"], "version_id": ids[f"{project}/version"],
        "run_id": ids[f"{project}/run"], "token": "root",
    }
    query = QUERIES.get(route.name, "")
    target = route.url(arguments) + (f"?{query}" if query else "")
    answer = world.ask(route.method, target, token, body_of(route, project))
    return answer.status, answer.json if answer.body else None


# These never end by themselves, or have no error.
PLAIN = [route for route in ALL if route.name != "events"]


def test_nothing_is_answered_without_a_token(world: World) -> None:
    for route in ALL:
        status, body = call(world, route, OPEN, None)
        if route.right == "public":
            assert status == 200
        else:
            assert (status, body["kind"]) == (401, "unauthorized"), route.name


@pytest.mark.parametrize(
    "route", [route for route in PLAIN if route.place not in (Place.NONE, Place.ENTITY)], ids=lambda route: route.name
)
def test_a_role_may_what_the_table_says(world: World, route: Route) -> None:
    # To link, a version must be readable and the target writable.
    needed = "writer" if route.name == "link" else route.right
    for role in ROLES:
        world.token(role, (E, OPEN, role))
        status, body = call(world, route, OPEN, role)
        if is_enough(role, needed):  # type: ignore[arg-type]
            # 409: it may, and the state of things forbids it.
            assert status in (200, 204, 409), body
        else:
            assert (status, body["kind"]) == (403, "forbidden")


@pytest.mark.parametrize("route", [route for route in PLAIN if route.place is Place.ENTITY], ids=lambda route: route.name)
def test_an_entity_is_its_administrators(world: World, route: Route) -> None:
    world.token("one", (E, OPEN, "admin"))
    world.token("all", (E, "*", "admin"))
    world.token("writer", (E, "*", "writer"))
    assert [call(world, route, OPEN, token)[0] for token in ("one", "writer", "all")] == [403, 403, 204]


@pytest.mark.parametrize("route", [route for route in PLAIN if route.right == "server"], ids=lambda route: route.name)
def test_the_server_is_its_administrators(world: World, route: Route) -> None:
    world.token("all", (E, "*", "admin"))
    status, body = call(world, route, OPEN, "all")
    assert (status, body["kind"]) == (403, "forbidden")
    assert call(world, route, OPEN, "root")[0] in (200, 204)


@pytest.mark.parametrize(
    "route", [route for route in PLAIN if route.place not in (Place.NONE, Place.ENTITY)], ids=lambda route: route.name
)
def test_what_may_not_be_read_is_as_what_is_not_there(world: World, route: Route) -> None:
    """The same status, the same words, and nothing changes; whatever the role is elsewhere."""
    world.token("someone", (E, OPEN, "admin"), (OTHER, "*", "admin"))
    before = world.ledger.newest_change()
    there = call(world, route, SECRET, "someone")
    absent_ids = {name: "absent99" if name.endswith("run") else 987654 for name in world.ids}
    real, world.ids = world.ids, {**absent_ids, f"{SECRET}/x": 0}
    for name in real:
        project = name.partition("/")[0]
        world.ids[name.replace(project, "missing")] = world.ids[name]
    absent = call(world, route, "missing", "someone")
    world.ids = real
    # By its name a project in which one has no role is refused, there or not; by its id a thing in it does not exist.
    assert there[0] == absent[0] == (403 if route.place in (Place.PROJECT, Place.BODY) else 404)
    assert generalised(there[1], real) == generalised(absent[1], absent_ids)
    assert "secret" not in str(generalised(there[1], real))
    assert world.ledger.newest_change() == before


def generalised(body: Any, ids: dict[str, Any]) -> Any:
    text = body["message"]
    for value in sorted(map(str, ids.values()), key=len, reverse=True):
        text = text.replace(f"id {value}", "id N").replace(f"{value!r}", "ID")
    for name in (SECRET, "missing"):
        text = text.replace(f"{E}/{name}", "NAME").replace(f"{name!r}", "NAME")
    return {**body, "message": text}


def test_lists_have_only_what_may_be_read(world: World) -> None:
    world.token("reader", (E, OPEN, "reader"))
    assert world.get("/v1/entities", "reader").json == [E]
    assert [found["name"] for found in world.get(f"/v1/entities/{E}/projects", "reader").json] == [OPEN]
    assert world.get(f"/v1/entities/{OTHER}/projects", "reader").json == []
    assert [found["project"] for found in world.get("/v1/versions", "reader").json] == [OPEN]
    assert len(world.get("/v1/versions").json) == 3
    assert world.get("/v1/versions?state=DELETED", "reader").status == 403
    assert world.get("/v1/next-expiry", "reader").json is None
    assert sorted(world.get("/v1/entities").json) == [OTHER, E]


def test_an_entity_that_is_not_seen_has_no_default(world: World) -> None:
    world.token("reader", (E, OPEN, "reader"))
    world.ask("PUT", f"/v1/entities/{OTHER}/ttl", "root", {"ttl": "P30D"})
    world.ask("PUT", f"/v1/entities/{E}/ttl", "root", {"ttl": "P60D"})
    assert world.get(f"/v1/entities/{OTHER}/ttl", "reader").json is None
    assert world.get(f"/v1/entities/{E}/ttl", "reader").json == "P60D"


def test_a_message_names_only_what_may_be_read(world: World) -> None:
    world.token("reader", (E, OPEN, "reader"), (E, "planned", "writer"))
    for target in (f"/v1/projects/{E}/planned/collections", f"/v1/projects/{E}/planned/runs"):
        body = world.get(target, "reader").json
        assert body["kind"] == "not-found"
        assert OPEN in body["message"]
        assert SECRET not in body["message"]
    body = world.get(f"/v1/projects/{E}/secre", "reader").json
    assert body["kind"] == "forbidden"
    assert SECRET not in body["message"]


def test_a_link_shows_the_version_and_not_where_else_it_is(world: World) -> None:
    catalog, ids = world.catalog, world.ids
    link = catalog.link(ids[f"{SECRET}/version"], E, OPEN, "links")
    catalog.link(ids[f"{SECRET}/version"], OTHER, "private", "links")
    world.token("reader", (E, OPEN, "reader"))
    version = ids[f"{SECRET}/version"]
    assert world.get(f"/v1/members/{link.id}", "reader").json["version"]["id"] == version
    assert [found["id"] for found in world.get(f"/v1/versions/{version}/memberships", "reader").json] == [link.id]
    # Who logged it, stands in the project that may not be read.
    assert world.get(f"/v1/versions/{version}/logged-by", "reader").json == []
    assert len(world.get(f"/v1/versions/{version}/logged-by").json) == 1


def test_a_link_gives_no_right_to_change_the_version(world: World) -> None:
    catalog, ids = world.catalog, world.ids
    catalog.link(ids[f"{SECRET}/version"], E, OPEN, "links")
    world.token("admin", (E, OPEN, "admin"))
    version = ids[f"{SECRET}/version"]
    answer = world.ask("PATCH", f"/v1/versions/{version}", "admin", {"description": "mine"})
    assert (answer.status, answer.json["kind"]) == (403, "forbidden")
    assert SECRET not in answer.json["message"]


def test_to_link_wants_both_a_readable_version_and_a_writable_target(world: World) -> None:
    world.token("both", (E, OPEN, "reader"), (OTHER, "private", "writer"))
    world.token("readers", (E, OPEN, "reader"), (OTHER, "private", "reader"))
    world.token("target", (OTHER, "private", "writer"))
    body = {"entity": OTHER, "project": "private", "collection": "links"}
    target = f"/v1/versions/{world.ids[f'{OPEN}/version']}/links"
    statuses = [world.ask("POST", target, token, body).status for token in ("target", "readers", "both")]
    assert statuses == [404, 403, 200]
    hidden = {"entity": E, "project": SECRET, "collection": "links"}
    assert world.ask("POST", target, "both", hidden).status == 403


def test_versions_of_a_run_are_those_that_may_be_read(world: World) -> None:
    catalog, ids = world.catalog, world.ids
    run = ids[f"{OPEN}/run"]
    for project in (OPEN, SECRET):
        catalog.record_use(run, ids[f"{project}/version"])
    world.token("reader", (E, OPEN, "reader"))
    target = f"/v1/runs/{run}/versions?used=true"
    assert [found["project"] for found in world.get(target, "reader").json] == [OPEN]
    assert len(world.get(target).json) == 2
    page = world.get(f"/v1/runs/{run}/pages/versions?used=true&order=-created_at&limit=1", "reader").json
    assert ([found["project"] for found in page["items"]], page["cursor"], page["total"]) == ([OPEN], None, 1)


def test_pages_of_a_runs_versions_go_on(world: World) -> None:
    run = world.ids[f"{OPEN}/run"]
    for number in range(5):
        world.catalog.record_use(run, world.catalog.commit(_version(number)).member.version.id)
    world.token("reader", (E, OPEN, "reader"))
    for order in ("created_at", "-created_at"):
        found: list[int] = []
        base = f"/v1/runs/{run}/pages/versions?used=true&order={order}&limit=2"
        page = world.get(base, "reader").json
        assert page["total"] == 5
        while True:
            found += [member["index"] for member in page["items"]]
            if page["cursor"] is None:
                break
            page = world.get(f"{base}&after={page['cursor']}", "reader").json
            assert page["total"] is None
        assert found == sorted(found, reverse=order.startswith("-"))
        assert len(found) == 5


def _version(number: int) -> Any:
    from artfs.testing.catalog_contract.making import new

    return new(("page", number), "cars", entity=E, project=OPEN)


def test_protected_aliases_are_for_administrators(world: World) -> None:
    world.catalog.protect_aliases(E, OPEN, add=["prod"])
    world.token("writer", (E, OPEN, "writer"))
    world.token("admin", (E, OPEN, "admin"))
    member = world.ids[f"{OPEN}/member"]
    body = {"add": ["prod"]}
    assert world.ask("PATCH", f"/v1/members/{member}/aliases", "writer", body).json["kind"] == "alias-protected"
    body = {"add": ["prod"], "allow_protected": True}
    assert world.ask("PATCH", f"/v1/members/{member}/aliases", "writer", body).json["kind"] == "forbidden"
    assert world.ask("PATCH", f"/v1/members/{member}/aliases", "admin", body).status == 200
    commit = new_body(allow_protected=True, aliases=["prod"])
    assert world.ask("POST", "/v1/commit", "writer", commit).json["kind"] == "forbidden"
    assert world.ask("POST", "/v1/commit", "admin", commit).status == 200


def test_how_long_a_version_lives_is_for_administrators(world: World) -> None:
    world.token("writer", (E, OPEN, "writer"))
    world.token("admin", (E, OPEN, "admin"))
    target = f"/v1/versions/{world.ids[f'{OPEN}/version']}"
    assert world.ask("PATCH", target, "writer", {"ttl": "PT1S"}).json["kind"] == "forbidden"
    assert world.ask("PATCH", target, "writer", {"ttl": 0, "description": "d"}).json["description"] == "d"
    assert world.ask("PATCH", target, "admin", {"ttl": "P3D"}).json["ttl"] == "P3D"
    assert world.ask("PATCH", target, "writer", {"ttl": "P3D", "description": "e"}).json["description"] == "e"


def test_a_run_of_another_project_is_no_run(world: World) -> None:
    world.token("writer", (E, OPEN, "writer"))
    hidden = world.ask("POST", "/v1/commit", "writer", new_body(run_id=world.ids[f"{SECRET}/run"]))
    absent = world.ask("POST", "/v1/commit", "writer", new_body(run_id="absent99"))
    assert (hidden.status, absent.status) == (404, 404)
    assert hidden.json["message"].replace(world.ids[f"{SECRET}/run"], "absent99") == absent.json["message"]
    assert world.ask("POST", "/v1/commit", "writer", new_body(run_id=world.ids[f"{OPEN}/run"])).status == 200


def test_deleting_a_version_with_links_elsewhere_says_nothing_of_where(world: World) -> None:
    catalog, ids = world.catalog, world.ids
    catalog.protect_aliases(OTHER, "private", add=["prod"])
    catalog.link(ids[f"{OPEN}/version"], OTHER, "private", "links", ["prod"], allow_protected=True)
    world.token("admin", (E, OPEN, "admin"))
    member = ids[f"{OPEN}/member"]
    for query in ("", "?delete_aliases=true", "?delete_aliases=true&allow_protected=true"):
        answer = world.ask("DELETE", f"/v1/members/{member}{query}", "admin")
        assert answer.status == 409
        assert "private" not in answer.json["message"]
    assert world.ask("DELETE", f"/v1/members/{member}?delete_aliases=true&allow_protected=true").status == 204


def test_who_writes_all_of_an_entity_makes_projects(world: World) -> None:
    world.token("all", (E, "*", "writer"))
    world.token("one", (E, OPEN, "writer"), (E, "planned", "writer"))
    assert world.ask("PUT", f"/v1/projects/{E}/new", "all").status == 200
    assert world.ask("PUT", f"/v1/projects/{E}/newer", "one").status == 403
    assert world.ask("PUT", f"/v1/projects/{E}/planned", "one").status == 200
    assert world.catalog.try_project(E, "newer") is None
