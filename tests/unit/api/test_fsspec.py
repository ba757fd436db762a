"""`artfs://` through fsspec and universal_pathlib."""

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
import pytest
from upath import UPath
from upath.registry import register_implementation

from artfs.api.artifact import Artifact
from artfs.api.fsspec import ArtfsFileSystem
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.api.upath import ArtfsPath
from artfs.errors import BadBlobError, BlobMissingError
from artfs.model.tree import PageCache
from artfs.testing.web import WebServer

ROOT = Path(__file__).resolve().parents[3]
LARGE = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def logged(log_once: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("in")
    (root / "d" / "e").mkdir(parents=True)
    (root / "a.csv").write_text("x,y\n1,2\n3,4\n")
    (root / "d" / "e" / "large.bin").write_bytes(LARGE)
    (root / "d" / "#odd %20?.txt").write_text("odd")
    (root / "run.sh").write_text("#!")
    (root / "run.sh").chmod(0o755)
    (root / "empty").mkdir()
    (root / "d" / "link").symlink_to("../a.csv")
    (root / "up").symlink_to("d/e")
    return log_once(root)


@pytest.fixture
def session(open_copy: Callable[[Path], Session], logged: Path) -> Session:
    return open_copy(logged)


@pytest.fixture
def fs(session: Session) -> ArtfsFileSystem:
    # As their entry points do, in an installation that is newer than this one.
    fsspec.register_implementation("artfs", ArtfsFileSystem, clobber=True)
    register_implementation("artfs", ArtfsPath, clobber=True)
    found: ArtfsFileSystem = fsspec.filesystem("artfs", skip_instance_cache=True)
    return found


@pytest.fixture
def version(session: Session) -> Artifact:
    """local/p/ds:v0 and :latest."""
    return Api().artifact("p/ds:v0")


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
        ("artfs:///p", ["p/ds:latest", "p/ds:v0"]),
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
        ("", "directory", 0),
        ("p", "directory", 0),
        ("p/ds:v0", "directory", 0),
        ("p/ds:v0/d", "directory", 0),
        ("p/ds:v0/up", "directory", 0),
        ("p/ds:v0/a.csv", "file", 12),
        ("p/ds:v0/d/link", "file", 12),
        ("p/ds:v0/up/large.bin", "file", 3_000_000),
    ],
)
def test_info(fs: ArtfsFileSystem, version: Artifact, path: str, kind: str, size: int) -> None:
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
    assert fs.info("p/ds:v0/d/link")["islink"] and fs.info("p/ds:v0/up")["islink"]
    assert "islink" not in fs.info("p/ds:v0/up/large.bin") and "islink" not in fs.info("p/ds:v0/d/..")


def test_modes_and_times_are_those_of_the_mount(fs: ArtfsFileSystem, version: Artifact) -> None:
    modes = {path: fs.info(f"p/ds:v0/{path}")["mode"] for path in ("a.csv", "run.sh", "d", "up", "d/link")}
    assert modes == {"a.csv": 0o100644, "run.sh": 0o100755, "d": 0o40755, "up": 0o40755, "d/link": 0o100644}
    assert fs.info("p")["mode"] == fs.info("")["mode"] == 0o40755
    for path in ("p/ds:v0", "p/ds:v0/a.csv", "p/ds:v0/d"):
        assert fs.info(path)["mtime"] == fs.created(path).timestamp()


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
    files = ["a.csv", "d/#odd %20?.txt", "d/e/large.bin", "d/link", "run.sh", "up/large.bin"]
    assert fs.find("artfs://p/ds:v0") == [f"p/ds:v0/{name}" for name in files]
    assert fs.glob("p/ds:v0/**/*.bin") == ["p/ds:v0/d/e/large.bin", "p/ds:v0/up/large.bin"]
    assert fs.glob("p/ds:v0/d/*/") == ["p/ds:v0/d/e"]
    assert fs.glob("artfs://p/ds:v0/a.csv") == ["p/ds:v0/a.csv"]
    assert fs.glob("p/ds:v0/none/*") == fs.glob("q/*") == []
    assert fs.glob("p/ds:*/a.csv") == ["p/ds:latest/a.csv", "p/ds:v0/a.csv"]
    assert fs.du("p/ds:v0/d/e") == 3_000_000
    assert fs.du("p/ds:v0/d", total=False, maxdepth=1) == {"p/ds:v0/d/#odd %20?.txt": 3, "p/ds:v0/d/link": 12}
    assert fs.du("p/ds:v0", withdirs=True) == 6_000_029
    assert [(path, sorted(dirs), sorted(files)) for path, dirs, files in fs.walk("p/ds:v0", maxdepth=2)] == [
        ("p/ds:v0", ["d", "empty", "up"], ["a.csv", "run.sh"]),
        ("p/ds:v0/d", ["e"], ["#odd %20?.txt", "link"]),
        ("p/ds:v0/empty", [], []),
        ("p/ds:v0/up", [], ["large.bin"]),
    ]  # fmt: skip


def test_links_that_lead_back_end_a_walk(fs: ArtfsFileSystem, session: Session, make_files: Any) -> None:
    root = make_files("in", {"a/f": "1", "b/g": "22"})
    for link, target in {"a/b": "../b", "b/a": "../a", "a/up": "..", "b/self": ".", "gone": "nothing", "here": "a/b/a"}.items():
        (root / link).symlink_to(target)
    artifact = Artifact("links", "dataset")
    artifact.add_dir(root)
    artifact.save("p")
    top = "p/links:v0"
    assert {info["name"]: info["type"] for info in fs.find(top, detail=True).values() if info["type"] == "file"} == {
        f"{top}/{name}": "file" for name in ("a/f", "a/b/g", "b/g", "b/a/f", "here/f", "here/b/g")
    }  # fmt: skip
    assert {info["name"].removeprefix(f"{top}/"): info["type"] for info in fs.ls(top)} == {
        "a": "directory", "b": "directory", "gone": "other", "here": "directory",
    }  # fmt: skip
    assert fs.du(top) == 9
    with pytest.raises(FileNotFoundError, match="there is no nothing"):
        fs.info(f"{top}/gone")


def test_only_what_is_missing_does_not_exist(fs: ArtfsFileSystem, version: Artifact, session: Session) -> None:
    assert not fs.exists("p/ds:v0/none") and not fs.isfile("p/ds:v0/none") and not fs.isdir("p/ds:v0/none")
    (session.store.path_of(version.digest)).unlink()
    session.pages = PageCache(session.store.read)
    for call in (fs.exists, fs.isfile, fs.isdir):
        with pytest.raises(BlobMissingError):
            call("p/ds:v0/a.csv")


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
    assert fs.cat_file(path, start=-4) == LARGE[-4:]
    assert fs.cat_file(path, start=9, end=3) == fs.cat_file(path, start=4_000_000) == b""
    assert fs.cat_ranges([path, path], [0, 9], [4, 12]) == [LARGE[:4], LARGE[9:12]]
    assert fs.head("p/ds:v0/a.csv", 3) == b"x,y"
    assert fs.read_text("p/ds:v0/d/#odd %20?.txt") == "odd"


def test_ranges_of_many_files(fs: ArtfsFileSystem, version: Artifact) -> None:
    large, small, none = ("p/ds:v0/d/e/large.bin", "p/ds:v0/a.csv", "p/ds:v0/none")
    found = fs.cat_ranges([large, small, none, large], [5, -3, 0, 2_999_999], [7, None, 1, 4_000_000])
    assert (found[0], found[1], found[3]) == (LARGE[5:7], b",4\n", LARGE[-1:])
    assert isinstance(found[2], FileNotFoundError)
    assert fs.cat_ranges([small, small], 0, 3) == [b"x,y", b"x,y"]
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges([small, none], 0, 3, on_error="raise")
    with pytest.raises(ValueError, match="same length"):
        fs.cat_ranges([small], [0, 1], 3)
    with pytest.raises(TypeError, match="must be a list"):
        fs.cat_ranges(small, 0, 3)


def test_lines(fs: ArtfsFileSystem, session: Session, make_files: Any) -> None:
    text = b"".join(b"%d," % number * (number % 9000) + b"\n" for number in (0, 1, 8000, 4096, 8999, 2))
    artifact = Artifact("lines", "dataset")
    artifact.add_file(make_files("in", {"f": text + b"end"}) / "f")
    artifact.save("p")
    with fs.open("p/lines:v0/f") as stream:
        assert list(stream) == [*text.splitlines(keepends=True), b"end"]
        assert (stream.readline(), stream.seek(0), stream.readline(7), stream.readline(3)) == (b"", 0, b"\n", b"1,\n")
        assert (stream.readline(10), stream.readline(0), stream.tell()) == (b"8000,8000,", b"", 14)


def test_an_open_file_is_pickled_by_its_content(fs: ArtfsFileSystem, version: Artifact, make_files: Any) -> None:
    with fs.open("p/ds:latest/a.csv") as stream:
        stream.seek(4)
        second = Artifact("ds", "dataset")
        second.add_dir(make_files("second", {"a.csv": "z\n"}))
        second.save("p")
        with pickle.loads(pickle.dumps(stream)) as copy:
            assert (copy.tell(), copy.read(), copy.size) == (4, b"1,2\n3,4\n", 12)
            assert copy == stream and hash(copy) == hash(stream)
    with fs.open("p/ds:latest/a.csv") as other:
        assert other != stream


def test_a_file_is_copied_out(fs: ArtfsFileSystem, version: Artifact, tmp_path: Path) -> None:
    fs.get("p/ds:v0/d/e", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "large.bin").read_bytes() == LARGE
    fs.get("p/ds:v0", str(tmp_path / "all"), recursive=True)
    assert (tmp_path / "all" / "up" / "large.bin").read_bytes() == LARGE
    assert (tmp_path / "all" / "d" / "link").read_text() == "x,y\n1,2\n3,4\n"
    assert (tmp_path / "all" / "empty").is_dir()


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
    assert fs.ukey("p/refs:v0/r") == hashlib.sha256(b"far away").hexdigest() == info["ETag"]
    assert (fs.cat_file("p/refs:v0/r", -4), fs.cat_file("p/refs:v0/r", 1, -5)) == (b"away", b"ar")
    with fs.open("p/refs:v0/r") as stream:
        stream.seek(4)
        with pickle.loads(pickle.dumps(stream)) as copy:
            assert (copy.size, copy.read(), copy.writable()) == (8, b"away", False)
    source.write_text("changed!")
    with pytest.raises(Exception, match="changed"):
        fs.open("p/refs:v0/r")


def test_what_a_server_says_of_a_reference_is_its_key(fs: ArtfsFileSystem, session: Session) -> None:
    web = WebServer()
    try:
        artifact = Artifact("refs", "dataset")
        for name, etag in (("one", "same"), ("two", "same")):
            artifact.add_reference(web.put(f"/{name}", b"x", etag=etag))
        artifact.add_reference(web.put("/unknown", b"x"), "unknown", checksum=False)
        artifact.save("p")
    finally:
        web.close()
    keys = {name: fs.ukey(f"p/refs:v0/{name}") for name in ("one", "two", "unknown")}
    assert len(set(keys.values())) == 3
    assert {name: fs.ukey(f"p/refs:v0/{name}") == key for name, key in keys.items()} == {
        "one": True, "two": True, "unknown": False,
    }  # fmt: skip
    assert fs.checksum("p/refs:v0/one") == int(keys["one"][:16], 16)
    assert (fs.info("p/refs:v0/unknown")["size"], fs.du("p/refs:v0")) == (None, 2)


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
        lambda fs: fs.open("p/ds:v0/new", "xb"),
        lambda fs: fs.open("p/ds:v0/a.csv", "r+b"),
        lambda fs: fs.put(__file__, "p/ds:v0/new"),
        lambda fs: fs.cp("p/ds:v0/d", "p/ds:v0/new", recursive=True),
        lambda fs: fs.get_mapper("p/ds:v0").update({"new": b"x"}),
        lambda fs: UPath("artfs://p/ds:v0/new").write_text("x"),
        lambda fs: UPath("artfs://p/ds:v0/new").mkdir(),
        lambda fs: UPath("artfs://p/ds:v0/a.csv").touch(),
        lambda fs: UPath("artfs://p/ds:v0/a.csv").unlink(),
        lambda fs: UPath("artfs://p/ds:v0/a.csv").rename("b.csv"),
        lambda fs: UPath("artfs://p/ds:v0/a.csv").replace("b.csv"),
        lambda fs: UPath("artfs://p/ds:v0/empty").rmdir(),
    ],
)
def test_nothing_is_written(fs: ArtfsFileSystem, version: Artifact, write: Callable[[Any], object]) -> None:
    with pytest.raises(OSError, match="read-only") as caught:
        write(fs)
    assert caught.value.errno == errno.EROFS
    assert fs.cat("p/ds:v0/a.csv") == b"x,y\n1,2\n3,4\n"
    fs.makedirs("p/ds:v0/d", exist_ok=True)  # it is there
    UPath("artfs://p/ds:v0/d").mkdir(exist_ok=True)
    for make in (fs.mkdir, fs.makedirs):
        with pytest.raises(FileExistsError):
            make("p/ds:v0/d")


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


@pytest.mark.parametrize("chain", ["simplecache", "filecache"])
def test_caches_of_fsspec(fs: ArtfsFileSystem, version: Artifact, chain: str) -> None:
    with fsspec.open(f"{chain}::artfs://p/ds:v0/d/e/large.bin") as stream:
        stream.seek(1_000_000)
        assert stream.read(9) == LARGE[1_000_000:1_000_009]
    with fs.open("p/ds:v0/a.csv", size=7) as stream:  # as blockcache does, which leaks files
        assert stream.read() == b"x,y\n1,2\n3,4\n"


def test_a_cache_that_checks_sees_an_alias_move(
    fs: ArtfsFileSystem, version: Artifact, make_files: Any, tmp_path: Path
) -> None:
    cache = fsspec.filesystem("filecache", fs=fs, check_files=True, cache_storage=str(tmp_path / "cache"))
    assert cache.cat("p/ds:latest/a.csv") == b"x,y\n1,2\n3,4\n"
    second = Artifact("ds", "dataset")
    second.add_dir(make_files("second", {"a.csv": "z\n"}))
    second.save("p")
    assert cache.cat("p/ds:latest/a.csv") == b"z\n"


def test_a_mapping_and_a_folder_of_it(fs: ArtfsFileSystem, version: Artifact) -> None:
    mapping = fs.get_mapper("artfs://p/ds:v0")
    assert mapping["a.csv"] == b"x,y\n1,2\n3,4\n" and "none" not in mapping
    assert sorted(mapping) == ["a.csv", "d/#odd %20?.txt", "d/e/large.bin", "d/link", "run.sh", "up/large.bin"]
    folder = fsspec.filesystem("dir", path="p/ds:v0/d", fs=fs)
    assert folder.ls("", detail=False) == ["#odd %20?.txt", "e", "link"]


def test_universal_pathlib(fs: ArtfsFileSystem, version: Artifact) -> None:
    root = UPath("artfs://p/ds:latest")
    assert isinstance(root, ArtfsPath)
    assert sorted(path.name for path in root.parent.iterdir()) == ["ds:latest", "ds:v0"]
    assert (root / "a.csv").read_text() == "x,y\n1,2\n3,4\n"
    assert sorted(path.name for path in root.iterdir()) == ["a.csv", "d", "empty", "run.sh", "up"]
    assert (root / "d").is_dir() and not (root / "nothing").exists()
    assert [path.name for path in root.glob("d/**/*.bin")] == ["large.bin"]
    assert sorted(path.path for path in root.rglob("*.bin")) == [
        "p/ds:latest/d/e/large.bin", "p/ds:latest/up/large.bin",
    ]  # fmt: skip
    with (root / "d" / "e" / "large.bin").open("rb") as stream:
        stream.seek(100)
        assert stream.read(4) == LARGE[100:104]
    status = (root / "d/e/large.bin").stat()
    assert (status.st_size, status.st_mode, status.st_mtime) == (3_000_000, 0o100644, fs.created("p/ds:v0").timestamp())
    assert [(path.name, dirs, files) for path, dirs, files in (root / "d").walk()] == [
        ("d", ["e"], ["#odd %20?.txt", "link"]), ("e", [], ["large.bin"]),
    ]  # fmt: skip
    assert (root / "d" / "link").is_symlink() and not (root / "a.csv").is_symlink()


def test_paths_are_taken_apart_and_put_together(fs: ArtfsFileSystem, version: Artifact, tmp_path: Path) -> None:
    root = UPath("artfs://p/ds:latest/")
    odd = root.joinpath("d", "#odd %20?.txt")
    assert odd.read_text() == "odd" and odd.exists() and odd.is_file()
    assert [path for path in (root / "d").iterdir() if path.is_file() and not path.is_symlink()] == [odd]
    assert str(odd) == "artfs://p/ds:latest/d/#odd %20?.txt" and odd == UPath(str(odd))
    assert (odd.name, odd.stem, odd.suffix, odd.parent.name) == ("#odd %20?.txt", "#odd %20?", ".txt", "d")
    assert [str(above) for above in odd.parents] == ["artfs://p/ds:latest/d", "artfs://p/ds:latest", "artfs://p", "artfs://"]
    assert str(odd.relative_to(root)) == "d/#odd %20?.txt"
    assert root.with_name("ds:v0") / "a.csv" == root.parent / "ds:v0" / "a.csv" == UPath("artfs://p/ds:v0/a.csv")
    assert [str(path) for path in UPath("artfs://@local/p/ds:v0/d/e").iterdir()] == ["artfs://@local/p/ds:v0/d/e/large.bin"]
    assert sorted(map(str, UPath("artfs://").iterdir())) == ["artfs://p"]
    copy = pickle.loads(pickle.dumps(odd))
    assert copy == odd and hash(copy) == hash(odd) and copy.read_text() == "odd"
    (root / "d").copy_into(UPath(tmp_path))
    assert (tmp_path / "d" / "e" / "large.bin").read_bytes() == LARGE
    with pytest.raises(FileNotFoundError, match="there is no none"):
        (root / "none").read_text()


def test_the_first_path_of_a_process(run_python: Any, version: Artifact) -> None:
    # Nothing has loaded the file system yet, by whose rules paths are taken apart.
    result = run_python(
        "from upath import UPath\n"
        "from upath.registry import register_implementation\n"
        "register_implementation('artfs', 'artfs.api.upath.ArtfsPath', clobber=True)\n"
        "path = UPath('artfs://p/ds:latest/d/e')\n"
        "print([path.name, path.parent.name, str(path.parent), [str(below) for below in path.iterdir()]])\n"
        "print([found.name for found in path.parent.glob('*/*.bin')])\n"
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "['e', 'd', 'artfs://p/ds:latest/d', ['artfs://p/ds:latest/d/e/large.bin']]",
        "['large.bin']",
    ]
