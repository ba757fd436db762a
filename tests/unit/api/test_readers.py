"""What reads data by fsspec reads `artfs://`: pandas, pyarrow, Dask, Hugging Face datasets. docs/readers.md says how."""

from __future__ import annotations

import errno
import gzip
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas
import pyarrow
import pyarrow.csv
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pytest
from PIL import Image

from artfs.api.artifact import Artifact
from artfs.api.fsspec import ArtfsFileSystem
from artfs.api.session import Session

ROWS = 300
ODD = ["a b.csv", "a#b.csv", "100%.csv", "what?.csv", "p%20q.csv", "x@y:z.csv", "ü.csv"]
"""Names that mean something in URLs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the version has: 300 rows as csv/, pq/ and json/ in three files each, hive/, images/, odd/."""
    root = tmp_path_factory.mktemp("readers")
    for name in ("csv", "pq", "json", "odd", "hive/part=a", "hive/part=b"):
        (root / name).mkdir(parents=True)
    for part in range(3):
        frame = pandas.DataFrame({"x": range(part * 100, part * 100 + 100), "y": [f"s{row}" for row in range(100)]})
        frame.to_csv(root / "csv" / f"{part}.csv", index=False)
        frame.to_parquet(root / "pq" / f"{part}.parquet", index=False)
        frame.to_json(root / "json" / f"{part}.jsonl", orient="records", lines=True)
    for part in ("a", "b"):
        pandas.DataFrame({"v": range(10)}).to_parquet(root / "hive" / f"part={part}" / "0.parquet")
    for name in ODD:
        (root / "odd" / name).write_text("x,y\n1,2\n")
    for label in ("cat", "dog"):
        (root / "images" / label).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(root / "images" / label / f"{number}.png")
    (root / "described").mkdir()
    Image.new("RGB", (4, 4)).save(root / "described" / "0.png")
    (root / "described" / "metadata.jsonl").write_text(json.dumps({"file_name": "0.png", "text": "black"}) + "\n")
    (root / "a.csv.gz").write_bytes(gzip.compress(b"x,y\n1,2\n"))
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        archive.writestr("in.csv", "x,y\n1,2\n")
    return root


@pytest.fixture(scope="module")
def logged(log_once: Callable[[Path], Path], folder: Path) -> Path:
    return log_once(folder)


@pytest.fixture
def session(open_copy: Callable[[Path], Session], logged: Path) -> Session:
    return open_copy(logged)


@pytest.fixture
def url(session: Session) -> str:
    """Of the version, by its alias."""
    # As its entry point does, in an installation that is newer than this one.
    fsspec.register_implementation("artfs", ArtfsFileSystem, clobber=True)
    return "artfs://p/ds:latest"


@pytest.fixture
def fs(url: str) -> ArtfsFileSystem:
    found: ArtfsFileSystem = fsspec.filesystem("artfs", skip_instance_cache=True)
    return found


def log_file(name: str, path: str, data: bytes) -> None:
    artifact = Artifact(name, "dataset")
    with artifact.new_file(path, "wb") as stream:
        stream.write(data)
    artifact.save("p")


def is_refused(write: Callable[[], object]) -> bool:
    with pytest.raises(OSError, match="read-only") as caught:
        write()
    return caught.value.errno == errno.EROFS


# pandas -------------------------------------------------------------------------------------------


def test_pandas(url: str) -> None:
    assert pandas.read_csv(f"{url}/csv/0.csv")["x"].tolist() == list(range(100))
    assert pandas.read_csv(f"{url}/a.csv.gz")["y"].tolist() == [2]
    assert pandas.read_csv(f"zip://in.csv::{url}/a.zip")["y"].tolist() == [2]
    assert pandas.read_csv(f"{url}/csv/1.csv", storage_options={"entity": "local"})["x"].sum() == 14_950
    assert sum(len(chunk) for chunk in pandas.read_json(f"{url}/json/0.jsonl", lines=True, chunksize=30)) == 100
    assert pandas.read_parquet(f"{url}/pq/2.parquet", columns=["x"])["x"].sum() == 24_950
    assert len(pandas.read_parquet(f"{url}/pq", filters=[("x", ">=", 150)])) == 150
    assert pandas.read_parquet(f"{url}/hive").groupby("part", observed=True)["v"].sum().to_dict() == {"a": 45, "b": 45}


@pytest.mark.parametrize("name", ODD)
def test_pandas_reads_any_name(url: str, name: str) -> None:
    assert pandas.read_csv(f"{url}/odd/{name}").to_dict("list") == {"x": [1], "y": [2]}


@pytest.mark.parametrize("method", ["to_csv", "to_json", "to_parquet", "to_pickle", "to_feather"])
def test_pandas_writes_nothing(url: str, method: str) -> None:
    frame = pandas.DataFrame({"x": [1]})
    assert is_refused(lambda: getattr(frame, method)(f"{url}/new"))


# pyarrow ------------------------------------------------------------------------------------------


def test_pyarrow(fs: ArtfsFileSystem, url: str) -> None:
    assert pyarrow.dataset.dataset("p/ds:latest/pq", filesystem=fs, format="parquet").count_rows() == ROWS
    names = [f"p/ds:v0/csv/{part}.csv" for part in range(3)]
    assert pyarrow.dataset.dataset(names, filesystem=fs, format="csv").count_rows() == ROWS
    hive = pyarrow.dataset.dataset("p/ds:v0/hive", filesystem=fs, format="parquet", partitioning="hive")
    assert hive.to_table(filter=pyarrow.dataset.field("part") == "b").num_rows == 10
    assert pyarrow.parquet.read_table("p/ds:v0/pq", filesystem=fs).num_rows == ROWS
    # By a URL: pyarrow knows no others than its own, and these.
    assert pyarrow.dataset.dataset(f"fsspec+{url}/pq", format="parquet").count_rows() == ROWS
    assert pyarrow.parquet.read_table(f"fsspec+{url}/pq/1.parquet", columns=["x"])["x"][0].as_py() == 100


def test_what_pyarrow_knows_of_a_file(fs: ArtfsFileSystem, url: str) -> None:
    wrapped = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))
    info = wrapped.get_file_info("p/ds:latest/csv/0.csv")
    assert (info.type, info.size) == (pyarrow.fs.FileType.File, fs.size(f"{url}/csv/0.csv"))
    assert abs(info.mtime - fs.modified(url)).total_seconds() < 1e-3
    assert wrapped.get_file_info("p/ds:latest/none").type == pyarrow.fs.FileType.NotFound
    found = wrapped.get_file_info(pyarrow.fs.FileSelector("p/ds:latest/hive", recursive=True))
    assert sorted(info.path.removeprefix("p/ds:latest/hive/") for info in found) == [
        "part=a", "part=a/0.parquet", "part=b", "part=b/0.parquet",
    ]  # fmt: skip


def test_pyarrow_writes_nothing(fs: ArtfsFileSystem, url: str) -> None:
    table = pyarrow.table({"x": [1]})
    assert is_refused(lambda: pyarrow.parquet.write_table(table, "p/ds:latest/new", filesystem=fs))
    assert is_refused(lambda: pyarrow.dataset.write_dataset(table, "p/ds:latest/new", filesystem=fs, format="parquet"))


# Dask ---------------------------------------------------------------------------------------------

dasks_own = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index is deprecated")


@pytest.fixture(scope="module")
def dask() -> Any:
    """The library, imported late: whoever runs other tests does not wait for it."""
    import dask.bag
    import dask.dataframe

    return dask


@dasks_own
@pytest.mark.parametrize("read", ["read_csv", "read_parquet"])
def test_dask_reads_files_patterns_and_directories(dask: Any, url: str, read: str) -> None:
    frame = dask.dataframe
    if read == "read_csv":
        found = [
            frame.read_csv(f"{url}/csv/*.csv"),
            frame.read_csv(f"{url}/csv/*.csv", blocksize=200),  # ranges of files
            frame.read_csv([f"{url}/csv/{part}.csv" for part in range(3)]),
        ]
        assert found[1].npartitions > 3
    else:
        found = [
            frame.read_parquet(f"{url}/pq"),
            frame.read_parquet(f"{url}/pq/*.parquet"),
            frame.read_parquet(f"{url}/pq", filesystem="fsspec"),
            frame.read_parquet(f"fsspec+{url}/pq", filesystem="arrow"),
            frame.read_parquet(f"{url}/pq", storage_options={"entity": "local"}),
        ]
        hive = frame.read_parquet(f"{url}/hive").groupby("part", observed=True)["v"].sum()
        assert hive.compute(scheduler="sync").to_dict() == {"a": 45, "b": 45}
    for each in found:
        assert each["x"].sum().compute(scheduler="threads") == 44_850


@dasks_own
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask_reads_in_threads_and_processes(dask: Any, url: str, scheduler: str) -> None:
    sums = [
        dask.dataframe.read_csv(f"{url}/csv/*.csv", blocksize=200)["x"].sum(),
        dask.dataframe.read_parquet(f"{url}/pq")["x"].sum(),
        dask.dataframe.read_parquet(f"{url}/pq", filesystem="fsspec")["x"].sum(),
    ]
    assert dask.compute(*sums, scheduler=scheduler, num_workers=2) == (44_850, 44_850, 44_850)
    lines = dask.bag.read_text(f"{url}/json/*.jsonl").count()
    assert lines.compute(scheduler=scheduler, num_workers=2) == ROWS


@pytest.mark.parametrize("name", ODD)
def test_dask_reads_any_name(dask: Any, url: str, name: str) -> None:
    frame = dask.dataframe.read_csv(f"{url}/odd/{name}").compute(scheduler="sync")
    assert frame.to_dict("list") == {"x": [1], "y": [2]}


def test_dask_names_tell_content_apart(dask: Any, url: str, fs: ArtfsFileSystem) -> None:
    """Equal names are equal bytes to Dask: it computes what it has seen before only once."""
    names: list[set[str]] = []

    def name_all() -> None:
        frame = dask.dataframe
        found = [frame.read_csv(f"{url}/csv/0.csv"), frame.read_parquet(f"{url}/pq"), frame.read_parquet(f"{url}/pq/0.parquet")]
        names.append({each._name for each in found})

    name_all()
    other = threading.Thread(target=name_all)
    other.start()
    other.join()
    assert len(names[0]) == 3 and names[0] == names[1]
    changed = Artifact("ds", "dataset")
    for path in ("csv/0.csv", "pq/0.parquet"):
        with changed.new_file(path, "wb") as stream:
            stream.write(fs.cat_file(f"{url}/{path}".replace("/0.", "/1.")))
    changed.save("p")
    name_all()
    assert not names[2] & names[0]


def test_dask_writes_nothing(dask: Any, url: str) -> None:
    frame = dask.dataframe.read_csv(f"{url}/csv/*.csv")
    assert is_refused(lambda: frame.to_csv(f"{url}/new-*.csv", compute_kwargs={"scheduler": "sync"}))
    assert is_refused(lambda: frame.to_parquet(f"{url}/new", compute_kwargs={"scheduler": "sync"}))


# Hugging Face datasets ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The library, imported late, with its caches in a folder of this module's own."""
    home = tmp_path_factory.mktemp("hf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        import datasets

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")  # for when it was imported before
        datasets.disable_progress_bars()
        yield datasets


@pytest.fixture
def load(datasets: Any, tmp_path: Path) -> Callable[..., Any]:
    """`load(builder, data_files, **options)`: load_dataset with a cache of this test's own, of the split "train"."""

    def load_dataset(builder: str, data_files: Any, **options: Any) -> Any:
        return datasets.load_dataset(
            builder, data_files=data_files, cache_dir=str(tmp_path / "cache"), **{"split": "train", **options}
        )

    return load_dataset


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("builder", "files", "columns"),
    [
        ("csv", "csv/*.csv", ["x", "y"]),
        ("parquet", "pq/*.parquet", ["x", "y"]),
        ("json", "json/*.jsonl", ["x", "y"]),
        ("text", "json/*.jsonl", ["text"]),
    ],
)
def test_datasets(load: Callable[..., Any], url: str, builder: str, files: str, columns: list[str], streaming: bool) -> None:
    rows = list(load(builder, f"{url}/{files}", streaming=streaming))
    assert len(rows) == ROWS and list(rows[0]) == columns
    if "x" in columns:
        assert [row["x"] for row in rows] == list(range(ROWS))


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_of_images(load: Callable[..., Any], url: str, streaming: bool) -> None:
    found = load("imagefolder", f"{url}/images/**", streaming=streaming)
    assert sorted((row["label"], row["image"].getpixel((0, 0))[0], row["image"].size) for row in found) == [
        (0, 0, (4, 4)), (0, 1, (4, 4)), (1, 0, (4, 4)), (1, 1, (4, 4)),
    ]  # fmt: skip


def test_datasets_of_images_with_a_list_of_them(load: Callable[..., Any], url: str) -> None:
    (row,) = load("imagefolder", f"{url}/described/**", streaming=True)
    assert (row["image"].size, row["text"]) == ((4, 4), "black")


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_of_any_name_and_archive(load: Callable[..., Any], url: str, streaming: bool) -> None:
    for path in [*(f"odd/{name}" for name in ODD), "a.csv.gz", "a.zip"]:
        assert list(load("csv", f"{url}/{path}", streaming=streaming)) == [{"x": 1, "y": 2}], path


def test_datasets_with_splits_and_options(load: Callable[..., Any], url: str, session: Session) -> None:
    files = {"train": [f"{url}/csv/0.csv", f"{url}/csv/1.csv"], "test": f"{url}/csv/2.csv"}
    found = load("csv", files, split=None, storage_options={"home": str(session.settings.home)})
    assert {split: len(rows) for split, rows in found.items()} == {"train": 200, "test": 100}


def test_datasets_in_two_processes(load: Callable[..., Any], url: str) -> None:
    found = load("parquet", f"{url}/pq/*.parquet", num_proc=2)
    assert sorted(found["x"]) == list(range(ROWS))


def test_datasets_that_were_saved(datasets: Any, load: Callable[..., Any], url: str, tmp_path: Path) -> None:
    found = load("csv", f"{url}/csv/*.csv")
    assert is_refused(lambda: found.save_to_disk(f"{url}/new"))
    found.save_to_disk(tmp_path / "saved")
    artifact = Artifact("saved", "dataset")
    artifact.add_dir(tmp_path / "saved")
    artifact.save("p")
    assert datasets.load_from_disk("artfs://p/saved:latest")["x"][-1] == ROWS - 1


def test_datasets_and_an_alias_that_moves(datasets: Any, load: Callable[..., Any], url: str) -> None:
    """Without streaming, datasets keeps what it fetched by URL alone, unless it is told to ask for the ETag."""
    ask = datasets.DownloadConfig(use_etag=True)
    for value in (1, 2):
        log_file("moving", "a.csv", b"n\n%d\n" % value)
        moving = "artfs://p/moving:latest/a.csv"
        assert list(load("csv", moving, streaming=True)) == [{"n": value}]
        assert load("csv", moving, download_config=ask)["n"][:] == [value]
        assert load("csv", f"artfs://p/moving:v{value - 1}/a.csv")["n"][:] == [value]
