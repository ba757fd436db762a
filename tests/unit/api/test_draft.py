"""What a draft takes and refuses, argument by argument."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from artfs.api.artifact import Artifact
from artfs.api.run import init
from artfs.api.session import Session
from artfs.errors import (
    ArtifactFinalizedError,
    ArtifactNotLoggedError,
    ConflictError,
    DraftInvalidError,
    InvalidArgumentError,
    InvalidMetadataError,
    InvalidNameError,
    NotFoundError,
    PathNotFoundError,
    SourceChangedError,
)
from artfs.settings import Settings


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def paths(artifact: Artifact) -> list[str]:
    return sorted(artifact.manifest.entries)


# constructor --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "9", "x" * 128, "-"])
def test_good_names(name: str) -> None:
    assert Artifact(name, "dataset").name == name


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a b", "ä", "a\n", "x" * 129, ".", ".."])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidNameError):
        Artifact(name, "dataset")
    with pytest.raises(ValueError):
        Artifact(name, "dataset")


def test_name_that_is_no_text() -> None:
    with pytest.raises(TypeError):
        Artifact(7, "dataset")  # type: ignore[arg-type]


@pytest.mark.parametrize("type", ["dataset", "model", "my_model-2.x"])
def test_good_types(type: str) -> None:
    assert Artifact("a", type).type == type


@pytest.mark.parametrize("type", ["", "a/b", "a b", "job", "wandb-x", "x" * 129])
def test_bad_types(type: str) -> None:
    with pytest.raises(InvalidNameError):
        Artifact("a", type)


def test_description() -> None:
    assert Artifact("a", "t").description is None
    artifact = Artifact("a", "t", description="one")
    assert artifact.description == "one"
    artifact.description = "two"
    assert artifact.description == "two"
    for bad in (7, b"x"):
        with pytest.raises(TypeError):
            Artifact("a", "t", description=bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            artifact.description = bad  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, {}),
        ("", {}),
        ({"a": 1}, {"a": 1}),
        ('{"a": [1, 2]}', {"a": [1, 2]}),
        ({"a": float("nan")}, {"a": None}),
        ({1: (2, 3)}, {"1": [2, 3]}),
        ({str(n): n for n in range(100)}, {str(n): n for n in range(100)}),
    ],
)
def test_good_metadata(given: Any, kept: dict[str, Any]) -> None:
    artifact = Artifact("a", "t", metadata=given)
    assert artifact.metadata == kept
    artifact.metadata = given
    assert artifact.metadata == kept


@pytest.mark.parametrize(
    "given", [{"a": float("inf")}, {str(n): n for n in range(101)}, "{", '{"a": Infinity}', "[1]"]
)
def test_bad_metadata(given: Any) -> None:
    with pytest.raises(InvalidMetadataError):
        Artifact("a", "t", metadata=given)
    artifact = Artifact("a", "t")
    with pytest.raises(ValueError):
        artifact.metadata = given


def test_metadata_is_a_deep_copy() -> None:
    given: dict[str, Any] = {"a": {"b": [1]}}
    artifact = Artifact("a", "t", metadata=given)
    given["a"]["b"].append(2)
    assert artifact.metadata == {"a": {"b": [1]}}


def test_use_as_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match="use_as") as found:
        artifact = Artifact("a", "t", use_as="input")
    assert found[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="use_as") as found:
        assert artifact.use_as is None
    assert found[0].filename == __file__


@pytest.mark.parametrize("region", ["coreweave-us", "", " ", "Default"])
def test_unknown_storage_region(region: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"there is no storage region '{region}'.*'default'"):
        Artifact("a", "t", storage_region=region)


def test_storage_region(
    session: Session, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TypeError):
        Artifact("a", "t", storage_region=7)  # type: ignore[arg-type]
    Artifact("a", "t", storage_region="default").save()
    other = settings.with_changes(home=tmp_path / "other", storage_region="fast")
    artifact = Artifact("b", "t", storage_region="default")
    with pytest.raises(ValueError, match="stored in 'fast'"):
        artifact.save(settings=other)
    assert artifact.is_draft()
    with init(settings=other):
        artifact = Artifact("c", "t", storage_region="fast")
        artifact.save()
    assert artifact.version == "v0"
    monkeypatch.setenv("ARTFS_STORAGE_REGION", "here")
    assert Artifact("d", "t", storage_region="here").is_draft()


def test_making_a_draft_touches_nothing(tmp_path: Path) -> None:
    artifact = Artifact("a", "t", metadata={"x": 1})
    artifact.remove  # noqa: B018
    assert artifact.digest
    assert not (tmp_path / "home").exists()


# properties of a draft ----------------------------------------------------------------------------

ONLY_LOGGED = (
    "entity", "project", "qualified_name", "version", "source_entity", "source_project",
    "source_qualified_name", "source_version", "linked_artifacts", "source_artifact", "url", "aliases", "tags",
    "commit_hash", "file_count", "created_at", "updated_at", "history_step",
)  # fmt: skip


@pytest.mark.parametrize("name", ONLY_LOGGED)
def test_property_of_logged_artifacts_only(name: str) -> None:
    artifact = Artifact("a", "t")
    with pytest.raises(ArtifactNotLoggedError, match=f"'{name}' needs a logged artifact") as caught:
        getattr(artifact, name)
    assert caught.value.name == name
    with pytest.raises(ArtifactNotLoggedError):
        hasattr(artifact, name)


@pytest.mark.parametrize("name", ["aliases", "tags"])
def test_labels_of_a_draft_cannot_be_set(name: str) -> None:
    with pytest.raises(ArtifactNotLoggedError):
        setattr(Artifact("a", "t"), name, ["x"])


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("wait", ()), ("wait", (3,)), ("get_entry", ("x",)), ("download", ()), ("verify", ()),
        ("delete", ()), ("unlink", ()),
    ],
)  # fmt: skip
def test_method_of_logged_artifacts_only(method: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ArtifactNotLoggedError, match=f"'{method}'") as caught:
        getattr(Artifact("a", "t"), method)(*arguments)
    assert caught.value.name == method


def test_what_a_draft_knows(session: Session) -> None:
    artifact = Artifact("a", "t")
    assert (artifact.id, artifact.name, artifact.source_name, artifact.state) == (None, "a", "a", "PENDING")
    assert (artifact.size, len(artifact.manifest), artifact.is_link) == (0, 0, False)
    assert artifact.is_draft()
    assert repr(artifact) == "<Artifact a>"
    with artifact.new_file("f") as stream:
        stream.write("hello")
    assert artifact.size == artifact.manifest.size() == 5
    assert artifact.digest == artifact.manifest.digest()


@pytest.mark.parametrize(
    "name", ["id", "entity", "name", "version", "type", "digest", "size", "state", "manifest"]
)
def test_property_without_setter(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Artifact("a", "t"), name, "x")


def test_digest_depends_on_content_only(session: Session) -> None:
    one, two = Artifact("a", "t"), Artifact("b", "u", description="d", metadata={"x": 1})
    for artifact, names in ((one, ["x/1", "x/2", "y"]), (two, ["y", "x/2", "x/1"])):
        for name in names:
            with artifact.new_file(name) as stream:
                stream.write(name)
    assert one.digest == two.digest
    one.remove("y")
    assert one.digest != two.digest


# add_file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mutable", "immutable", None])
def test_add_file(session: Session, make_files: Any, policy: Any) -> None:
    root = make_files("in", {"a.txt": "hello"})
    artifact = Artifact("a", "t")
    entry = artifact.add_file(str(root / "a.txt"), policy=policy)
    assert (entry.path, entry.size, entry.digest) == ("a.txt", 5, sha256("hello"))
    assert (entry.ref, entry.target, entry.executable) == (None, None, False)
    assert artifact.manifest.entries["a.txt"] == entry


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (None, "a.txt"),
        ("", "a.txt"),
        ("x/b", "x/b"),
        ("./x//b/", "x/b"),
        (Path("p/q"), "p/q"),
        ("ü n/\\", "ü n/\\"),
    ],
)
def test_add_file_name(session: Session, make_files: Any, name: Any, path: str) -> None:
    artifact = Artifact("a", "t")
    assert artifact.add_file(make_files("in", {"a.txt": "x"}) / "a.txt", name).path == path
    assert paths(artifact) == [path]


@pytest.mark.parametrize("name", ["/a", "../a", "a/../b", ".", "C:x", "a\\..\\b", "n" * 256, "a\0b"])
def test_add_file_bad_name(session: Session, make_files: Any, name: str) -> None:
    artifact = Artifact("a", "t")
    with pytest.raises(InvalidNameError):
        artifact.add_file(make_files("in", {"a.txt": "x"}) / "a.txt", name)
    assert paths(artifact) == []


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
@pytest.mark.parametrize(
    ("is_tmp_of", "expected"),
    [("a.b.txt", "{}.b.txt"), ("plain", "{}"), ("d/a.txt", "d/{}.txt"), (".rc", "{}.rc")],
)
def test_add_file_is_tmp(
    session: Session, make_files: Any, is_tmp_of: str, expected: str, policy: Any
) -> None:
    path = make_files("in", {"f": "hello"}) / "f"
    entry = Artifact("a", "t").add_file(path, is_tmp_of, is_tmp=True, policy=policy)
    assert entry.path == expected.format(sha256("hello")[:20])


@pytest.mark.parametrize("skip_cache", [True, False, None])
def test_add_file_skip_cache_changes_nothing(
    session: Session, make_files: Any, skip_cache: bool | None
) -> None:
    path = make_files("in", {"f": "hello"}) / "f"
    assert Artifact("a", "t").add_file(path, skip_cache=skip_cache).digest == sha256("hello")


def test_add_file_overwrite(session: Session, make_files: Any) -> None:
    root = make_files("in", {"one": "1", "two": "2", "again": "1"})
    artifact = Artifact("a", "t")
    artifact.add_file(root / "one", "f")
    artifact.add_file(root / "again", "f")
    with pytest.raises(ConflictError, match="'f' was added already with other content"):
        artifact.add_file(root / "two", "f")
    with pytest.raises(ValueError):
        artifact.add_file(root / "two", "f", policy="immutable")
    assert artifact.manifest.entries["f"].digest == sha256("1")
    artifact.add_file(root / "two", "f", overwrite=True)
    assert artifact.manifest.entries["f"].digest == sha256("2")


def test_add_file_where_a_directory_is(session: Session, make_files: Any) -> None:
    root = make_files("in", {"f": "1"})
    artifact = Artifact("a", "t")
    artifact.add_file(root / "f", "d/f")
    for overwrite in (False, True):
        with pytest.raises(ConflictError, match="'d' is a directory"):
            artifact.add_file(root / "f", "d", overwrite=overwrite)
        with pytest.raises(ConflictError, match="'d/f' is a file"):
            artifact.add_file(root / "f", "d/f/g", overwrite=overwrite)
    assert paths(artifact) == ["d/f"]


@pytest.mark.parametrize("policy", ["Mutable", "", "copy"])
def test_bad_policy(session: Session, make_files: Any, policy: Any) -> None:
    root = make_files("in", {"f": "1", "empty/": ""})
    artifact = Artifact("a", "t")
    with pytest.raises(ValueError, match='policy must be "mutable" or "immutable"'):
        artifact.add_file(root / "f", policy=policy)
    with pytest.raises(InvalidArgumentError):
        artifact.add_dir(root / "empty", policy=policy)


def test_add_file_of_what_is_no_file(session: Session, make_files: Any) -> None:
    root = make_files("in", {"d/f": "1"})
    os.mkfifo(root / "pipe")
    artifact = Artifact("a", "t")
    with pytest.raises(InvalidArgumentError, match="nothing-here"):
        artifact.add_file(root / "nothing-here")
    with pytest.raises(InvalidArgumentError, match="use add_dir"):
        artifact.add_file(root / "d")
    with pytest.raises(ValueError, match="not a file"):
        artifact.add_file(root / "pipe")


def test_add_file_through_a_link_and_executable(session: Session, make_files: Any) -> None:
    root = make_files("in", {"f": "1"})
    (root / "f").chmod(0o755)
    (root / "l").symlink_to("f")
    entry = Artifact("a", "t").add_file(root / "l")
    assert (entry.path, entry.digest, entry.target, entry.executable) == ("l", sha256("1"), None, True)


def test_mutable_content_is_of_the_time_of_adding(session: Session, make_files: Any) -> None:
    path = make_files("in", {"f": "before"}) / "f"
    artifact = Artifact("a", "t")
    artifact.add_file(path)
    path.write_text("after")
    artifact.save()
    assert artifact.get_entry("f").digest == sha256("before")
    path.unlink()
    assert Path(artifact.download(), "f").read_text() == "before"


@pytest.mark.embedded("lists the store")
def test_immutable_is_read_at_save(
    session: Session, make_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_files("in", {"f": "content"})
    monkeypatch.chdir(root)
    artifact = Artifact("a", "t")
    entry = artifact.add_file("f", policy="immutable")
    assert entry.local_path == str(root / "f")
    assert list(session.store.blobs()) == []
    monkeypatch.chdir("/")
    artifact.save()
    assert artifact.get_entry("f").digest == sha256("content")
    assert artifact.get_entry("f").local_path is None


def edit_same_size(path: Path) -> None:
    path.write_text("CONTENT")
    os.utime(path, ns=(0, 0))


def replace_alike(path: Path) -> None:
    status = path.stat()
    other = path.with_name("other")
    other.write_text("CONTENT")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("hashed_before", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("other"),
        edit_same_size,
        replace_alike,
        os.unlink,
        lambda path: path.chmod(0),
    ],
)
def test_immutable_file_that_changed(
    session: Session, make_files: Any, change: Any, hashed_before: bool
) -> None:
    path = make_files("in", {"f": "content", "g": "g"}) / "f"
    artifact = Artifact("a", "t")
    artifact.add_file(path, policy="immutable")
    if hashed_before:
        assert artifact.digest
    change(path)
    if os.path.exists(path) and not stat.S_IMODE(path.stat().st_mode):
        path.chmod(0o644)  # a change of mode alone is none
        artifact.save()
        return
    with pytest.raises(SourceChangedError, match=str(path)):
        artifact.save()
    assert artifact.is_draft()
    assert session.catalog.projects(session.settings.entity)[0].name == session.settings.project
    assert session.catalog.collections(session.settings.entity, session.settings.project) == []
    artifact.remove("f")
    artifact.add_file(path.with_name("g"))
    artifact.save()
    assert artifact.version == "v0"


def test_immutable_that_changed_has_no_digest(session: Session, make_files: Any) -> None:
    path = make_files("in", {"f": "content"}) / "f"
    artifact = Artifact("a", "t")
    entry = artifact.add_file(path, policy="immutable")
    path.write_text("more content")
    with pytest.raises(SourceChangedError):
        assert entry.digest
    with pytest.raises(SourceChangedError):
        assert artifact.digest


# add_dir ------------------------------------------------------------------------------------------

TREE = {"a.txt": "a", "sub/b.txt": "b", "sub/deep/c": "c", ".hidden": "h", ".DS_Store": "d", "empty/in/": ""}
FILES = [".DS_Store", ".hidden", "a.txt", "sub/b.txt", "sub/deep/c"]


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_add_dir(session: Session, make_files: Any, policy: Any) -> None:
    artifact = Artifact("a", "t")
    root = make_files("in", TREE)
    (root / "a.txt").chmod(0o700)
    artifact.add_dir(str(root), policy=policy)
    assert paths(artifact) == FILES
    assert artifact.manifest.entries["sub/b.txt"].digest == sha256("b")
    assert artifact.manifest.entries["a.txt"].executable
    assert (artifact.manifest.entries["a.txt"].local_path is None) == (policy == "mutable")
    artifact.save()
    assert artifact.file_count == 5
    assert Path(artifact.download(), "empty/in").is_dir()


def test_policies_make_the_same_version(session: Session, make_files: Any) -> None:
    root = make_files("in", TREE | {"big": b"x" * 3_000_000})
    (root / "link").symlink_to("sub/b.txt")
    digests = set()
    for policy in ("mutable", "immutable"):
        for before_saving in (True, False):
            artifact = Artifact("a", "t")
            artifact.add_dir(root, policy=policy)
            if before_saving:
                digests.add(artifact.digest)
            artifact.save()
            digests.add(artifact.digest)
            assert artifact.version == "v0"
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "prefix"), [(None, ""), ("", ""), (".", ""), ("p", "p/"), ("p/q/", "p/q/"), (Path("x"), "x/")]
)
def test_add_dir_name(session: Session, make_files: Any, name: Any, prefix: str) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", TREE), name)
    assert paths(artifact) == [prefix + path for path in FILES]


@pytest.mark.parametrize("name", ["..", "/x", "a/../b"])
def test_add_dir_bad_name(session: Session, make_files: Any, name: str) -> None:
    with pytest.raises(InvalidNameError):
        Artifact("a", "t").add_dir(make_files("in", TREE), name)


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_add_empty_dir(session: Session, make_files: Any, policy: Any) -> None:
    root = make_files("in", {"nothing/": ""}) / "nothing"
    artifact = Artifact("a", "t")
    artifact.add_dir(root, policy=policy)
    without = artifact.digest
    artifact.add_dir(root, "d/e", policy=policy)
    assert paths(artifact) == []
    assert artifact.digest != without
    artifact.save()
    assert Path(artifact.download(), "d", "e").is_dir()


def test_add_dir_merge(session: Session, make_files: Any) -> None:
    root = make_files("in", {"same": "s", "changed": "1", "gone": "g"})
    artifact = Artifact("a", "t")
    artifact.add_dir(root)
    before = artifact.digest
    artifact.add_dir(root)
    assert artifact.digest == before
    (root / "changed").write_text("2")
    (root / "gone").unlink()
    (root / "new").write_text("n")
    with pytest.raises(ConflictError, match="'changed' was added already"):
        artifact.add_dir(root)
    assert artifact.digest == before  # not even the new one
    artifact.add_dir(root, merge=True)
    assert paths(artifact) == ["changed", "gone", "new", "same"]
    assert artifact.manifest.entries["changed"].digest == sha256("2")


def test_add_dir_after_remove(session: Session, make_files: Any) -> None:
    root = make_files("in", {"x": "1", "y": "2"})
    artifact = Artifact("a", "t")
    artifact.add_dir(root, "p")
    (root / "x").write_text("3")
    (root / "y").unlink()
    artifact.remove("p")
    artifact.add_dir(root, "p")
    assert paths(artifact) == ["p/x"]


@pytest.mark.parametrize("skip_cache", [True, None])
def test_add_dir_skip_cache_changes_nothing(
    session: Session, make_files: Any, skip_cache: bool | None
) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", TREE), skip_cache=skip_cache)
    assert paths(artifact) == FILES


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_add_dir_links(session: Session, make_files: Any, policy: Any) -> None:
    root = make_files("in", {"d/f": "inside"})
    outside = make_files("out", {"g": "outside", "sub/h": "deep"})
    (root / "near").symlink_to("d/f")
    (root / "d/up").symlink_to("../near")
    (root / "far").symlink_to(outside / "g")
    (root / "fardir").symlink_to(outside)
    artifact = Artifact("a", "t")
    artifact.add_dir(root, policy=policy)
    entries = artifact.manifest.entries
    assert {path: entry.target for path, entry in entries.items()} == {
        "d/f": None, "d/up": "../near", "near": "d/f", "far": None, "fardir/g": None, "fardir/sub/h": None,
    }  # fmt: skip
    assert entries["far"].digest == sha256("outside")
    artifact.save()
    assert artifact.file_count == 4
    assert os.readlink(Path(artifact.download(), "d/up")) == "../near"


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_add_dir_of_what_no_version_can_hold(session: Session, make_files: Any, policy: Any) -> None:
    root = make_files("in", {"d/f": "1"})
    os.mkfifo(root / "d/pipe")
    (root / "broken").symlink_to("/nowhere/at/all")
    (root / "d/loop").symlink_to(root)
    artifact = Artifact("a", "t")
    with pytest.raises(DraftInvalidError) as caught:
        artifact.add_dir(root, policy=policy)
    assert caught.value.paths == ("broken", "d/loop", "d/pipe")
    assert str(caught.value).endswith("; remove them or add only the folders beside them")
    assert paths(artifact) == []


def test_add_dir_of_what_is_no_directory(session: Session, make_files: Any) -> None:
    root = make_files("in", {"f": "1"})
    for path in (root / "f", root / "nothing"):
        with pytest.raises(InvalidArgumentError, match="not a directory"):
            Artifact("a", "t").add_dir(path)


# new_file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["x", "w", "a", "x+", "w+", "xt"])
def test_new_file_text(session: Session, mode: str) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("d/f.txt", mode) as stream:
        stream.write("grün")
    assert artifact.manifest.entries["d/f.txt"].digest == sha256("grün")


@pytest.mark.parametrize("mode", ["xb", "wb", "ab", "wb+", "w+b"])
def test_new_file_bytes(session: Session, mode: str) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("f", mode) as stream:
        stream.write(b"\0\xff")
    assert artifact.manifest.entries["f"].digest == hashlib.sha256(b"\0\xff").hexdigest()


def test_new_file_encoding(session: Session) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("f", encoding="latin-1") as stream:
        stream.write("grün")
    assert artifact.manifest.entries["f"].digest == hashlib.sha256("grün".encode("latin-1")).hexdigest()
    with pytest.raises(UnicodeEncodeError), artifact.new_file("g", encoding="ascii") as stream:
        stream.write("grün")
    assert paths(artifact) == ["f"]


def test_new_file_modes_on_a_name_that_is_taken(session: Session, make_files: Any) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("f") as stream:
        stream.write("one")
    with pytest.raises(ValueError, match="'f' was added already"):
        artifact.new_file("f")
    with artifact.new_file("f", "a") as stream:
        stream.write(" two")
    assert artifact.manifest.entries["f"].digest == sha256("one two")
    with artifact.new_file("f", "r+") as stream:
        assert stream.read() == "one two"
        stream.seek(0)
        stream.write("ONE")
    assert artifact.manifest.entries["f"].digest == sha256("ONE two")
    with artifact.new_file("f", "w") as stream:
        stream.write("three")
    assert artifact.manifest.entries["f"].digest == sha256("three")
    artifact.add_file(make_files("in", {"p": "four"}) / "p", policy="immutable")
    with artifact.new_file("p", "a") as stream:
        stream.write(" five")
    assert artifact.manifest.entries["p"].digest == sha256("four five")


def test_new_file_over_a_link(session: Session, make_files: Any) -> None:
    root = make_files("in", {"f": "1"})
    (root / "l").symlink_to("f")
    artifact = Artifact("a", "t")
    artifact.add_dir(root)
    with pytest.raises(InvalidArgumentError, match="symbolic link"):
        artifact.new_file("l", "a")
    with artifact.new_file("l", "w") as stream:
        stream.write("2")
    assert artifact.manifest.entries["l"].digest == sha256("2")
    assert artifact.manifest.entries["f"].digest == sha256("1")


def test_new_file_refusals(session: Session) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("d/f") as stream:
        stream.write("1")
    with pytest.raises(FileNotFoundError):
        artifact.new_file("g", "r")
    with pytest.raises(ConflictError, match="'d' is a directory"):
        artifact.new_file("d", "w")
    with pytest.raises(InvalidNameError):
        artifact.new_file("../x")
    for mode in ("", "q", "xw", "bt", "xbb", "U"):
        with pytest.raises(InvalidArgumentError, match="bad mode"):
            artifact.new_file("h", mode)


def test_new_file_whose_body_fails_adds_nothing(session: Session) -> None:
    artifact = Artifact("a", "t")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), artifact.new_file("f", "x") as stream:
            stream.write("half")
            raise ZeroDivisionError
    assert paths(artifact) == []
    with artifact.new_file("f", "x") as stream:
        stream.write("whole")
    assert paths(artifact) == ["f"]


@pytest.mark.embedded("a folder of its own holds the files of a draft that goes to a server")
def test_new_file_can_be_opened_by_name_and_leaves_no_file(session: Session) -> None:
    artifact = Artifact("a", "t")
    with artifact.new_file("f", "wb") as stream:
        names = {path for path in session.store.root.rglob("*") if path.is_file()}
        Path(stream.name).write_bytes(b"by name")
    assert artifact.manifest.entries["f"].size == 7
    assert names == {session.store.root / "lock", session.store.root / ".format"}


# remove, finalize ---------------------------------------------------------------------------------


def test_remove(session: Session, make_files: Any) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", {"d/x": "1", "d/e/y": "2", "dd": "3", "f": "4"}))
    artifact.remove("d")
    assert paths(artifact) == ["dd", "f"]
    artifact.remove(artifact.manifest.entries["f"])
    artifact.remove(Path("./dd"))
    assert paths(artifact) == []
    assert artifact.digest == Artifact("b", "t").digest


@pytest.mark.parametrize("item", ["nothing", "", ".", "./", "d/", "x", "/f", "../f", "f\0"])
def test_remove_what_is_not_there(session: Session, make_files: Any, item: str) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", {"f": "4"}))
    with pytest.raises(FileNotFoundError):
        artifact.remove(item)
    with pytest.raises(NotFoundError):
        artifact.remove(item)
    assert paths(artifact) == ["f"]


def test_remove_an_entry_of_another_artifact(session: Session, make_files: Any) -> None:
    one, two = Artifact("a", "t"), Artifact("b", "t")
    entry = one.add_file(make_files("in", {"f": "4"}) / "f")
    with pytest.raises(FileNotFoundError):
        two.remove(entry)


@pytest.mark.parametrize("how", ["finalize", "save"])
def test_nothing_can_be_changed_afterwards(session: Session, make_files: Any, how: str) -> None:
    root = make_files("in", {"f": "4"})
    artifact = Artifact("a", "t")
    artifact.add_file(root / "f")
    getattr(artifact, how)()
    for change in (
        lambda: artifact.add_file(root / "f"),
        lambda: artifact.add_dir(root),
        lambda: artifact.new_file("g"),
        lambda: artifact.remove("f"),
    ):
        with pytest.raises(ArtifactFinalizedError) as caught:
            change()
        assert caught.value.name in ("add_file", "add_dir", "new_file", "remove")
    artifact.finalize()
    assert artifact.is_draft() == (how == "finalize")
    artifact.save()
    assert artifact.version == "v0"


# manifest -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [False, True])
def test_manifest(session: Session, make_files: Any, save: bool) -> None:
    artifact = Artifact("a", "t")
    artifact.add_dir(make_files("in", {"d/x": "1", "d/e/y": "22", "dd": "3"}))
    if save:
        artifact.save()
    manifest = artifact.manifest
    entries = manifest.entries
    assert sorted(entries) == sorted(manifest) == ["d/e/y", "d/x", "dd"]
    assert len(entries) == len(manifest) == 3
    assert "d/x" in entries
    assert "d" not in entries
    assert entries.get("nothing") is None
    assert sorted(entry.path for entry in entries.values()) == ["d/e/y", "d/x", "dd"]
    assert {path: entry.size for path, entry in entries.items()} == {"d/e/y": 2, "d/x": 1, "dd": 1}
    assert sorted(entry.path for entry in manifest.get_entries_in_directory("d")) == ["d/e/y", "d/x"]
    assert manifest.get_entries_in_directory("e") == manifest.get_entries_in_directory("dd") == []
    found = manifest.get_entry_by_path("./d/x")
    assert found == entries["d/x"]
    assert hash(found) == hash(entries["d/x"])
    assert repr(found) == "<ManifestEntry 'd/x' size=1>"
    assert repr(entries) == "<3 manifest entries>"
    with pytest.raises(KeyError):
        entries["d"]
    with pytest.raises(PathNotFoundError):
        entries["nothing"]
    with pytest.raises(TypeError):
        entries["new"] = found  # type: ignore[index]
