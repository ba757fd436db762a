"""The interface of the class reference: all its members are there, with its parameters and defaults, and each is tested.

`reference.json` is what the reference lists, as data. Where the reference itself lies beside the project, it is read
again and compared.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact

HERE = Path(__file__).parent
REFERENCE = json.loads((HERE / "reference.json").read_text())
ORIGINAL = HERE.parents[3] / "shared" / "reference" / "artifact-class-reference.txt"

Parameters = list[list[Any]]
"""[name] of each parameter, or [name, default]."""

_HEADING = re.compile(r"### <kbd>(property|method)</kbd> (\S+)")
_PARAMETER = re.compile(r"""(\w+): (?:'[^']*'|"[^"]*")(?: = (.+?))?,?""")
_CONSTRUCTOR = "Artifact"


def parse(text: str) -> dict[str, Any]:
    """The members that the class reference lists, as `reference.json` has them."""
    properties: list[str] = []
    methods: dict[str, Parameters] = {}
    parameters: Parameters = methods.setdefault(_CONSTRUCTOR, [])
    for line in text.splitlines():
        if heading := _HEADING.fullmatch(line):
            kind, name = heading[1], heading[2].replace("\\_", "_")
            if kind == "property":
                properties.append(name)
            else:
                parameters = methods.setdefault(name, [])
        elif found := _PARAMETER.fullmatch(line):
            parameters.append([found[1]] if found[2] is None else [found[1], ast.literal_eval(found[2])])
    constructor = methods.pop(_CONSTRUCTOR)
    return {"constructor": constructor, "properties": properties, "methods": methods}


def test_the_data_is_what_the_reference_says() -> None:
    assert (len(REFERENCE["properties"]), len(REFERENCE["methods"])) == (33, 26)
    if ORIGINAL.exists():
        assert parse(ORIGINAL.read_text()) == REFERENCE


def parameters_of(function: Any) -> Parameters:
    """As Parameters, without `self`."""
    found = list(inspect.signature(function).parameters.values())[1:]
    assert all(parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for parameter in found)
    return [
        [parameter.name]
        if parameter.default is inspect.Parameter.empty
        else [parameter.name, parameter.default]
        for parameter in found
    ]


def test_the_constructor() -> None:
    assert parameters_of(Artifact.__init__) == REFERENCE["constructor"]


@pytest.mark.parametrize("name", REFERENCE["properties"])
def test_property(name: str) -> None:
    found = inspect.getattr_static(Artifact, name)
    assert isinstance(found, property)
    assert found.__doc__


@pytest.mark.parametrize("name", REFERENCE["methods"])
def test_method(name: str) -> None:
    method = getattr(Artifact, name)
    assert parameters_of(method) == REFERENCE["methods"][name]
    assert method.__doc__


# each has a test ----------------------------------------------------------------------------------


@cache
def asserting_tests() -> list[ast.FunctionDef]:
    """Every test of this folder that asserts something."""
    found = []
    for path in sorted(HERE.glob("test_*.py")):
        if path.name == Path(__file__).name:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and asserted(node):
                found.append(node)
    return found


def asserted(test: ast.FunctionDef) -> list[ast.expr]:
    """The expressions that the test asserts."""
    return [node.test for node in ast.walk(test) if isinstance(node, ast.Assert)]


@cache
def properties_in_assertions() -> frozenset[str]:
    """Names of attributes that are read inside an assertion."""
    return frozenset(
        node.attr
        for test in asserting_tests()
        for expression in asserted(test)
        for node in ast.walk(expression)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    )


@cache
def calls_in_tests() -> frozenset[tuple[str, str]]:
    """(method, argument) of the calls in tests that assert something; the argument is "" for the call itself."""
    order = {name: [given[0] for given in parameters] for name, parameters in REFERENCE["methods"].items()}
    order[_CONSTRUCTOR] = [given[0] for given in REFERENCE["constructor"]]
    found: set[tuple[str, str]] = set()
    for test in asserting_tests():
        for node in ast.walk(test):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            if name in order:
                found.add((name, ""))
                found.update((name, given) for given, _ in zip(order[name], node.args, strict=False))
                found.update((name, keyword.arg) for keyword in node.keywords if keyword.arg)
    return frozenset(found)


@pytest.mark.parametrize("name", REFERENCE["properties"])
def test_property_has_a_test(name: str) -> None:
    assert name in properties_in_assertions()


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        (method, argument)
        for method, parameters in sorted({**REFERENCE["methods"], _CONSTRUCTOR: REFERENCE["constructor"]}.items())
        for argument in ["", *(given[0] for given in parameters)]
    ],
)
def test_method_has_a_test_of_each_argument(method: str, argument: str) -> None:
    assert (method, argument) in calls_in_tests()
