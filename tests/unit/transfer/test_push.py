import os
import random
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artfs.errors import DraftInvalidError, InvalidNameError, NotFoundError, SourceChangedError, UsageError
from artfs.model.digests import digest_bytes
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry
from artfs.model.ignore import IgnoreRules
from artfs.model.manifest import Manifest, build_manifest
from artfs.model.pages import MAX_DEPTH, build_tree
from artfs.store.folder import FolderStore
from artfs.store.memory import MemoryStore
from artfs.transfer.push import Pushed, push_directory, push_entries, push_file
from artfs.transfer.treewriter import TreeWriter
from artfs.wire.control import Progress

Push = Callable[..., Pushed]
Open = Callable[[str], Manifest]


def shown(manifest: Manifest) -> dict[str, object]:
    """Each path with what stands for its entry."""
    found: dict[str, object] = {}
    for path, entry in manifest.walk(include_dirs=True):
        if isinstance(entry, FileEntry):
            found[path] = (entry.size, entry.executable)
        elif isinstance(entry, LinkEntry):
            found[path] = entry.target.decode()
        else:
            found[path + "/"] = None
    return found


def test_a_folder_becomes_a_version(store: FolderStore, push: Push, manifest: Open, folder: Path) -> None:
    pushed = push(folder)
    assert shown(manifest(pushed.root)) == {
        "a.txt": (6, False), "empty/": None, "run.sh": (10, True), "zero": (0, False), "sub/": None,
        "sub/b\udcff\n": (8, False), "sub/deep/": None, "sub/deep/large.bin": (256 * 9000, False),
        "sub/link": "../a.txt", "sub/same.txt": (6, False),
    }
    assert pushed.totals == manifest(pushed.root).totals
    assert (pushed.totals.file_count, pushed.totals.size) == (6, 30 + 256 * 9000)
    assert (pushed.ignored, pushed.collisions) == ((), ())
    for path, entry in manifest(pushed.root).files():
        with open(store.open_blob(entry.digest), "rb") as stream:
            assert stream.read() == (folder / path).read_bytes()
    assert set(manifest(pushed.root).objects()) <= {digest for digest, _ in store.blobs()}


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_digest_depends_on_the_content_alone(push: Push, folder: Path, workers: int) -> None:
    first = push(folder).root
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            os.utime(path, (1, 1))
    assert push(folder, workers=workers).root == first
    (folder / "a.txt").chmod(0o600)
    assert push(folder).root == first
    (folder / "a.txt").chmod(0o700)
    assert push(folder).root != first


def test_many_files_in_many_shapes(push: Push, manifest: Open, tmp_path: Path) -> None:
    """More files than a group and than the window, directories between them, pages that end in the middle."""
    root = tmp_path / "many"
    expected: dict[str, Entry] = {}

    def add(path: str) -> None:
        data = path.encode()
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        expected[path] = FileEntry(b"-", len(data), bytes.fromhex(digest_bytes(data)), b"", False)

    for number in range(600):
        add(f"flat/{number}")
        if number % 50 == 0:
            add(f"flat/{number}.d/file")
    for number in range(60):
        add(f"{number:02}/one")
    pushed = push(root, workers=3)
    built = build_manifest(expected)
    assert (pushed.root, pushed.totals) == (built.root, built.totals)
    assert {path for path, _ in manifest(pushed.root).files()} == set(expected)


def test_an_empty_folder(push: Push, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert push(tmp_path / "empty").root == build_tree(()).digest


def test_links_that_lead_outside_are_followed(push: Push, manifest: Open, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    (outside / "inner").mkdir(parents=True)
    (outside / "file").write_bytes(b"outside")
    (outside / "inner" / "up").symlink_to("../file")
    (outside / "inner" / "out").symlink_to("../../root/here")
    (root / "here").write_bytes(b"here")
    (root / "absolute").symlink_to(root / "here")
    (root / "file").symlink_to("../outside/file")
    (root / "tree").symlink_to(outside)
    (root / "inner").symlink_to(outside / "inner")
    (root / "sub" / "inside").symlink_to("../here")
    (root / "sub" / "dangling").symlink_to("../nothing")
    (root / "self").symlink_to(".")
    assert shown(manifest(push(root).root)) == {
        "absolute": (4, False), "here": (4, False), "file": (7, False), "self": ".",
        "sub/": None, "sub/inside": "../here", "sub/dangling": "../nothing",
        "tree/": None, "tree/file": (7, False), "tree/inner/": None,
        # Below a followed link, a link may climb to where it was entered, and not to what is above it in the version.
        "tree/inner/up": "../file", "tree/inner/out": (4, False),
        "inner/": None, "inner/up": (7, False), "inner/out": (4, False),
    }


def test_what_no_version_can_hold_is_listed_before_anything_is_stored(
    store: FolderStore, push: Push, folder: Path
) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "sub" / "broken").symlink_to("/nothing/here")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "sub" / "endless").symlink_to(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        with pytest.raises(DraftInvalidError) as caught:
            push(folder)
    assert caught.value.paths == ("loop", "pipe", "socket", "sub/broken", "sub/endless")
    for word in ("a named pipe", "a socket", "which is not there", "that it is in", ".artfsignore"):
        assert word in str(caught.value)
    assert list(store.blobs()) == []
    (folder / ".artfsignore").write_text("pipe\nsocket\nloop\nendless\nbroken\n")
    assert push(folder).ignored == (
        ".artfsignore", "loop", "pipe", "socket", "sub/broken", "sub/endless/"
    )


def test_too_many_levels_are_refused(push: Push, tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    path = deep
    for _ in range(MAX_DEPTH):
        path = path / "d"
    path.mkdir(parents=True)
    push(deep)
    (path / "d").mkdir()
    with pytest.raises(DraftInvalidError, match="256 directories deep"):
        push(deep)


def test_ignored_files_are_left_out(push: Push, manifest: Open, folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "sub" / "a.txt~").write_bytes(b"x")
    assert push(folder).ignored == (".DS_Store", "sub/a.txt~")
    (folder / ".artfsignore").write_text("deep/\n*.sh\n")
    pushed = push(folder)
    assert pushed.ignored == (".DS_Store", ".artfsignore", "run.sh", "sub/a.txt~", "sub/deep/")
    assert pushed.totals.file_count == 4
    assert push(folder, ignore=IgnoreRules.none()).ignored == ()
    assert manifest(push(folder, ignore=IgnoreRules.none()).root).get(".DS_Store") is not None
    (folder / ".artfsignore").write_text("a\n!\n")
    with pytest.raises(InvalidNameError, match="line 2"):
        push(folder)


def test_names_that_collide_elsewhere_are_told(push: Push, folder: Path) -> None:
    (folder / "sub" / "SAME.txt").write_bytes(b"x")
    (folder / "A.txt").write_bytes(b"x")
    assert push(folder).collisions == (("A.txt", "a.txt"), ("sub/SAME.txt", "sub/same.txt"))


def test_progress_is_told(push: Push, folder: Path) -> None:
    told: list[Progress] = []
    push(folder, on_progress=told.append)
    assert {item.phase for item in told} == {"scan", "push"}
    size = 30 + 256 * 9000
    assert told[-1] == Progress("push", 6, 6, size, size)


def test_an_error_of_the_listener_ends_the_push(store: FolderStore, push: Push, folder: Path) -> None:
    def end(progress: Progress) -> None:
        if progress.phase == "push" and progress.nbytes:
            raise KeyboardInterrupt

    # Libraries that other tests use (dask, tqdm) keep threads for as long as the process lives.
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        push(folder, on_progress=end)
    assert all(store.read(digest) is not None for digest, _ in store.blobs())
    assert threading.active_count() <= before


def test_a_file_that_goes_meanwhile(store: FolderStore, push: Push, folder: Path) -> None:
    def remove(progress: Progress) -> None:
        if progress.phase == "push":
            (folder / "zero").unlink(missing_ok=True)

    for number in range(50):
        (folder / f"a{number}").write_bytes(b"x")
    with pytest.raises(SourceChangedError, match="zero was removed"):
        push(folder, on_progress=remove, workers=1)


def test_no_folder(push: Push, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        push(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        push(tmp_path / "file")


def test_one_file(tmp_path: Path) -> None:
    store = MemoryStore()
    (tmp_path / "file").write_bytes(b"hello")
    (tmp_path / "file").chmod(0o755)
    told: list[Progress] = []
    with store.begin() as batch:
        entry = push_file(batch, tmp_path / "file", on_progress=told.append)
        assert entry == FileEntry(b"file", 5, bytes.fromhex(digest_bytes(b"hello")), b"", True)
        assert push_file(batch, tmp_path / "file", name=b"other").name == b"other"
        with pytest.raises(NotFoundError):
            push_file(batch, tmp_path / "nothing")
        built = push_entries(batch, {"x/y": entry}, ["z"])
    assert told[-1] == Progress("push", 1, 1, 5, 5)
    assert all(store.read(digest) == data for digest, data in built.objects)
    assert built.totals.file_count == 1


def test_a_store_in_memory_takes_the_same(push: Push, folder: Path) -> None:
    with MemoryStore().begin() as batch:
        assert push_directory(batch, folder) == push(folder)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 5000), st.randoms(use_true_random=False))
def test_a_tree_written_in_pieces_is_the_same_tree(count: int, piece: int, random: random.Random) -> None:
    names = sorted({b"%x" % random.getrandbits(40) for _ in range(count)})
    entries: list[Entry] = [DirEntry(name, bytes(32), 3, 1) for name in names]
    stored: list[bytes] = []
    writer = TreeWriter(stored.append)
    for start in range(0, len(entries), piece):
        writer.add(entries[start : start + piece])
    written, built = writer.finish(), build_tree(entries)
    assert (written.digest, written.totals) == (built.digest, built.totals)
    assert {digest_bytes(data) for data in stored} == {digest for digest, _ in built.pages}
