"""The description of the calls."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from artfs.server.openapi import describe
from artfs.wire.routes import ROUTES, SERVER_ROUTES

from .conftest import World

ALL = ROUTES + SERVER_ROUTES


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(describe(ALL))


def test_it_is_openapi_3_1(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_it_has_every_call(document: Any) -> None:
    described = {
        operation["operationId"]: (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert described == {route.name: (route.method, route.path) for route in ALL} | {
        "healthz": ("GET", "/healthz"), "readyz": ("GET", "/readyz"),
    }


def test_every_argument_is_described(document: Any) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"]
            assert named == re.findall(r"\{(\w+)\}", path)


def test_only_what_needs_none_is_without_a_token(document: Any) -> None:
    without = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
        if operation.get("security") == []
    ]
    assert sorted(without) == ["healthz", "openapi", "readyz"]


def test_it_is_served_to_anybody(world: World) -> None:
    served = world.get("/v1/openapi.json", None)
    assert (served.status, served.headers["content-type"]) == (200, "application/json")
    assert served.json["paths"].keys() == json.loads(describe(ALL))["paths"].keys()
