import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.catalog import open_catalog
from artfs.catalog.base import Catalog
from artfs.errors import ConflictError, NotFoundError
from artfs.model.digests import digest_bytes
from artfs.model.records import NewVersion
from artfs.settings import Settings
from artfs.store.folder import FolderStore
from artfs.transfer.backup import LOCK, MARKER, backup, read_marker, restore
from artfs.transfer.push import Pushed
from artfs.transfer.verify import verify_store, verify_version
from artfs.wire.control import Progress


@pytest.fixture
def catalog(store: FolderStore) -> Iterator[Catalog]:
    with open_catalog(store.root.parent / "catalog.db") as catalog:
        yield catalog


@pytest.fixture
def log(catalog: Catalog, push: Callable[..., Pushed], folder: Path) -> Callable[[], Pushed]:
    """Commits the folder as it is."""

    def log() -> Pushed:
        pushed = push(folder)
        totals = pushed.totals
        catalog.commit(NewVersion("local", "p", "data", "dataset", pushed.root, totals.size, totals.file_count))
        return pushed

    return log


def check_home(home: Path, versions: list[str]) -> None:
    """The state folder has these versions, whole."""
    settings = Settings(home=home)
    with open_catalog(settings.catalog_path) as catalog:
        assert [member.version.digest for member in catalog.versions()] == versions
    store = FolderStore(settings.store_path)
    for root in versions:
        assert verify_version(store, root) == []


def test_a_backup_is_a_state_folder_and_can_be_restored(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], tmp_path: Path
) -> None:
    pushed = log()
    told: list[Progress] = []
    done = backup(catalog, store, tmp_path / "backup", on_progress=told.append)
    count = len(list(store.blobs()))
    assert (done.blobs, done.copied, done.damaged) == (count, count, ())
    assert done.nbytes == done.copied_nbytes == sum(size for _, size in store.blobs())
    assert told[-1] == Progress("backup", count, count, done.nbytes, done.nbytes)
    assert read_marker(tmp_path / "backup").blobs == count
    check_home(tmp_path / "backup", [pushed.root])
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700

    restored = restore(tmp_path / "backup", tmp_path / "new" / "home")
    assert (restored.blobs, restored.copied) == (count, count)
    check_home(tmp_path / "new" / "home", [pushed.root])
    assert sorted(path.name for path in (tmp_path / "new" / "home").iterdir()) == ["catalog.db", "store"]


def test_a_second_backup_copies_what_is_new(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], folder: Path, tmp_path: Path
) -> None:
    first = log()
    backup(catalog, store, tmp_path / "backup")
    (folder / "a.txt").write_bytes(b"changed")
    second = log()
    assert backup(catalog, store, tmp_path / "backup").copied == 2  # the file and the root
    check_home(tmp_path / "backup", [first.root, second.root])


def test_a_commit_during_a_backup_does_no_harm(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], folder: Path, tmp_path: Path
) -> None:
    first = log()
    later: list[Pushed] = []

    def commit(progress: Progress) -> None:
        if not later:
            (folder / "a.txt").write_bytes(b"changed")
            later.append(log())

    backup(catalog, store, tmp_path / "backup", on_progress=commit)
    check_home(tmp_path / "backup", [first.root])


def test_an_interrupted_backup_leaves_the_earlier_one(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], folder: Path, tmp_path: Path
) -> None:
    first = log()
    target = tmp_path / "backup"

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(catalog, store, target, on_progress=interrupt)
    with pytest.raises(NotFoundError, match=MARKER):
        restore(target, tmp_path / "home")
    backup(catalog, store, target)
    (folder / "a.txt").write_bytes(b"changed")
    second = log()
    with pytest.raises(KeyboardInterrupt):
        backup(catalog, store, target, on_progress=interrupt)
    check_home(target, [first.root])
    restore(target, tmp_path / "home")
    check_home(tmp_path / "home", [first.root])
    backup(catalog, store, target)
    check_home(target, [first.root, second.root])


def test_a_damaged_blob_is_left_out_and_told(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], tmp_path: Path
) -> None:
    pushed = log()
    digest = digest_bytes(b"hello\n")
    store.path_of(digest).chmod(0o644)
    store.path_of(digest).write_bytes(b"hellO\n")
    done = backup(catalog, store, tmp_path / "backup")
    assert (done.damaged, done.copied) == ((digest,), done.blobs - 1)
    copy = FolderStore(tmp_path / "backup" / "store")
    assert verify_store(copy) == []
    assert {problem.digest for problem in verify_version(copy, pushed.root)} == {digest}

    large = max(copy.blobs(), key=lambda item: item[1])[0]
    copy.path_of(large).chmod(0o644)
    copy.path_of(large).write_bytes(copy.path_of(large).read_bytes()[:-1] + b"?")
    assert restore(tmp_path / "backup", tmp_path / "home").damaged == (large,)


def test_an_interrupted_restore_goes_on(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], tmp_path: Path
) -> None:
    pushed = log()
    backup(catalog, store, tmp_path / "backup")

    def interrupt(progress: Progress) -> None:
        if progress.files:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "backup", tmp_path / "home", on_progress=interrupt)
    assert not (tmp_path / "home" / "catalog.db").exists()
    restore(tmp_path / "backup", tmp_path / "home")
    check_home(tmp_path / "home", [pushed.root])


def test_what_is_there_is_not_overwritten(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], tmp_path: Path
) -> None:
    log()
    backup(catalog, store, tmp_path / "backup")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    for target in (tmp_path / "taken", tmp_path / "file", store.root.parent):
        with pytest.raises(ConflictError):
            backup(catalog, store, target)
    with pytest.raises(ConflictError, match="not empty"):
        restore(tmp_path / "backup", tmp_path / "taken")
    with pytest.raises(ConflictError):
        restore(tmp_path / "backup", store.root.parent)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["file"]


def test_only_a_complete_backup_is_restored(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], tmp_path: Path
) -> None:
    log()
    target = tmp_path / "backup"
    with pytest.raises(NotFoundError):
        restore(target, tmp_path / "home")
    backup(catalog, store, target)
    for text in ("", "{}", '{"format": 99, "finished_at": 1, "blobs": 1, "nbytes": 1}'):
        (target / MARKER).write_text(text)
        with pytest.raises(NotFoundError):
            restore(target, tmp_path / "home")
    (target / MARKER).unlink()
    with pytest.raises(NotFoundError, match="no complete backup"):
        restore(target, tmp_path / "home")
    assert not (tmp_path / "home").exists()
    shutil.rmtree(target)


def test_what_a_killed_user_of_a_backup_left_does_not_hide_the_next_one(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], folder: Path, tmp_path: Path
) -> None:
    """SQLite's log of the earlier catalog, which belongs to no other; while somebody uses the backup there is no next one."""
    roots = [log().root]
    target = tmp_path / "backup"
    backup(catalog, store, target)
    left = tmp_path / "left"
    with open_catalog(target / "catalog.db") as used:
        for number in range(20):
            used.create_project("local", f"p{number}")
        shutil.copy(target / "catalog.db-wal", left)
        with pytest.raises(ConflictError, match="in use"):
            backup(catalog, store, target)
    shutil.copy(left, target / "catalog.db-wal")
    for number in range(20):
        (folder / "a.txt").write_text(f"changed {number}")
        roots.append(log().root)
    backup(catalog, store, target)
    check_home(target, roots)
    restore(target, tmp_path / "new")
    check_home(tmp_path / "new", roots)


def test_another_backup_to_the_same_folder_waits_for_its_turn(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], folder: Path, tmp_path: Path
) -> None:
    """Otherwise the first would take the catalog of the second, whose blobs are not there yet, for its own."""
    first = log()
    target = tmp_path / "backup"
    later: list[Pushed] = []

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    def begin_another(progress: Progress) -> None:
        if later:
            return
        (folder / "a.txt").write_bytes(b"changed")
        later.append(log())
        with pytest.raises(ConflictError, match="another backup .* is being made"):
            backup(catalog, store, target, on_progress=interrupt)
        with pytest.raises(ConflictError, match="a backup .* is being made"):
            restore(target, tmp_path / "early")

    backup(catalog, store, target)
    backup(catalog, store, target, on_progress=begin_another)
    check_home(target, [first.root])
    backup(catalog, store, target)
    check_home(target, [first.root, later[0].root])


def test_a_backup_that_is_being_restored_stays_as_it_is(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], folder: Path, tmp_path: Path
) -> None:
    """Otherwise the catalog that is copied last names blobs that came after the others were."""
    first = log()
    target = tmp_path / "backup"
    backup(catalog, store, target)
    later: list[Pushed] = []

    def renew(progress: Progress) -> None:
        if later:
            return
        (folder / "a.txt").write_bytes(b"changed")
        later.append(log())
        with pytest.raises(ConflictError, match="is being restored"):
            backup(catalog, store, target)
        restore(target, tmp_path / "second")

    restore(target, tmp_path / "new", on_progress=renew)
    check_home(tmp_path / "new", [first.root])
    check_home(tmp_path / "second", [first.root])


def test_a_backup_without_a_lock_can_be_restored(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], tmp_path: Path
) -> None:
    """One that was copied elsewhere, or is on a disk that cannot be written to."""
    first = log()
    target = tmp_path / "backup"
    backup(catalog, store, target)
    (target / LOCK).unlink()
    restore(target, tmp_path / "new")
    check_home(tmp_path / "new", [first.root])
    assert not (target / LOCK).exists()


def test_versions_that_were_made_in_an_interrupted_restore_are_not_lost(
    store: FolderStore, catalog: Catalog, log: Callable[[], Pushed], tmp_path: Path
) -> None:
    first = log()
    target, home = tmp_path / "backup", tmp_path / "home"
    backup(catalog, store, target)

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(target, home, on_progress=interrupt)
    with open_catalog(home / "catalog.db") as begun:  # as `artfs ls` does
        assert begun.versions() == []
    with pytest.raises(KeyboardInterrupt):
        restore(target, home, on_progress=interrupt)
    with open_catalog(home / "catalog.db") as used:
        used.commit(NewVersion("local", "p", "own", "dataset", first.root, 1, 1))
    with pytest.raises(ConflictError, match="has 1 version that was made since its restore was interrupted"):
        restore(target, home)
    with open_catalog(home / "catalog.db") as used:
        assert [member.collection for member in used.versions()] == ["own"]
        used.delete_version(used.versions()[0].id, delete_aliases=True)
    restore(target, home)
    check_home(home, [first.root])
