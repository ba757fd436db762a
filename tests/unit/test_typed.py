"""Typed decoding: by many threads at once, in processes that fork, and nowhere past artfs/typed.py."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import artfs
import artfsd
from artfs.typed import convert, json_decoder, read_json

_TYPES = """
import os, sys, threading
import msgspec
from artfs.typed import convert, json_decoder

sys.setswitchinterval(1e-6)

def nested():
    "A type that holds thirty others, which nobody has decoded, and a value of it."
    kind, value = None, {}
    for level in range(30):
        fields = {f"f{number}": int | str for number in range(10)}
        value = {**{name: 1 for name in fields}, **({"below": value} if kind else {})}
        if kind is not None:
            fields["below"] = kind
        kind = msgspec.defstruct(f"Level{level}", list(fields.items()))
    return kind, value

def at_once(work):
    go = threading.Barrier(4)
    def run():
        go.wait()
        for _ in range(3):
            work()
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""

_DECODING = """
for _ in range(40):
    kind, value = nested()
    data = msgspec.json.encode(value)
    at_once(lambda: json_decoder(kind)(data))
"""

_CONVERTING = """
for _ in range(40):
    kind, value = nested()
    at_once(lambda: convert(value, kind))
"""

_FORKING = """
end = threading.Event()
held = [nested()]

def decode():
    while not end.is_set():
        kind, value = nested()
        held[0] = kind, value
        json_decoder(kind)(msgspec.json.encode(value))

thread = threading.Thread(target=decode, daemon=True)
thread.start()
for _ in range(40):
    kind, value = held[0]
    pid = os.fork()
    if not pid:
        json_decoder(kind)(msgspec.json.encode(value))
        convert(value, kind)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
end.set()
thread.join()
"""


@pytest.mark.parametrize("body", [_DECODING, _CONVERTING, _FORKING], ids=["decoding", "converting", "forking"])
def test_types_that_several_threads_decode_for_the_first_time(body: str) -> None:
    # In a process of its own: what goes wrong here kills it.
    done = subprocess.run([sys.executable, "-c", _TYPES + body], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_it_makes() -> None:
    assert json_decoder(list[int])(b"[1, 2]") == [1, 2]
    assert read_json('{"a": 1}', dict[str, int]) == {"a": 1}
    assert convert("5", int, strict=False) == 5


def _calls_in_functions(path: Path) -> Iterator[str]:
    """What a file calls of msgspec, typed, when it is not just imported."""
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for call in ast.walk(function):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func)
            is_typed = name.endswith(".Decoder") or any(keyword.arg == "type" for keyword in call.keywords)
            if name.startswith("msgspec.") and (name == "msgspec.convert" or is_typed):
                yield f"{path}:{call.lineno}: {name}"


def test_nothing_decodes_past_it() -> None:
    packages = [Path(module.__file__ or "").parent for module in (artfs, artfsd)]
    paths = [path for package in packages for path in package.rglob("*.py") if "testing" not in path.parts]
    assert len(paths) > 100
    found = {call for path in paths if path.name != "typed.py" for call in _calls_in_functions(path)}
    assert not found
    assert list(_calls_in_functions(Path(artfs.__file__ or "").parent / "typed.py"))
