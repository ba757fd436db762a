"""Artifact.add_reference, and downloads of references."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.api.artifact import Artifact
from artfs.api.begin import init
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import (
    ArtifactFinalizedError,
    ArtifactNotLoggedError,
    ConflictError,
    InvalidArgumentError,
    ReferenceChangedError,
    ReferenceMissingError,
    ReferenceRefusedError,
    ReferenceUnsupportedError,
)
from artfs.testing.objects import ObjectServer, uri_of
from artfs.testing.web import Page, WebServer

pytestmark = pytest.mark.usefixtures("session")
MakeFiles = Callable[..., Path]


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


def names(artifact: Artifact) -> list[str]:
    return list(artifact.manifest.entries)


def logged(uri: str, name: str | None = None, checksum: bool = True, to: str = "refs") -> Artifact:
    artifact = Artifact(to, "dataset")
    artifact.add_reference(uri, name, checksum=checksum)
    artifact.save()
    return artifact


def tree(root: str | Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in Path(root).rglob("*") if path.is_file()}


def test_a_file(make_files: MakeFiles) -> None:
    top = make_files("src", {"f.txt": "hello"})
    artifact = Artifact("refs", "dataset")
    (entry,) = artifact.add_reference(f"file://{top}/f.txt")
    assert (entry.path, entry.size, entry.ref) == ("f.txt", 5, f"file://{top}/f.txt")
    assert entry.ref_target() == entry.ref
    assert (artifact.size, entry.extra) == (5, {})
    artifact.save()
    assert (artifact.size, artifact.file_count) == (5, 1)
    assert Api().artifact("refs").get_entry("f.txt").ref == entry.ref
    assert tree(artifact.download()) == {"f.txt": "hello"}
    (entry,) = Artifact("x", "t").add_reference(f"file://{top}/f.txt", name="a/b.txt")
    assert entry.path == "a/b.txt"


def test_a_directory_with_and_without_a_name(make_files: MakeFiles) -> None:
    top = make_files("src", {"f.txt": "1", "d/g#%?.txt": "2", "d/h i": "3"})
    artifact = Artifact("refs", "dataset")
    entries = artifact.add_reference(f"file://{top}")
    assert [entry.path for entry in entries] == names(artifact) == ["d/g#%?.txt", "d/h i", "f.txt"]
    artifact.add_reference(f"file://{top}/d", name="more/of")
    assert names(artifact)[-2:] == ["more/of/g#%?.txt", "more/of/h i"] or "more/of/h i" in names(artifact)
    artifact.save()
    assert tree(artifact.download()) == {
        "f.txt": "1", "d/g#%?.txt": "2", "d/h i": "3", "more/of/g#%?.txt": "2", "more/of/h i": "3",
    }  # fmt: skip


def test_http(web: WebServer) -> None:
    artifact = Artifact("refs", "dataset")
    (entry,) = artifact.add_reference(web.put("/file1.txt", b"hello", etag="abc"))
    assert (entry.path, entry.size, entry.digest, entry.extra) == ("file1.txt", 5, "abc", {"etag": "abc"})
    (plain,) = artifact.add_reference(web.put("/plain", b"hello"))
    assert plain.digest == plain.ref == f"{web.url}/plain"
    artifact.save()
    assert tree(artifact.download()) == {"file1.txt": "hello", "plain": "hello"}
    web.put("/file1.txt", b"HELLO", etag="def")
    with pytest.raises(ReferenceChangedError, match=r"file1.txt cannot be fetched: .*its ETag is def, and was abc"):
        artifact.download("again")
    assert tree("again") == {"plain": "hello"}


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("moved", [False, True])
def test_without_checksum_only_the_uri_counts(make_files: MakeFiles, kind: str, moved: bool) -> None:
    one = make_files("one", {"f": "1", "g": "2"})
    two = make_files("two", {"f": "1", "g": "2"})
    digest = logged(f"file://{one}" + "/f" * (kind == "file"), "x", checksum=False).digest
    (one / "f").write_text("something else")
    again = logged(f"file://{two if moved else one}" + "/f" * (kind == "file"), "x", checksum=False)
    assert (again.digest == digest) == (not moved)
    assert again.version == ("v1" if moved else "v0")


def test_a_single_file_without_checksum_can_be_downloaded(make_files: MakeFiles) -> None:
    top = make_files("src", {"f": "1"})
    assert tree(logged(f"file://{top}/f", checksum=False).download()) == {"f": "1"}


def test_with_checksum_changed_content_is_a_new_version(make_files: MakeFiles) -> None:
    top = make_files("src", {"f": "1"})
    assert logged(f"file://{top}").version == "v0"
    assert logged(f"file://{top}").version == "v0"
    (top / "f").write_text("2")
    assert logged(f"file://{top}").version == "v1"


def test_a_name_that_is_taken(make_files: MakeFiles) -> None:
    top = make_files("src", {"f": "1", "g": "2"})
    artifact = Artifact("refs", "dataset")
    artifact.add_reference(f"file://{top}/f")
    assert len(artifact.add_reference(f"file://{top}/f")) == 1
    (top / "f").write_text("other")
    for _ in range(2):
        with pytest.raises(ConflictError, match="was added already"):
            artifact.add_reference(f"file://{top}")
    assert names(artifact) == ["f"]


def test_max_objects(make_files: MakeFiles) -> None:
    top = make_files("src", {"f": "1", "g": "2"})
    artifact = Artifact("refs", "dataset")
    with pytest.raises(InvalidArgumentError, match="more than 1 objects"):
        artifact.add_reference(f"file://{top}", max_objects=1)
    with pytest.raises(InvalidArgumentError, match="max_objects"):
        artifact.add_reference(f"file://{top}", max_objects=-1)
    assert names(artifact) == []
    for enough in (2, 0, None):
        assert len(artifact.add_reference(f"file://{top}", max_objects=enough)) == 2


@pytest.mark.parametrize(
    ("uri", "name", "error", "match"),
    [
        ("no/scheme", None, InvalidArgumentError, "file://"),
        ("file:///no/such/file", None, InvalidArgumentError, "no such file"),
        ("ref://example.org/f", None, InvalidArgumentError, "needs a name"),
        ("http://127.0.0.1:1/", None, InvalidArgumentError, "needs a name"),
        ("artfs-artifact://ff/x", None, ReferenceMissingError, "id of no artifact"),
        (7, "x", TypeError, "URI or an entry"),
        ("x://y", "../z", ValueError, "invalid artifact path"),
    ],
)
def test_what_cannot_be_added(uri: str, name: str | None, error: type[Exception], match: str) -> None:
    artifact = Artifact("refs", "dataset")
    with pytest.raises(error, match=match):
        artifact.add_reference(uri, name, checksum=False)
    assert names(artifact) == []


def test_a_finalized_draft(make_files: MakeFiles) -> None:
    artifact = Artifact("refs", "dataset")
    artifact.finalize()
    with pytest.raises(ArtifactFinalizedError):
        artifact.add_reference("file:///etc/hostname")


def test_another_scheme(expect_log: Callable[..., None]) -> None:
    expect_log("ref://example.org/f is recorded without a checksum", count=1)
    artifact = Artifact("refs", "dataset")
    (entry,) = artifact.add_reference("ref://example.org/f", name="f")
    assert (entry.path, entry.size, entry.ref) == ("f", None, "ref://example.org/f")
    assert len(entry.digest) == 64
    artifact.save()
    with pytest.raises(ReferenceUnsupportedError, match="does not know ref://"):
        artifact.download()


def test_references_that_cannot_be_fetched_may_be_left_out(
    make_files: MakeFiles, web: WebServer, expect_log: Callable[..., None]
) -> None:
    top = make_files("src", {"gone": "1", "changed": "2", "there": "3"})
    artifact = Artifact("refs", "dataset")
    artifact.add_reference(f"file://{top}")
    artifact.add_reference(web.put("/web", b"4", etag="1"))
    artifact.add_reference("x://y", "other", checksum=False)
    artifact.save()
    (top / "gone").unlink()
    (top / "changed").write_text("9")
    web.pages["/web"] = Page(status=404)
    with pytest.raises(ReferenceChangedError, match="and 3 other references"):
        artifact.download("all")
    expect_log("left out (gone|changed|other|web): ", count=4)
    assert tree(artifact.download("some", allow_missing_references=True)) == {"there": "3"}


def test_a_download_fetches_what_is_wrong_and_keeps_what_is_right(make_files: MakeFiles) -> None:
    top = make_files("src", {"f": "1", "d/g": "2"})
    artifact = logged(f"file://{top}")
    root = Path(artifact.download())
    before = (root / "d" / "g").stat()
    (root / "f").write_text("x")
    artifact.download()
    assert tree(root) == {"f": "1", "d/g": "2"}
    assert (root / "d" / "g").stat().st_ino == before.st_ino
    (root / "f").unlink()
    (root / "f").mkdir()
    with pytest.raises(ConflictError, match="is a directory"):
        artifact.download()


def test_no_link_is_followed_by_a_download(make_files: MakeFiles, tmp_path: Path) -> None:
    artifact = logged(f"file://{make_files('src', {'d/g': '2'})}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConflictError):
        artifact.download(tmp_path / "root")
    assert os.listdir(tmp_path / "elsewhere") == []


def test_one_file_of_files(make_files: MakeFiles) -> None:
    artifact = logged(f"file://{make_files('src', {'d/g': '2'})}")
    with artifact.files()[0].download("one") as stream:
        assert stream.read() == "2"
    assert Path(artifact.file("two")).read_text() == "2"


def test_an_entry_of_another_artifact(make_files: MakeFiles) -> None:
    top = make_files("src", {"big.bin": b"0123456789" * 200_000, "d/small": "s"})
    source = Artifact("source", "dataset")
    source.add_dir(top)
    with pytest.raises(ArtifactNotLoggedError, match="entry of a draft"):
        Artifact("refs", "dataset").add_reference(source.manifest.entries["d/small"])
    source.save()
    artifact = Artifact("refs", "dataset")
    (entry,) = artifact.add_reference(source.get_entry("d/small"))
    assert (entry.path, entry.size, entry.digest) == ("small", 1, source.get_entry("d/small").digest)
    assert entry.ref == source.get_entry("d/small").ref_url()
    artifact.add_reference(source.get_entry("big.bin").ref_url(), name="data/big")
    artifact.save()
    root = artifact.download()
    assert (Path(root) / "data" / "big").read_bytes() == (top / "big.bin").read_bytes()
    # A reference to a reference leads to the artifact that has the bytes.
    third = Artifact("third", "dataset")
    (chained,) = third.add_reference(artifact.get_entry("small"))
    assert chained.ref == entry.ref
    third.save()
    assert tree(third.download()) == {"small": "s"}
    source.delete(delete_aliases=True)
    with pytest.raises(ReferenceMissingError, match="source:v0 was deleted"):
        third.download("after")


def test_an_entry_that_is_itself_a_reference(make_files: MakeFiles) -> None:
    top = make_files("src", {"f": "1"})
    first = logged(f"file://{top}")
    second = Artifact("second", "dataset")
    (entry,) = second.add_reference(first.get_entry("f"), name="g")
    assert (entry.path, entry.ref) == ("g", f"file://{top}/f")


@pytest.fixture(params=["s3", "gs", "azure"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """An object store with the bucket `bucket`, which the settings name."""
    made = ObjectServer(request.param)
    made.make_bucket("bucket")
    monkeypatch.setenv(f"ARTFS_{request.param.upper()}_ENDPOINT", made.endpoint)
    yield made
    made.close()


def test_an_object_store(store: ObjectServer) -> None:
    files = {"f.txt": "1", "d/g#%?.txt": "2", "d/h i": "3"}
    for key, text in {**files, "../dir2/f": "no", "d/": "", "nothing/": ""}.items():
        store.put("bucket", f"dir/{key}".replace("dir/../", ""), text.encode())
    artifact = Artifact("refs", "dataset")
    entries = artifact.add_reference(uri_of(store.kind, "bucket", "dir"))
    assert [entry.path for entry in entries] == sorted(files)
    assert all(entry.size == 1 and entry.extra["etag"] == entry.digest and entry.extra["versionID"] for entry in entries)
    artifact.add_reference(uri_of(store.kind, "bucket", "dir/d"), name="more")
    artifact.add_reference(uri_of(store.kind, "bucket", "dir/d/g#%?.txt"), name="one.txt")
    artifact.save()
    wanted = {**files, "more/g#%?.txt": "2", "more/h i": "3", "one.txt": "2"}
    assert tree(artifact.download()) == wanted
    store.put("bucket", "dir/f.txt", b"new")  # the version that was added is still there
    assert tree(artifact.download("again")) == wanted
    del store.buckets["bucket"].objects["dir/f.txt"][0]
    with pytest.raises(ReferenceMissingError, match=r"f\.txt cannot be fetched: .*is gone"):
        artifact.download("later")
    assert tree("later") == {path: text for path, text in wanted.items() if path != "f.txt"}


def test_an_object_that_is_also_a_prefix(store: ObjectServer) -> None:
    store.put("bucket", "dir/a", b"1")
    store.put("bucket", "dir/a/b", b"2")
    artifact = Artifact("refs", "dataset")
    with pytest.raises(ConflictError, match="has an object 'a' and others below that"):
        artifact.add_reference(uri_of(store.kind, "bucket", "dir"))
    assert names(artifact) == []


def test_no_such_entry(make_files: MakeFiles) -> None:
    first = logged(f"file://{make_files('src', {'d/f': '1'})}")
    url = first.get_entry("d/f").ref_url()
    for wrong in (url + "x", url.rpartition("/")[0]):
        with pytest.raises(InvalidArgumentError, match="cannot add"):
            Artifact("second", "dataset").add_reference(wrong, name="x")


def test_what_is_no_reference() -> None:
    artifact = Artifact("plain", "dataset")
    with artifact.new_file("f") as stream:
        stream.write("x")
    with pytest.raises(ValueError, match="no reference"):
        artifact.manifest.entries["f"].ref_target()


def test_a_new_draft_keeps_references_and_they_can_be_removed(make_files: MakeFiles) -> None:
    top = make_files("src", {"f": "1", "g": "2"})
    first = logged(f"file://{top}")
    draft = first.new_draft()
    assert draft.digest == first.digest
    draft.remove("f")
    draft.save()
    assert (draft.version, names(draft)) == ("v1", ["g"])
    assert tree(draft.download()) == {"g": "2"}


def test_references_are_not_verified(make_files: MakeFiles) -> None:
    top = make_files("src", {"f": "1"})
    artifact = logged(f"file://{top}")
    root = artifact.download()
    (Path(root) / "f").write_text("edited")
    artifact.verify(root)


def test_references_of_somebody_else_are_refused(make_files: MakeFiles, session: Session, web: WebServer) -> None:
    top = make_files("src", {"f": "secret"})
    artifact = Artifact("refs", "dataset")
    artifact.add_reference(f"file://{top}")
    artifact.add_reference(web.put("/inside", b"secret", etag="1"))
    artifact.save()
    # As if the version had come from another machine: nobody added these here.
    (session.settings.home / "known-references").write_text("")
    web.seen.clear()
    with pytest.raises(ReferenceRefusedError):
        artifact.download()
    assert tree("artifacts") == {}
    assert web.seen == []


@pytest.mark.parametrize("many", [False, True])
def test_logging_a_uri(make_files: MakeFiles, many: bool) -> None:
    top = make_files("src", {"f.txt": "1", "g": "2"})
    with init() as run:
        artifact = run.log_artifact(f"file://{top}" if many else f"file://{top}/f.txt", type="dataset")
        assert artifact.name == f"run-{run.id}-{'src' if many else 'f.txt'}:v0"
    assert names(artifact) == (["f.txt", "g"] if many else ["f.txt"])
    assert artifact.get_entry("f.txt").ref == f"file://{top}/f.txt"
