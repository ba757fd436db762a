"""Audio, video, pages, points and plots."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from bokeh.layouts import column
from bokeh.plotting import figure

import artfs
from artfs.api.artifact import Artifact
from artfs.api.media.bokeh import renumbered
from artfs.api.media.html import with_head
from artfs.api.media.video import tile
from artfs.api.session import Session
from artfs.errors import InvalidArgumentError

# audio --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "samples",
    [
        np.sin(np.arange(4000) / 9),
        list(np.sin(np.arange(4000) / 9)),
        np.sin(np.arange(4000) / 9).astype("float32"),
        (np.sin(np.arange(4000) / 9) * 32767).astype("int16"),
    ],
    ids=lambda given: getattr(given, "dtype", "list"),
)
def test_samples(samples: Any) -> None:
    audio = artfs.Audio(samples, sample_rate=8000)
    assert (audio.sample_rate, audio.duration) == (8000, 0.5)
    assert np.allclose(audio.to_array(), np.sin(np.arange(4000) / 9), atol=1e-3)


def test_channels() -> None:
    assert artfs.Audio(np.zeros((100, 2)), 8000).to_array().shape == (100, 2)


def test_an_audio_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    artfs.Audio(np.zeros(80), sample_rate=8000).save(path)
    audio = artfs.Audio(path, caption="quiet")
    assert (audio.read(), audio.caption, audio.uri) == (path.read_bytes(), "quiet", None)


@pytest.mark.parametrize(
    ("given", "rate", "error"),
    [
        (np.zeros(3), None, ValueError),
        (np.zeros(3), -1, ValueError),
        (np.zeros((1, 1, 1)), 8000, ValueError),
        (np.array(["a"]), 8000, ValueError),
        ("nowhere.wav", None, InvalidArgumentError),
    ],
)
def test_bad_audio(given: Any, rate: int | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        artfs.Audio(given, sample_rate=rate)


# video --------------------------------------------------------------------------------------------

FRAMES = np.zeros((5, 3, 16, 24), "uint8")
FRAMES[:, 0] = 255


@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_films(format: Any) -> None:
    video = artfs.Video(FRAMES, fps=10, format=format)
    assert (video.width, video.height) == (24, 16)
    with av.open(io.BytesIO(video.read())) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    assert len(frames) == 5
    assert frames[2].shape == (16, 24, 3)
    red, green, blue = frames[2].mean(axis=(0, 1))
    assert (red > 200, green < 50, blue < 50) == (True, True, True)


def test_odd_sides() -> None:
    with av.open(io.BytesIO(artfs.Video(FRAMES[:, :, :15, :23], format="mp4").read())) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (24, 16)


def test_a_gif_is_the_default() -> None:
    moving = FRAMES.copy()
    moving[2] = 0
    video = artfs.Video(moving)
    with PIL.Image.open(io.BytesIO(video.read())) as image:
        assert (image.format, image.size) == ("GIF", (24, 16))
        assert image.info["duration"] == 500  # two equal frames at 4 a second are one
        assert np.asarray(image.convert("RGB"))[0, 0].tolist() == [255, 0, 0]


def test_several_films_side_by_side() -> None:
    films = np.stack([np.full((2, 1, 2, 3), number) for number in (10, 20, 30)])
    tiled = tile(films)
    assert tiled.shape == (2, 4, 6, 3)
    assert tiled[0, ::2, ::3, 0].tolist() == [[10, 20], [30, 0]]
    assert tile(np.zeros((2, 3, 4, 5))).shape == (2, 4, 5, 3)


def test_a_film_from_a_file_or_a_stream(tmp_path: Path) -> None:
    made = artfs.Video(FRAMES, format="mp4")
    made.save(tmp_path / "a.mp4")
    assert artfs.Video(tmp_path / "a.mp4").sha256 == made.sha256
    assert artfs.Video(io.BytesIO(made.read()), format="mp4").sha256 == made.sha256


@pytest.mark.parametrize(
    ("given", "format", "error"),
    [
        ("nowhere.mp4", None, InvalidArgumentError),
        ("film.exe", None, InvalidArgumentError),
        (FRAMES, "avi", InvalidArgumentError),
        (FRAMES[0], None, ValueError),
        (np.zeros((1, 2, 3, 3)), None, ValueError),
        (np.full((1, 3, 2, 2), "a"), None, TypeError),
        (io.StringIO("text"), None, TypeError),
    ],
)
def test_bad_video(given: Any, format: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        artfs.Video(given, format=format)


# pages --------------------------------------------------------------------------------------------


def test_pages(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<p>\u4e2d")
    for given in (path, str(path), io.StringIO("<p>\u4e2d"), "<p>\u4e2d"):
        assert artfs.Html(given, inject=False).html == "<p>\u4e2d"  # type: ignore[arg-type]
    assert artfs.Html(str(path), inject=False, data_is_not_path=True).html == str(path)
    with pytest.raises(InvalidArgumentError):
        artfs.Html(tmp_path / "nowhere.html")


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("<p>x", "", "<p>x"),
        ("<html><body>x", "<html><head>", "</head><body>x"),
        ("<HTML lang=en><HEAD class='a'><title>t", "<HTML lang=en><HEAD class='a'>", "<title>t"),
        ("<header>x", "", "<header>x"),
    ],
)
def test_the_style_sheet_goes_into_the_head(page: str, before: str, after: str) -> None:
    made = with_head(page)
    assert made.startswith(before + '<base target="_blank"><style>')
    assert made.endswith("</style>" + after)
    assert "http" not in made, "a page asks nobody for its style"


# points -------------------------------------------------------------------------------------------

SCENE = {
    "type": "lidar/beta",
    "points": np.zeros((2, 4)),
    "boxes": np.array([{"corners": np.zeros((8, 3)).tolist(), "label": "x", "color": [1, 2, 3]}]),
    "vectors": [{"start": [0, 0, 0], "end": (1, 1, 1)}],
}


def test_points() -> None:
    for width in (3, 4, 6):
        assert artfs.Object3D(np.ones((2, width))).points == [[1] * width] * 2
    assert artfs.Object3D.from_numpy([[1, 2, 3]]).points == [[1, 2, 3]]
    scene = artfs.Object3D(SCENE).points
    assert scene == {
        "type": "lidar/beta",
        "points": [[0, 0, 0, 0]] * 2,
        "boxes": [{"corners": [[0, 0, 0]] * 8, "label": "x", "color": [1, 2, 3]}],
        "vectors": [{"start": [0, 0, 0], "end": [1, 1, 1]}],
    }
    assert artfs.Object3D.from_point_cloud(np.zeros((1, 3))).points["boxes"] == []


def test_a_file_of_points(tmp_path: Path, session: Session) -> None:
    path = tmp_path / "a.pts.json"
    path.write_text("[[1,2,3]]")
    artifact = Artifact("points", "dataset")
    artifact.add(artfs.Object3D(path), "file")
    artifact.add(artfs.Object3D.from_file(io.StringIO("[[1,2,3]]"), "pts.json"), "stream")
    artifact.save()
    for name in ("file", "stream"):
        found = artifact.get(name)
        assert isinstance(found, artfs.Object3D)
        assert found.points == [[1, 2, 3]]


def test_an_artifact_takes_no_other_3d_file(tmp_path: Path, session: Session) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0")
    with pytest.raises(ValueError, match="add_file"):
        Artifact("points", "dataset").add(artfs.Object3D(tmp_path / "a.obj"), "it")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (np.zeros((2, 5)), ValueError),
        (np.zeros(3), ValueError),
        ([[float("nan"), 0, 0]], ValueError),
        ({"type": "other"}, ValueError),
        ("nowhere.obj", InvalidArgumentError),
        (io.StringIO(""), InvalidArgumentError),
    ],
)
def test_bad_points(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        artfs.Object3D(given)


# plots --------------------------------------------------------------------------------------------


def plot() -> Any:
    made = figure(title="a plot")
    made.scatter([1, 2], [3, 4])
    return made


def test_plots(tmp_path: Path) -> None:
    one = artfs.Bokeh(plot())
    assert one == artfs.Bokeh(plot()) != artfs.Bokeh(column(plot(), plot()))
    (root,) = one.b_obj.roots
    assert root.title.text == "a plot"
    one.save(tmp_path / "a.bokeh.json")
    assert artfs.Bokeh(tmp_path / "a.bokeh.json") == one
    (again,) = artfs.Bokeh(one.b_obj).b_obj.roots
    assert again.title.text == "a plot"
    with pytest.raises(TypeError):
        artfs.Bokeh(3)


def test_a_plot_that_is_in_a_document_stays_there() -> None:
    document = artfs.Bokeh(plot()).b_obj
    root = document.roots[0]
    assert artfs.Bokeh(root) == artfs.Bokeh(document)
    assert root.document is document
    free = plot()
    artfs.Bokeh(free)
    assert free.document is None


def test_models_are_numbered_in_order() -> None:
    given = {"id": "p7", "x": [{"id": "p3"}, {"id": "p7"}, {"id": "mine", "name": "p3"}]}
    assert json.dumps(renumbered(given)) == json.dumps(
        {"id": "p1000", "x": [{"id": "p1001"}, {"id": "p1000"}, {"id": "mine", "name": "p3"}]}
    )
