"""`artfs://` through fsspec, and the libraries that read by it."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import fsspec
import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
import pytest
from upath import UPath
from upath.registry import register_implementation

from artfs.api.artifact import Artifact
from artfs.api.fsspec import ArtfsFileSystem
from artfs.api.session import Session
from artfs.api.upath import ArtfsPath
from artfs.errors import BadBlobError

ROOT = Path(__file__).resolve().parents[3]
LARGE = os.urandom(3_000_000)


@pytest.fixture
def fs(session: Session) -> ArtfsFileSystem:
    # As their entry points do, in an installation that is newer than this one.
    fsspec.register_implementation("artfs", ArtfsFileSystem, clobber=True)
    register_implementation("artfs", ArtfsPath, clobber=True)
    found: ArtfsFileSystem = fsspec.filesystem("artfs", skip_instance_cache=True)
    return found


@pytest.fixture
def version(session: Session, make_files: Any) -> Artifact:
    """local/p/ds:v0 and :latest."""
    root = make_files(
        "in", {"a.csv": "x,y\n1,2\n3,4\n", "d/e/large.bin": LARGE, "d/#odd %20?.txt": "odd", "run.sh": "#!", "empty/": ""}
    )
    (root / "run.sh").chmod(0o755)
    (root / "d" / "link").symlink_to("../a.csv")
    (root / "up").symlink_to("d/e")
    artifact = Artifact("ds", "dataset")
    artifact.add_dir(root)
    artifact.save("p")
    return artifact


def test_the_urls_of_an_artifact_and_its_files(fs: ArtfsFileSystem, version: Artifact) -> None:
    assert sorted(fs.ls(version.url, detail=False))[0] == "@local/p/ds:v0/a.csv"
    for file in version.files():
        with fsspec.open(file.url) as stream:
            assert hashlib.sha256(stream.read()).hexdigest() == file.digest


# names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ["p"]),
        ("artfs://", ["p"]),
        ("@local", ["@local/p"]),
        ("p", ["p/ds:latest", "p/ds:v0"]),
        ("artfs://p/", ["p/ds:latest", "p/ds:v0"]),
        ("@local/p", ["@local/p/ds:latest", "@local/p/ds:v0"]),
        ("p/ds:v0", [f"p/ds:v0/{name}" for name in ("a.csv", "d", "empty", "run.sh", "up")]),
        ("artfs://p/ds:latest/d/", [f"p/ds:latest/d/{name}" for name in ("#odd %20?.txt", "e", "link")]),
        ("p/ds:v0/up", ["p/ds:v0/up/large.bin"]),
        ("p/ds:v0/empty", []),
        ("p/ds:v0/a.csv", ["p/ds:v0/a.csv"]),
        ("p/ds:v0/up/../e/large.bin", ["p/ds:v0/up/../e/large.bin"]),
    ],
)
def test_ls(fs: ArtfsFileSystem, version: Artifact, path: str, names: list[str]) -> None:
    assert fs.ls(path, detail=False) == names
    assert [info["name"] for info in fs.ls(path)] == names
    assert fs.exists(path)


@pytest.mark.parametrize(
    ("path", "kind", "size"),
    [
        ("", "directory", None),
        ("p", "directory", None),
        ("p/ds:v0", "directory", None),
        ("p/ds:v0/d", "directory", None),
        ("p/ds:v0/up", "directory", None),
        ("p/ds:v0/a.csv", "file", 12),
        ("p/ds:v0/d/link", "file", 12),
        ("p/ds:v0/up/large.bin", "file", 3_000_000),
    ],
)
def test_info(fs: ArtfsFileSystem, version: Artifact, path: str, kind: str, size: int | None) -> None:
    info = fs.info(f"artfs://{path}")
    assert (info["name"], info["type"], info["size"]) == (path, kind, size)
    assert (fs.isdir(path), fs.isfile(path)) == (kind == "directory", kind == "file")


def test_what_is_known_of_files_and_versions(fs: ArtfsFileSystem, version: Artifact) -> None:
    digest = hashlib.sha256(b"x,y\n1,2\n3,4\n").hexdigest()
    assert fs.info("p/ds:v0/a.csv")["digest"] == digest == fs.ukey("p/ds:v0/a.csv")
    assert fs.checksum("p/ds:v0/d/link") == int(digest[:16], 16)
    assert fs.info("p/ds:v0/run.sh")["executable"]
    info = fs.info("p/ds:latest")
    assert (info["digest"], info["version"], info["aliases"]) == (version.digest, "v0", ["latest"])
    assert fs.ukey("p/ds:v0") == version.digest
    assert len(fs.ukey("p")) == 64
    assert fs.created("p/ds:v0/a.csv") == fs.modified("p/ds:v0") == info["created"]
    assert abs(datetime.now(UTC) - info["created"]).total_seconds() < 3600
    with pytest.raises(FileNotFoundError):
        fs.created("p")
    assert {info["name"]: (info["type"], info.get("islink")) for info in fs.ls("p/ds:v0/d")} == {
        "p/ds:v0/d/#odd %20?.txt": ("file", None), "p/ds:v0/d/e": ("directory", None), "p/ds:v0/d/link": ("file", True),
    }
    assert {info["name"]: info["type"] for info in fs.ls("p/ds:v0")}["p/ds:v0/up"] == "other"  # walks must end


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("q", "no project"),
        ("q/ds:v0", "no project"),
        ("@other/p", "no project"),
        ("p/other:v0", "no collection"),
        ("p/ds", "write p/ds:ALIAS"),
        ("p/ds:v1", "v1"),
        ("p/ds:other/a.csv", "other"),
        ("p/ds:v0/b.csv", "there is no b.csv"),
        ("p/ds:v0/a.csv/x", "there is no a.csv"),
        ("p/ds/a.csv", "write p/ds:ALIAS"),
        ("p/bad name!:v0/x", "bad"),
        ("p/ds:@yesterday/x", "bad time"),
        ("p/ds:v0/../../x", "there is no x"),
    ],
)
def test_what_is_not_there(fs: ArtfsFileSystem, version: Artifact, path: str, why: str) -> None:
    for call in (fs.info, fs.ls, fs.open, fs.ukey):
        with pytest.raises(FileNotFoundError, match=why):
            call(path)
    assert not fs.exists(path)


def test_walks_and_patterns(fs: ArtfsFileSystem, version: Artifact) -> None:
    files = ["a.csv", "d/#odd %20?.txt", "d/e/large.bin", "d/link", "run.sh", "up"]
    assert fs.find("artfs://p/ds:v0") == [f"p/ds:v0/{name}" for name in files]
    assert fs.glob("p/ds:v0/**/*.bin") == ["p/ds:v0/d/e/large.bin"]
    assert fs.glob("p/ds:*/a.csv") == ["p/ds:latest/a.csv", "p/ds:v0/a.csv"]
    assert fs.du("p/ds:v0/d/e") == 3_000_000


def test_an_alias_moves(fs: ArtfsFileSystem, version: Artifact, make_files: Any) -> None:
    with fs.open("p/ds:latest/a.csv") as stream:
        second = Artifact("ds", "dataset")
        second.add_dir(make_files("second", {"a.csv": "z\n"}))
        second.save("p")
        assert fs.cat("p/ds:latest/a.csv") == b"z\n"
        assert stream.read() == b"x,y\n1,2\n3,4\n"  # the version that it was
    assert fs.cat("p/ds:v0/a.csv") == b"x,y\n1,2\n3,4\n"


# reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache_type", ["readahead", "none", "bytes", "all", "blockcache"])
def test_seeks_and_ranges(fs: ArtfsFileSystem, version: Artifact, cache_type: str) -> None:
    path = "artfs://p/ds:v0/d/e/large.bin"
    with fs.open(path, cache_type=cache_type, block_size=100_000) as stream:
        for offset, nbytes in ((0, 10), (262_140, 10), (2_999_990, 100), (1_000_000, 600_000), (5, 0)):
            stream.seek(offset)
            assert stream.read(nbytes) == LARGE[offset : offset + nbytes]
        stream.seek(-7, 2)
        assert (stream.read(), stream.read(1), stream.tell()) == (LARGE[-7:], b"", 3_000_000)
    assert stream.closed
    assert fs.cat_file(path, start=300_000, end=-5) == LARGE[300_000:-5]
    assert fs.cat_ranges([path, path], [0, 9], [4, 12]) == [LARGE[:4], LARGE[9:12]]
    assert fs.head("p/ds:v0/a.csv", 3) == b"x,y"
    assert fs.read_text("p/ds:v0/d/#odd %20?.txt") == "odd"


def test_a_file_is_copied_out(fs: ArtfsFileSystem, version: Artifact, tmp_path: Path) -> None:
    fs.get("p/ds:v0/d/e", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "large.bin").read_bytes() == LARGE


def test_damaged_blocks_are_not_handed_out(fs: ArtfsFileSystem, version: Artifact, session: Session) -> None:
    for path, at in (("p/ds:v0/d/e/large.bin", 300_000), ("p/ds:v0/a.csv", 1)):
        blob = session.store.path_of(fs.ukey(path))
        blob.chmod(0o644)
        with blob.open("r+b") as stream:
            stream.seek(at)
            stream.write(b"?")
            if at == 300_000:
                stream.seek(at)
                stream.write(bytes([LARGE[at] ^ 1]))
    with fs.open("p/ds:v0/d/e/large.bin", cache_type="none") as stream:
        assert stream.read(1000) == LARGE[:1000]
        stream.seek(299_990)
        with pytest.raises(BadBlobError):
            stream.read(20)
        stream.seek(600_000)
        assert stream.read(10) == LARGE[600_000:600_010]
    with pytest.raises(BadBlobError):
        fs.cat("p/ds:v0/a.csv")


def test_directories_are_not_read(fs: ArtfsFileSystem, version: Artifact) -> None:
    for path in ("", "p", "p/ds:v0", "p/ds:v0/d", "p/ds:v0/up"):
        with pytest.raises(IsADirectoryError):
            fs.open(path)


def test_references_are_fetched(fs: ArtfsFileSystem, session: Session, make_files: Any) -> None:
    source = make_files("source", {"f.txt": "far away"}) / "f.txt"
    artifact = Artifact("refs", "dataset")
    artifact.add_reference(source.as_uri(), "r")
    artifact.save("p")
    info = fs.info("p/refs:v0/r")
    assert (info["type"], info["size"], info["uri"]) == ("file", 8, source.as_uri())
    assert fs.cat("p/refs:v0/r") == b"far away"
    source.write_text("changed!")
    with pytest.raises(Exception, match="changed"):
        fs.open("p/refs:v0/r")


# writing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda fs: fs.open("p/ds:v0/new", "wb"),
        lambda fs: fs.open("p/ds:v0/a.csv", "ab"),
        lambda fs: fs.pipe("p/ds:v0/a.csv", b"x"),
        lambda fs: fs.touch("p/ds:v0/a.csv"),
        lambda fs: fs.rm("p/ds:v0", recursive=True),
        lambda fs: fs.rm_file("p/ds:v0/a.csv"),
        lambda fs: fs._rm("p/ds:v0/a.csv"),
        lambda fs: fs.mkdir("p/new"),
        lambda fs: fs.makedirs("p/new"),
        lambda fs: fs.rmdir("p/ds:v0/empty"),
        lambda fs: fs.cp_file("p/ds:v0/a.csv", "p/ds:v0/b.csv"),
        lambda fs: fs.mv("p/ds:v0/a.csv", "p/ds:v0/b.csv"),
    ],
)
def test_nothing_is_written(fs: ArtfsFileSystem, version: Artifact, write: Callable[[Any], object]) -> None:
    with pytest.raises(OSError, match="read-only") as caught:
        write(fs)
    assert caught.value.errno == errno.EROFS
    assert fs.cat("p/ds:v0/a.csv") == b"x,y\n1,2\n3,4\n"
    fs.makedirs("p/ds:v0/d", exist_ok=True)  # it is there


# how others find and use it -----------------------------------------------------------------------


def test_the_entry_points() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert {
        group: EntryPoint("artfs", named["artfs"], group).load() for group, named in points.items() if "artfs" in named
    } == {"fsspec.specs": ArtfsFileSystem, "universal_pathlib.implementations": ArtfsPath}


def test_options_choose_the_state_folder(fs: ArtfsFileSystem, version: Artifact, session: Session, tmp_path: Path) -> None:
    home = str(session.settings.home)
    other = ArtfsFileSystem(home=str(tmp_path / "other"))
    assert other.ls("") == []
    copy = pickle.loads(pickle.dumps(ArtfsFileSystem(home=home, entity="local")))
    assert copy.ls("", detail=False) == ["p"]
    assert ArtfsFileSystem(home=home, entity="else").ls("") == []


def test_a_forked_process_reads(fs: ArtfsFileSystem, version: Artifact) -> None:
    assert fs.exists("p/ds:v0")
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if fs.cat("p/ds:v0/a.csv").startswith(b"x,y") else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_fsspec_open(fs: ArtfsFileSystem, version: Artifact) -> None:
    with fsspec.open("artfs://p/ds:latest/a.csv", "rt") as stream:
        assert stream.readline() == "x,y\n"


def test_pandas(fs: ArtfsFileSystem, version: Artifact) -> None:
    frame = pandas.read_csv("artfs://p/ds:latest/a.csv")
    assert frame["y"].tolist() == [2, 4]


def test_pyarrow(fs: ArtfsFileSystem, session: Session, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table = pyarrow.table({"n": list(range(1000)), "part": ["a", "b"] * 500})
    for name in ("one", "two"):
        pyarrow.parquet.write_table(table, tmp_path / "in" / f"{name}.parquet")
    artifact = Artifact("tables", "dataset")
    artifact.add_dir(tmp_path / "in")
    artifact.save("p")
    assert pyarrow.parquet.read_table("p/tables:v0/one.parquet", filesystem=fs).equals(table)
    assert pandas.read_parquet("artfs://p/tables:latest/two.parquet", columns=["n"])["n"].sum() == 499_500
    dataset = pyarrow.dataset.dataset("p/tables:v0", filesystem=fs, format="parquet")
    assert dataset.count_rows() == 2000


def test_universal_pathlib(fs: ArtfsFileSystem, version: Artifact) -> None:
    root = UPath("artfs://p/ds:latest")
    assert isinstance(root, ArtfsPath)
    assert sorted(path.name for path in root.parent.iterdir()) == ["ds:latest", "ds:v0"]
    assert (root / "a.csv").read_text() == "x,y\n1,2\n3,4\n"
    assert sorted(path.name for path in root.iterdir()) == ["a.csv", "d", "empty", "run.sh", "up"]
    assert (root / "d").is_dir() and not (root / "nothing").exists()
    assert (root / "d" / "e" / "large.bin").stat().st_size == 3_000_000
    assert [path.name for path in root.glob("**/*.bin")] == ["large.bin"]
    with (root / "d" / "e" / "large.bin").open("rb") as stream:
        stream.seek(100)
        assert stream.read(4) == LARGE[100:104]
