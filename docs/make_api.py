"""Writes docs/api.md from the docstrings of what `artfs` exports: `python docs/make_api.py`.

A test holds the page against the code.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any

import artfs
from artfs.api.collection import ArtifactCollection, ArtifactType, Registry
from artfs.api.files import ArtifactFiles, File
from artfs.api.lineage import Lineage
from artfs.api.paging import Paginator
from artfs.api.recorded import RecordedRun
from artfs.api.values import Values
from artfs.errors import ArtfsError, all_kinds

PAGE = Path(__file__).with_name("api.md")

RETURNED = (ArtifactCollection, ArtifactFiles, ArtifactType, File, Lineage, Paginator, RecordedRun, Registry, Values)
"""Not exported, as nobody makes them: what methods return."""

_HEAD = """# The Python API

Made from the docstrings by `python docs/make_api.py`; do not edit. What a script for wandb finds changed is in
[coming-from-wandb.md](coming-from-wandb.md). `import artfs` loads nothing; each name loads what it needs at its first use.
"""

_ITEM = re.compile(r"    (\S[^:]*): (.*)")
_SECTION = re.compile(r"(Arguments|Attributes)( \(.*\))?:$")


def page() -> str:
    """The whole page."""
    names = [name for name in artfs.__all__ if name != "errors"]
    found = {name: getattr(artfs, name) for name in names} | {cls.__name__: cls for cls in RETURNED}
    parts = [_HEAD]
    functions = [name for name, value in found.items() if not isinstance(value, type)]
    classes = [name for name, value in found.items() if isinstance(value, type) and not _is_error(value)]
    contents = ", ".join(f"[`{name}`](#{name.lower()})" for name in [*functions, *classes])
    parts.append(f"{contents}, [errors](#errors).\n")
    parts += [_function(name, found[name], 2) for name in functions]
    parts += [_class(name, found[name]) for name in classes]
    parts.append(_errors())
    return "\n".join(parts)


def _is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, ArtfsError)


def _class(name: str, cls: type) -> str:
    lines = [f"## {name}\n"]
    if issubclass(cls, Enum):
        return "\n".join([*lines, _text(cls)])
    constructor = inspect.getattr_static(cls, "__init__")
    documented = isinstance(constructor, FunctionType) and constructor.__doc__
    if documented and cls not in RETURNED:
        lines.append(_code(name, constructor))
    lines.append(_text(cls))
    if documented and cls not in RETURNED:
        lines.append(_text(constructor))
    properties, methods = [], []
    for member, value in _members(cls):
        if isinstance(value, property):
            properties.append((member, value))
        else:
            methods.append((member, value))
    if properties:
        lines.append("### Properties of " + name + "\n")
        lines.append("\n".join(f"- `{member}`: {_line(value)}" for member, value in properties) + "\n")
    lines += [_function(f"{name}.{member}", value, 3) for member, value in methods]
    return "\n".join(lines)


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public properties and methods, those of base classes of ours first, in the order of the source."""
    seen: set[str] = set()
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith("artfs"):
            continue
        for member in vars(base):
            if member in seen or member.startswith("_"):
                continue
            value = inspect.getattr_static(cls, member)
            if isinstance(value, classmethod | staticmethod):
                value = value.__func__
            if isinstance(value, property | FunctionType) and inspect.getdoc(value):
                seen.add(member)
                yield member, value


def _function(name: str, function: Any, level: int) -> str:
    return "\n".join([f"{'#' * level} {name}\n", _code(name.rpartition(".")[2], function), _text(function)])


def _code(name: str, function: Any) -> str:
    """The signature, a parameter a line when it is long."""
    signature = inspect.signature(function)
    taken = [it for it in signature.parameters.values() if it.name not in ("self", "cls")]
    given = [it.replace(annotation=_shown(it.annotation)) for it in taken]
    returned = _shown(signature.return_annotation)
    texts = [str(it).replace("'", "") if it.default is it.empty else _with_default(it) for it in given]
    keyword_only = next((at for at, it in enumerate(given) if it.kind is it.KEYWORD_ONLY), None)
    if keyword_only is not None and not any(it.kind is it.VAR_POSITIONAL for it in given):
        texts.insert(keyword_only, "*")
    arrow = "" if returned in (inspect.Signature.empty, "None") else f" -> {returned}"
    text = f"{name}({', '.join(texts)}){arrow}"
    if len(text) > 100:
        text = f"{name}(\n" + "".join(f"    {line},\n" for line in texts) + f"){arrow}"
    return f"```python\n{text}\n```\n"


def _shown(annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return annotation
    return getattr(annotation, "__name__", str(annotation))


def _with_default(parameter: inspect.Parameter) -> str:
    default = parameter.default
    shown = "None" if default is None else f'"{default}"' if isinstance(default, str) else repr(default)
    annotation = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    return f"{parameter.name}{annotation} = {shown}" if annotation else f"{parameter.name}={shown}"


def _line(value: Any) -> str:
    """A docstring as one line."""
    return " ".join((inspect.getdoc(value) or "").split())


def _text(value: Any) -> str:
    """A docstring as Markdown: what is listed below "Arguments:" becomes a list, indented code stays, other lines are
    joined into paragraphs."""
    done: list[str] = []
    text: list[str] = []
    listed: list[str] | None = None

    def end() -> None:
        if listed:
            done.append(_list(listed))
        if text:
            done.append("\n".join(text) if text[0].startswith("    ") else " ".join(text))
        text.clear()

    for line in [*(inspect.getdoc(value) or "").splitlines(), ""]:
        if listed is not None and line.startswith("    "):
            listed.append(line)
        elif _SECTION.match(line):
            end()
            done.append(line)
            listed = []
        elif line and listed is None:
            text.append(line)
        else:
            end()
            listed = None
            text += [line] * bool(line)
    end()
    return "\n\n".join(done) + "\n"


def _list(lines: list[str]) -> str:
    items: list[str] = []
    for line in lines:
        found = _ITEM.match(line)
        if found and not line.startswith("     "):
            names = ", ".join(f"`{name}`" for name in found[1].split(", "))
            items.append(f"- {names}: {found[2]}")
        elif items:
            items[-1] += " " + line.strip()
        else:
            items.append(textwrap.dedent(line))
    return "\n".join(items)


def _errors() -> str:
    rows = [
        f"| `{cls.__name__}` | `{kind}` | {', '.join(f'`{base.__name__}`' for base in cls.__bases__)} |"
        for kind, cls in sorted(all_kinds().items(), key=lambda pair: pair[1].__name__)
    ]
    return "\n".join(
        [
            "## Errors\n",
            "All are in `artfs.errors`; `str(error)` is one line that says what is wrong and what to do. `kind` is stable.\n",
            "| error | kind | also |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page())
