"""The OpenAPI 3.1 description of all calls, from their table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from artfs.server.admin import program_version
from artfs.wire.bodies import ErrorBody
from artfs.wire.routes import CALL_HEADER, CALL_ID, CHANGE_HEADER, JSON, Route, argument_type

_REFS = "#/components/schemas/{name}"


def describe(routes: Sequence[Route]) -> bytes:
    """The document, as JSON."""
    queries = [info.type for route in routes for info in msgspec.structs.fields(route.query)]
    types = [kind for route in routes for kind in (route.body, route.result) if kind is not None]
    schemas, components = msgspec.json.schema_components([ErrorBody, *types, *queries], ref_template=_REFS)
    _give_times_their_format(components)
    error, *rest = schemas
    of_types = iter(rest[: len(types)])
    of_queries = iter(rest[len(types) :])
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        body = None if route.body is None else next(of_types)
        result = None if route.result is None else next(of_types)
        query = [(info, next(of_queries)) for info in msgspec.structs.fields(route.query)]
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, body, result, query, error)
    for path in ("/healthz", "/readyz"):
        answers = {"200": _answer("Yes.", JSON, {"type": "object"}), "503": _answer("No.", JSON, {"type": "object"})}
        summary = "Whether this process answers." if path == "/healthz" else "Whether its database and bucket do, too."
        paths[path] = {"get": {"operationId": path[1:], "summary": summary, "security": [], "responses": answers}}
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "artfs",
            "version": program_version(),
            "description": "Versioned datasets and models. docs/wire.md of the project says what this cannot.",
            "license": {"name": "see the project"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "A token of `artfs token create`."}},
        },
    }
    return json.dumps(document, indent=1).encode()


def _operation(
    route: Route, body: dict[str, Any] | None, result: dict[str, Any] | None,
    query: Sequence[tuple[msgspec.structs.FieldInfo, dict[str, Any]]], error: dict[str, Any],
) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _argument(name)} for name in route.arguments
    ] + [
        {"name": info.name, "in": "query", "required": info.required, "schema": _without_null(schema)}
        for info, schema in query
    ]
    if route.once:
        schema = {"type": "string", "pattern": f"^{CALL_ID.pattern}$"}
        about = "Random. Once the change is made, the same call with the same id changes nothing, and is answered as the first."
        parameters.append({"name": CALL_HEADER, "in": "header", "required": False, "schema": schema, "description": about})
    needs = {
        "public": "Needs no token.", "token": "Needs a token.", "server": "For administrators of the server.",
        "reader": "For readers.", "writer": "For writers.", "admin": "For administrators of the project.",
    }[route.right]
    responses: dict[str, Any] = {"default": _answer("What went wrong.", JSON, error)}
    if result is None:
        responses["204"] = {"description": "It is done."}
    else:
        responses["200"] = _answer("It is done.", route.result_media, result)
    if not route.only_reads:
        for status in ("200", "204"):
            if status in responses:
                responses[status]["headers"] = {
                    CHANGE_HEADER: {"description": "The newest change after it.", "schema": {"type": "integer"}}
                }
    operation: dict[str, Any] = {
        "operationId": route.name, "summary": route.summary, "description": needs, "parameters": parameters,
        "responses": responses,
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {route.body_media: {"schema": _body(route.body_media, body)}}}
    if route.right == "public":
        operation["security"] = []
    return operation


def _give_times_their_format(components: dict[str, Any]) -> None:
    """msgspec tells nothing of times that may come without a zone; the catalog wants one. Times are called `at` or `…_at`."""
    for schema in components.values():
        for name, of_name in schema.get("properties", {}).items():
            if name == "at" or name.endswith("_at"):
                for one in (of_name, *of_name.get("anyOf", ())):
                    if one.get("type") == "string":
                        one["format"] = "date-time"


def _argument(name: str) -> dict[str, Any]:
    if argument_type(name) is int:
        return {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
    return {"type": "string", "minLength": 1}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """In a query what is left out is null; the word stands for nothing else."""
    others = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(others) == 1:
        return {**others[0], **{name: value for name, value in schema.items() if name not in ("anyOf", "default")}}
    return schema


def _body(media: str, schema: dict[str, Any]) -> dict[str, Any]:
    return schema if media == JSON else {}


def _answer(description: str, media: str, schema: dict[str, Any]) -> dict[str, Any]:
    shown = schema if media == JSON else {"type": "string"}
    return {"description": description, "content": {media: {"schema": shown}}}
