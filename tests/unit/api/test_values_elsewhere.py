"""Values that others wrote, in other processes, without their libraries, and in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import artfs
from artfs.api.artifact import Artifact
from artfs.api.session import Session
from artfs.errors import (
    BadObjectError,
)
from artfs.testing.madevalues import (
    PIXELS,
)

# what others wrote --------------------------------------------------------------------------------

BAD = {
    "it.table.json": [
        "no json",
        "[]",
        "{}",
        '{"_type": "image-file"}',
        '{"_type": "table", "columns": ["a"]}',
        '{"_type": "table", "columns": ["a"], "data": [[1, 2]]}',
        '{"_type": "table", "columns": ["a", 1], "data": []}',
        '{"_type": "table", "columns": [["a"]], "data": []}',
        '{"_type": "table", "columns": ["a"], "data": [], "column_types": 3}',
        '{"_type": "table", "columns": ["a"], "data": [[1e99]], "column_types": '
        '{"wb_type": "typedDict", "params": {"type_map": {"a": {"wb_type": "timestamp"}}}}}',
        '{"_type": "table", "columns": ["a"], "data": [["x"]], "column_types": '
        '{"wb_type": "typedDict", "params": {"type_map": {"a": {"wb_type": "timestamp"}}}}}',
        '{"_type": "table", "columns": ["a"], "data": [[null]], "column_types": {"wb_type": "typedDict", "params": '
        '{"type_map": {"a": {"wb_type": "ndarray", "params": {"shape": [2], "serialization_path": '
        '{"path": "it.table.json", "key": "a"}}}}}}}',
        "[" * 100_000,
    ],
    "it.image-file.json": [
        '{"_type": "image-file"}',
        '{"_type": "image-file", "path": 3}',
        '{"_type": "image-file", "path": "nowhere.png"}',
        '{"_type": "image-file", "path": "../../etc/passwd"}',
        '{"_type": "image-file", "path": "/etc/passwd"}',
        '{"_type": "image-file", "path": "it.image-file.json", "width": "x"}',
        '{"_type": "image-file", "path": "it.image-file.json", "boxes": {"a": [{}]}}',
        '{"_type": "image-file", "path": "it.image-file.json", "classes": {"path": "it.image-file.json"}}',
    ],
    "it.joined-table.json": [
        '{"_type": "joined-table", "table1": "it.joined-table.json", "table2": "x", "join_key": "a"}',
        '{"_type": "joined-table", "table1": "plain", "table2": "plain", "join_key": "a"}',
    ],
    "it.partitioned-table.json": ['{"_type": "partitioned-table", "parts_path": "../.."}'],
    "it.classes.json": ['{"_type": "classes", "class_set": [{"id": "x"}]}'],
    "it.bounding-boxes.json": ["{}", '[{"position": {}}]'],
}


@pytest.mark.parametrize(
    ("path", "text"), [(path, text) for path, texts in BAD.items() for text in texts], ids=lambda x: x[:60]
)
def test_malformed_json_is_an_error_that_names_it(session: Session, path: str, text: str) -> None:
    artifact = Artifact("values", "dataset")
    with artifact.new_file(path) as stream:
        stream.write(text)
    with artifact.new_file("plain") as stream:
        stream.write("plain")
    artifact.save()
    with pytest.raises(BadObjectError, match="'it.* of local/uncategorized/values:v0") as caught:
        artifact.get("it")
    assert caught.value.digest == artifact.get_entry(path).digest


def test_a_file_that_is_no_image(session: Session, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(ValueError, match="no image"):
        artfs.Image(tmp_path / "x.png")


# in other processes, and without libraries --------------------------------------------------------


def test_the_same_values_have_the_same_digest_in_every_process(run_python: Any, session: Session) -> None:
    code = """
import artfs
from bokeh.plotting import figure
for _ in range({count}): figure()
plot = figure(); plot.line([1, 2], [3, 4])
a = artfs.Artifact("x", "dataset")
a.add(artfs.JoinedTable(artfs.Table(["k"], [[1]]), artfs.Table(["k"], [[2]]), "k"), "joined")
a.add(artfs.Bokeh(plot), "plot")
print(a.digest)
"""
    digests = {run_python(code.replace("{count}", count)).stdout for count in ("0", "3")}
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


def test_importing_loads_no_library(run_python: Any) -> None:
    code = """
import sys, artfs
artfs.Artifact, artfs.Table, artfs.Image, artfs.Video
print(sorted({"numpy", "pandas", "pyarrow", "PIL", "soundfile", "av", "bokeh"} & set(sys.modules)))
"""
    assert run_python(code).stdout == "[]\n"


@pytest.mark.parametrize(
    ("library", "code", "name"),
    [
        ("PIL", "artfs.Image([[1, 2]])", "Pillow"),
        ("PIL", "artfs.Video(numpy.zeros((1, 3, 2, 2)))", "Pillow"),
        ("av", "artfs.Video(numpy.zeros((1, 3, 2, 2)), format='mp4')", "PyAV"),
        ("soundfile", "artfs.Audio([0.5], sample_rate=8000)", "soundfile"),
        ("bokeh", "artfs.Bokeh(object())", "bokeh"),
        ("numpy", "artfs.Object3D([[1, 2, 3]])", "numpy"),
        ("pandas", "artfs.Table(['a'], [[1]]).get_dataframe()", "pandas"),
        ("pyarrow", "artfs.Table(['a'], [[1]]).to_arrow()", "pyarrow"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(run_python: Any, library: str, code: str, name: str) -> None:
    before = "" if library == "numpy" else "import numpy\n"
    done = run_python(
        f"import sys\n{before}sys.modules[{library!r}] = None\nimport artfs\n"
        f"try:\n    {code}\nexcept ImportError as error:\n    print(type(error).__name__, error)"
    )
    assert done.stderr == ""
    assert done.stdout.startswith("MissingExtraError ")
    assert f" needs {name}, " in done.stdout
    assert "pip install 'artfs[media]'" in done.stdout


# in a notebook ------------------------------------------------------------------------------------


def test_what_a_notebook_shows(session: Session) -> None:
    artifact = Artifact("values", "dataset", description="<script>", metadata={"<k>": "<v>"})
    made = artfs.Table(["<c>"], [["<b>"], [None]])
    artifact.add(made, "<it>")
    draft = artifact._repr_html_()
    assert "values (draft)" in draft
    artifact.save()
    shown = artifact._repr_html_()
    for text in ("local/uncategorized/values:v0", "latest", artifact.digest, "&lt;script&gt;", "&lt;v&gt;"):
        assert text in shown
    assert "&lt;it&gt;.table.json" in shown
    for html in (draft, shown, made._repr_html_()):
        assert "<script>" not in html
        assert "<b>" not in html
        assert "<it>" not in html
    assert "<th>&lt;c&gt;</th>" in made._repr_html_()
    assert "<td>&lt;b&gt;</td>" in made._repr_html_()
    image = artfs.Image(PIXELS, caption='"><script>')._repr_html_()
    assert 'src="data:image/png;base64,' in image
    assert "<script>" not in image
