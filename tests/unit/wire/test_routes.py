"""The table of calls: complete, without doubles, and what a client writes is what a server reads."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from artfs.catalog.base import Catalog
from artfs.errors import InvalidArgumentError, NotFoundError
from artfs.server.calls import Endpoint
from artfs.server.matching import Matcher, read_query
from artfs.wire import bodies
from artfs.wire.routes import ROUTES, SERVER_ROUTES, Place, argument_type, encode_query

ALL = ROUTES + SERVER_ROUTES
# Any text that Python can have, but for what no path can name.
TEXT = st.text(st.characters(), min_size=1, max_size=20)


def matcher() -> Matcher:
    return Matcher(Endpoint(route, run=lambda call: None) for route in ALL)


def test_every_method_of_a_catalog_is_a_call() -> None:
    methods = {name for name, _ in inspect.getmembers(Catalog, inspect.isfunction) if not name.startswith("_")}
    apart = {"close", "backup"}
    # One for the entity's own default.
    added = {"default_entity_ttl", "set_default_entity_ttl"}
    assert {route.name for route in ROUTES} == (methods - apart) | added


def test_no_call_is_there_twice() -> None:
    assert len({route.name for route in ALL}) == len(ALL)
    assert len({(route.method, route.path) for route in ALL}) == len(ALL)


@pytest.mark.parametrize("route", ALL, ids=lambda route: route.name)
def test_a_call_is_consistent(route: object) -> None:
    assert route in ALL
    (found,) = [known for known in ALL if known is route]
    needed = {
        Place.NONE: (), Place.ENTITY: ("entity",), Place.PROJECT: ("entity", "project"), Place.BODY: (),
        Place.COLLECTION: ("collection_id",), Place.MEMBER: ("member_id",),
        Place.VERSION: ("version_id",), Place.RUN: ("run_id",),
    }[found.place]
    assert set(needed) <= set(found.arguments)
    assert (found.right in ("reader", "writer", "admin")) == (found.place is not Place.NONE)
    if found.method == "GET":
        assert found.body is None
        assert not found.audited
        assert found.idempotent
    assert not found.vanishes or found.method == "DELETE"
    assert found.result is not None or found.method in ("PUT", "DELETE") or found.name == "add_part"


@given(st.data())
def test_a_path_is_read_as_it_was_written(data: st.DataObject) -> None:
    route = data.draw(st.sampled_from(ALL))
    numbers, texts = st.integers(0, 10**18 - 1), TEXT
    arguments = {name: data.draw(numbers if argument_type(name) is int else texts) for name in route.arguments}
    endpoint, found = matcher().find(route.method, route.url(arguments).encode())
    assert endpoint is not None
    assert endpoint.route is route
    assert found == arguments


@example(order="created_at", limit=0, after="null", tags=["null"], used=True)
@given(
    order=st.sampled_from(["created_at", "-created_at", "+created_at"]), limit=st.integers(),
    after=st.none() | st.text(st.characters()), tags=st.lists(st.text(st.characters())), used=st.booleans(),
)
def test_a_query_is_read_as_it_was_written(
    order: str, limit: int, after: str | None, tags: list[str], used: bool
) -> None:
    for query in (
        bodies.MemberPageQuery(order, limit, after, tags),
        bodies.RunVersionPageQuery(order, used, limit, after),
        bodies.AliasQuery(after or order),
        bodies.OfType(after),
    ):
        assert read_query(encode_query(query).encode(), type(query)) == query


@pytest.mark.parametrize(
    "query",
    [
        b"used=maybe", b"used=true&used=true", b"used=true&more=1", b"used", b"used=%ff", b"", b"\xff=1", b"used=true&&&",
        b"used=null",
    ],
)
def test_a_bad_query_is_refused(query: bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        read_query(query, bodies.RunVersionsQuery)


@pytest.mark.parametrize(
    "path",
    [
        b"/", b"", b"/v1", b"/v1/", b"/v2/entities", b"/v1/entities/", b"/v1/entities//projects",
        b"/v1/members/x", b"/v1/members/-1",
        b"/v1/members/01", b"/v1/members/" + b"9" * 19, b"/v1/entities/%ff/projects", b"/v1/entities/a/b/projects",
    ],
)
def test_other_paths_lead_nowhere(path: bytes) -> None:
    with pytest.raises(NotFoundError):
        matcher().find("GET", path)


def test_other_methods_are_told_which_there_are() -> None:
    assert matcher().find("POST", b"/v1/projects/e/p") == (None, ["DELETE", "GET", "PUT"])


def test_an_encoded_slash_is_a_part_of_a_name() -> None:
    endpoint, found = matcher().find("GET", b"/v1/projects/a%2Fb/%2e%2e")
    assert endpoint is not None
    assert found == {"entity": "a/b", "project": ".."}
