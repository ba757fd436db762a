"""Ordinary programs fill and change drafts (docs/semantics.md, "Drafts"), and what drafts refuse."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.trees import Link, make, picture, random_tree


def run(*command: str | os.PathLike[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout


def refused(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as raised:
        call()
    assert raised.value.errno == number


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = random_tree(tmp_path_factory.mktemp("tools") / "source", files=200, folders=15)
    plan = {
        "link": Link("file"),
        "file": "words\n",
        "run*": "#!/bin/sh\n",
        "empty": None,
        "big": b"0123456789" * 300_000,
    }
    return make(source, plan)


def becomes(corner: Corner, draft: Path, wanted: Path) -> None:
    """The draft, and then the version that it becomes, is the folder `wanted`."""
    assert picture(draft) == picture(wanted)
    corner.commit(draft.name)
    assert picture(corner.path / "c" / "latest") == picture(wanted)


def test_cp_fills_a_draft(corner: Corner, source: Path) -> None:
    draft = corner.begin()
    run("cp", "-r", "--", *source.iterdir(), draft)
    becomes(corner, draft, source)


def test_cp_of_a_folder_begins_a_draft(corner: Corner, source: Path) -> None:
    """`cp -r dataset MOUNT/drafts/p/c`, with no mkdir before."""
    run("cp", "-r", source, corner.drafts / "c")
    becomes(corner, corner.drafts / "c", source)


def test_cp_archive_keeps_times_in_the_draft(corner: Corner, source: Path) -> None:
    draft = corner.begin()
    run("cp", "-a", f"{source}/.", draft)
    for path in source.rglob("*"):
        assert (draft / path.relative_to(source)).lstat().st_mtime_ns == path.lstat().st_mtime_ns
    becomes(corner, draft, source)


def test_tar_unpacks_into_a_draft(corner: Corner, source: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.tar.gz"
    run("tar", "czf", packed, "-C", source, ".")
    draft = corner.begin()
    run("tar", "xzf", packed, "-C", draft)
    becomes(corner, draft, source)


def test_python_unpacks_into_a_draft(corner: Corner, source: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "packed.tar", "w") as packed:
        packed.add(source, ".")
    draft = corner.begin()
    run(sys.executable, "-W", "ignore", "-m", "tarfile", "--extract", tmp_path / "packed.tar", draft)
    becomes(corner, draft, source)


def test_zip_files_are_written_in_a_draft(corner: Corner, source: Path) -> None:
    """It goes back to what it wrote before."""
    draft = corner.begin()
    with zipfile.ZipFile(draft / "packed.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in source.rglob("*"):
            packed.write(path, path.relative_to(source))
    corner.commit()
    with zipfile.ZipFile(corner.path / "c" / "latest" / "packed.zip") as packed:
        assert packed.testzip() is None
        assert packed.read("file") == b"words\n"


def test_a_second_rsync_transfers_nothing(corner: Corner, source: Path) -> None:
    draft = corner.begin()
    run("rsync", "-a", f"{source}/", draft)
    assert run("rsync", "-ai", "--delete", f"{source}/", draft) == ""
    assert run("rsync", "-ai", "--checksum", f"{source}/", draft) == ""
    becomes(corner, draft, source)


def test_rsync_brings_a_draft_from_a_version_up_to_date(corner: Corner, source: Path, tmp_path: Path) -> None:
    corner.log(source)
    changed = tmp_path / "changed"
    shutil.copytree(source, changed, symlinks=True)
    (changed / "file").write_text("other words\n")
    (changed / "run").unlink()
    (changed / "big").write_bytes(b"9876543210" * 300_000)
    make(changed / "added", {"one": "1", "two/three": "3"})
    shutil.rmtree(next(path for path in changed.iterdir() if path.name.startswith("folder ")))
    draft = corner.begin("c:latest")
    run("rsync", "-a", "--checksum", "--delete", f"{changed}/", draft)
    becomes(corner, draft, changed)


def test_rsync_in_place_changes_a_file(corner: Corner, source: Path, tmp_path: Path) -> None:
    corner.log(source)
    data = bytearray((source / "big").read_bytes())
    data[1_000_000:1_000_003] = b"new"
    (tmp_path / "big").write_bytes(data)
    draft = corner.begin("c:latest")
    run("rsync", "--inplace", "--no-whole-file", "--checksum", tmp_path / "big", draft)
    assert (draft / "big").read_bytes() == data
    corner.commit("c:latest")
    assert (corner.path / "c" / "latest" / "big").read_bytes() == data


def test_an_editor_saves_by_renaming(corner: Corner, source: Path) -> None:
    corner.log(source)
    draft = corner.begin("c:latest")
    run("sed", "-i", "s/words/edited/", draft / "file")
    assert (draft / "file").read_text() == "edited\n"
    (draft / ".file.tmp").write_text("saved")
    os.rename(draft / "file", draft / "file~")
    os.rename(draft / ".file.tmp", draft / "file")
    (draft / "file~").unlink()
    corner.commit("c:latest")
    assert (corner.path / "c" / "latest" / "file").read_text() == "saved"
    assert (corner.path / "c" / "v0" / "file").read_text() == "words\n"


def test_an_editor_saves_as_vim_does(corner: Corner, source: Path) -> None:
    """It tries whether it may make files there, moves the old text aside, writes a new file under the name, syncs it, gives it
    the old mode and throws the old text away; its swap file is no part of the version."""
    corner.log(source)
    draft = corner.begin("c:latest")
    swap = os.open(draft / ".run.swp", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.pwrite(swap, b"b0VIM", 0)
    os.pwrite(swap, b"x" * 4096, 8192)
    status = (draft / "run").stat()
    os.close(os.open(draft / "4913", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, status.st_mode))
    os.chown(draft / "4913", status.st_uid, status.st_gid)
    (draft / "4913").unlink()
    os.rename(draft / "run", draft / "run~")
    saved = os.open(draft / "run", os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(saved, b"#!/bin/sh\necho edited\n")
    os.fsync(saved)
    os.fchmod(saved, status.st_mode)
    os.close(saved)
    (draft / "run~").unlink()
    os.close(swap)
    assert run(draft / "run") == "edited\n"
    assert corner.commit("c:latest").warnings == ("ignored 1: .run.swp",)
    assert run(corner.path / "c" / "latest" / "run") == "edited\n"
    assert sorted(os.listdir(corner.path / "c" / "latest")) == sorted(os.listdir(source))


def test_shell_redirections_write(corner: Corner) -> None:
    draft = corner.begin()
    run(
        "sh",
        "-c",
        "echo one > f; echo two >> f; dd if=f of=g bs=3 conv=notrunc status=none; mkdir -p a/b; mv f a/b; ls -R",
        cwd=draft,
    )
    assert (draft / "a" / "b" / "f").read_text() == (draft / "g").read_text() == "one\ntwo\n"


def test_mv_moves_into_a_draft(corner: Corner, source: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(source, moved, symlinks=True)
    draft = corner.begin()
    run("mv", *moved.iterdir(), draft)
    assert os.listdir(moved) == []
    becomes(corner, draft, source)


def test_rm_empties_a_draft(corner: Corner, source: Path) -> None:
    corner.log(source)
    draft = corner.begin("c:latest")
    for path in draft.iterdir():
        run("rm", "-r", path)
    assert os.listdir(draft) == []
    assert corner.commit("c:latest").file_count == 0
    assert os.listdir(corner.path / "c" / "latest") == []


DATABASE = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database:
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("CREATE TABLE t (x)")
    database.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(2000)])
    database.execute("DELETE FROM t WHERE x % 2")
database.execute("VACUUM")
print(database.execute("SELECT count(*), sum(x) FROM t").fetchone())
"""


def test_a_database_works_in_a_draft(corner: Corner) -> None:
    """Locks, writes in the middle, truncation, fsync, a journal that comes and goes."""
    draft = corner.begin()
    assert run(sys.executable, "-c", DATABASE, draft / "data.db") == "(1000, 999000)\n"
    corner.commit()
    uri = f"file:{corner.path / 'c' / 'latest' / 'data.db'}?immutable=1"
    script = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1], uri=True).execute('SELECT count(*) FROM t').fetchone())"
    assert run(sys.executable, "-c", script, uri) == "(1000,)\n"


def test_ln_from_a_version_copies_no_byte(corner: Corner, source: Path) -> None:
    corner.log(source)
    draft = corner.begin()
    with corner.daemon.counting() as counts:
        run("cp", "-al", f"{corner.path / 'c' / 'v0'}/.", draft)
    assert counts["write"] == counts["read"] == 0
    staged = corner.daemon.workspace.settings.drafts_path / "local" / corner.name / "c" / "files"
    assert (
        sum(path.lstat().st_size for path in staged.rglob("*") if path.is_file() and not path.is_symlink())
        == 0
    )
    (draft / "added").write_text("1")
    assert picture(draft) == {**picture(source), "added": picture(draft)["added"]}
    corner.commit()
    assert set(picture(corner.path / "c" / "latest")) == {*picture(source), "added"}


def test_a_draft_from_a_version_reads_without_copying(corner: Corner, source: Path) -> None:
    corner.log(source)
    draft = corner.begin("c:latest")
    assert picture(draft) == picture(source)
    staged = corner.daemon.workspace.settings.drafts_path / "local" / corner.name / "c:latest" / "files"
    assert os.listdir(staged) == [".artfs-base"]
    assert (draft / "big").read_bytes() == (source / "big").read_bytes()


# what is refused, or different -----------------------------------------------------------------------------------
def test_what_no_version_can_hold_is_refused(corner: Corner) -> None:
    draft = corner.begin()
    for make_it in (
        lambda: os.mkfifo(draft / "pipe"),
        lambda: os.mknod(draft / "device", 0o644 | 0o020000, os.makedev(1, 3)),
        lambda: (draft / ".artfs-base").touch(),
        lambda: (draft / ".artfs-base").mkdir(),
        lambda: (draft / ".artfs-base").symlink_to("x"),
        lambda: (draft / "link").symlink_to("/.artfs/gone"),
    ):
        refused(errno.EPERM, make_it)
    (draft / "file").touch()
    refused(errno.EPERM, lambda: os.rename(draft / "file", draft / ".artfs-base"))
    refused(errno.EPERM, lambda: os.link(draft / "file", draft / ".artfs-base"))
    assert os.listdir(draft) == ["file"]


def test_names_may_have_255_bytes(corner: Corner) -> None:
    draft = corner.begin()
    (draft / ("x" * 255)).touch()
    (draft / "file").touch()
    for call in (
        lambda: (draft / ("x" * 256)).touch(),
        lambda: (draft / ("x" * 256)).mkdir(),
        lambda: (draft / ("x" * 256)).symlink_to("x"),
        lambda: os.rename(draft / "file", draft / ("x" * 256)),
        lambda: os.link(draft / "file", draft / ("x" * 256)),
        lambda: os.stat(draft / ("ä" * 128)),
    ):
        refused(errno.ENAMETOOLONG, call)


def test_what_the_kernel_has_no_request_for_says_so(corner: Corner) -> None:
    draft = corner.begin()
    (draft / "one").touch()
    (draft / "two").touch()
    refused(errno.EOPNOTSUPP, lambda: os.open(draft, os.O_TMPFILE | os.O_RDWR))
    refused(errno.EOPNOTSUPP, lambda: os.setxattr(draft / "one", "user.mine", b"x"))
    with (draft / "one").open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, 10_000)  # the C library writes instead
    assert (draft / "one").stat().st_size == 10_000


def test_between_drafts_mv_copies(corner: Corner, source: Path) -> None:
    one, other = corner.begin("one"), corner.begin("other")
    make(one, {"file": "words", "folder/inner": "x"})
    refused(errno.EXDEV, lambda: os.rename(one / "file", other / "file"))
    refused(errno.EXDEV, lambda: os.link(one / "file", other / "file"))
    run("mv", one / "file", one / "folder", other)
    assert os.listdir(one) == []
    assert (other / "file").read_text() == "words"
    assert (other / "folder" / "inner").read_text() == "x"


def test_a_draft_needs_a_version_to_begin_from(corner: Corner, source: Path) -> None:
    refused(errno.ENOENT, lambda: (corner.drafts / "c:latest").mkdir())
    corner.log(source)
    refused(errno.ENOENT, lambda: (corner.drafts / "c:v7").mkdir())
    (corner.drafts / "c:v0").mkdir()
    refused(errno.EEXIST, lambda: (corner.drafts / "c:v0").mkdir())
    for name in ("a b", "c:", "c:a:b", "c:@yesterday", "c:\n"):
        refused(errno.EINVAL, lambda name=name: (corner.drafts / name).mkdir())
    assert os.listdir(corner.drafts) == ["c:v0"]


def test_a_draft_shows_in_the_projects_own_folder_of_drafts(corner: Corner, source: Path) -> None:
    corner.log(source)
    assert corner.name in os.listdir(corner.mount / "drafts")
    assert os.listdir(corner.mount / "drafts" / corner.name) == []
    refused(errno.ENOENT, lambda: (corner.mount / "drafts" / "no such project" / "c").mkdir())
    refused(errno.ENOENT, lambda: os.listdir(corner.mount / "drafts" / "no such project"))


def test_the_attributes_of_a_draft(corner: Corner, source: Path) -> None:
    corner.log(source)
    draft = corner.begin("c:latest")
    run("setfattr", "-n", "user.artfs.description", "-v", "told by setfattr", draft)
    shown = {name: os.getxattr(draft, name) for name in os.listxattr(draft)}
    assert shown["user.artfs.base"] == b"v0"
    assert shown["user.artfs.collection"] == b"c"
    assert shown["user.artfs.state"] == b"PENDING"
    assert shown["user.artfs.description"] == b"told by setfattr"
    run("setfattr", "-x", "user.artfs.description", draft)
    assert "user.artfs.description" not in os.listxattr(draft)
    refused(errno.EOPNOTSUPP, lambda: os.setxattr(draft, "user.artfs.state", b"COMMITTED"))
    refused(errno.EOPNOTSUPP, lambda: os.setxattr(draft, "security.selinux", b"x"))


def test_the_digest_of_a_closed_file_can_be_read(corner: Corner, source: Path) -> None:
    draft = corner.begin()
    shutil.copyfile(source / "big", draft / "big")
    corner.barrier()
    while corner.daemon.status()["hashing"]:
        pass
    digest = run("sha256sum", "--", source / "big").split()[0]
    assert os.getxattr(draft / "big", "user.artfs.digest").decode() == digest
    (draft / "big").write_text("other")
    corner.barrier()
    assert os.getxattr(draft / "big", "user.artfs.digest").decode() != digest
