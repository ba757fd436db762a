"""How drafts become versions (docs/semantics.md, "Commits")."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from artfs.errors import (
    DraftBusyError,
    DraftInvalidError,
    InvalidNameError,
    LatestMovedError,
    TypeConflictError,
)
from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.trees import make, nest


def bytes_read(pid: int) -> int:
    """What a process has read with read(2) and its kin."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["rchar"])


def test_a_draft_becomes_the_next_version(corner: Corner, tmp_path: Path) -> None:
    source = make(tmp_path / "s", {"a/b.txt": "hello", "run*": "#!/bin/sh\n", "empty": None, "big": b"x" * 3_000_000})
    draft = corner.begin()
    subprocess.run(["cp", "-r", f"{source}/.", draft], check=True)
    reply = corner.commit()
    assert (reply.version, reply.created, reply.file_count, reply.aliases) == ("v0", True, 3, ("latest",))
    assert subprocess.run(["diff", "-r", source, corner.path / "c" / "v0"], check=False).returncode == 0
    assert os.access(corner.path / "c" / "v0" / "run", os.X_OK)
    assert not draft.exists()
    assert os.listdir(corner.drafts) == []


def test_what_the_next_version_is_told(corner: Corner) -> None:
    draft = corner.begin()
    (draft / "f").write_text("1")
    os.setxattr(draft, "user.artfs.description", b"from the draft")
    os.setxattr(draft, "user.artfs.metadata", b'{"rows": 3}')
    os.setxattr(draft, "user.artfs.aliases", b"best,prod")
    os.setxattr(draft, "user.artfs.tags", b"clean")
    assert os.getxattr(draft, "user.artfs.metadata") == b'{"rows": 3}'
    corner.commit(type="model", description="from the command", aliases=("mine",), ttl="30d")
    version = corner.path / "c" / "mine"
    told = {name: os.getxattr(version, f"user.artfs.{name}") for name in ("type", "description", "metadata", "tags")}
    assert told == {"type": b"model", "description": b"from the command", "metadata": b'{"rows": 3}', "tags": b"clean"}
    assert {"best", "prod", "mine", "latest", "v0"} == set(os.listdir(corner.path / "c"))
    with corner.session() as session:
        assert session.catalog.resolve(session.settings.entity, corner.name, "c", "v0").version.ttl == timedelta(days=30)


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("user.artfs.metadata", b"[1]", errno.EINVAL),
        ("user.artfs.type", b"wandb-x", errno.EINVAL),
        ("user.artfs.aliases", b"a/b", errno.EINVAL),
        ("user.artfs.digest", b"x", errno.EOPNOTSUPP),
        ("user.other", b"x", errno.EOPNOTSUPP),
    ],
)
def test_what_a_draft_cannot_be_told(corner: Corner, name: str, value: bytes, number: int) -> None:
    with pytest.raises(OSError) as raised:
        os.setxattr(corner.begin(), name, value)
    assert raised.value.errno == number


def test_committing_what_latest_has_makes_no_version(corner: Corner) -> None:
    for _ in range(2):
        (corner.begin() / "f").write_text("same")
        reply = corner.commit()
    assert (reply.version, reply.created) == ("v0", False)
    assert not (corner.drafts / "c").exists()


def test_files_open_for_writing_refuse_a_commit(corner: Corner) -> None:
    draft = corner.begin()
    (draft / "closed").write_text("1")
    with (draft / "open").open("w") as stream, (draft / "closed").open():
        stream.write("not all of it")
        with pytest.raises(DraftBusyError) as raised:
            corner.commit()
        assert raised.value.paths == ("open",)
        done = corner.artfs("commit", f"{corner.name}/c", check=False)
        assert done.returncode != 0
        assert "open" in done.stderr
    assert corner.commit().file_count == 2


def test_mv_commits(corner: Corner) -> None:
    draft = corner.begin()
    (draft / "f").write_text("moved")
    (corner.path / "c").mkdir(parents=True)
    subprocess.run(["mv", draft, corner.path / "c"], check=True)
    assert (corner.path / "c" / "latest" / "f").read_text() == "moved"
    assert set(os.listdir(corner.path / "c")) == {"latest", "v0"}
    assert not draft.exists()


def test_mv_to_another_name_adds_the_alias(corner: Corner) -> None:
    (corner.begin() / "f").write_text("moved")
    (corner.path / "c").mkdir(parents=True)
    os.rename(corner.drafts / "c", corner.path / "c" / "golden")
    assert set(os.listdir(corner.path / "c")) == {"golden", "latest", "v0"}
    assert (corner.path / "c" / "golden" / "f").read_text() == "moved"


def test_mv_of_a_draft_that_is_written_to_is_refused(corner: Corner) -> None:
    draft = corner.begin()
    (corner.path / "c").mkdir(parents=True)
    with (draft / "f").open("w") as stream:
        stream.write("x")
        with pytest.raises(OSError) as raised:
            os.rename(draft, corner.path / "c" / "c")
        assert raised.value.errno == errno.EBUSY
    assert (draft / "f").read_text() == "x"


@pytest.mark.parametrize(("target", "number"), [("other/c", errno.EINVAL), ("c/a:b", errno.EINVAL)])
def test_mv_to_where_it_cannot_go_leaves_the_draft(corner: Corner, target: str, number: int) -> None:
    (corner.begin() / "f").write_text("x")
    for name in ("c", "other"):
        (corner.path / name).mkdir(parents=True)
    with pytest.raises(OSError) as raised:
        os.rename(corner.drafts / "c", corner.path / target)
    assert raised.value.errno == number
    assert (corner.drafts / "c" / "f").read_text() == "x"


def test_a_draft_that_was_overtaken_is_refused_unless_forced(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "0", {"f": "0"}))
    draft = corner.begin("c:latest")
    (draft / "mine").write_text("mine")
    corner.log(make(tmp_path / "1", {"f": "theirs"}))
    with pytest.raises(LatestMovedError):
        corner.commit("c:latest")
    assert (draft / "mine").read_text() == "mine"
    reply = corner.commit("c:latest", force=True)
    assert (reply.version, reply.moved_from) == ("v2", "v0")
    assert (corner.path / "c" / "latest" / "f").read_text() == "0"


def test_an_empty_draft_that_was_overtaken_says_so(corner: Corner, tmp_path: Path) -> None:
    (corner.begin() / "f").write_text("mine")
    corner.log(make(tmp_path / "1", {"f": "theirs"}))
    reply = corner.commit()
    assert (reply.version, reply.moved_from) == ("v1", "")


def test_ignored_files_are_left_out_and_counted(corner: Corner) -> None:
    draft = corner.begin()
    make(draft, {".artfsignore": "*.log\nbuild/\n", "a.log": "x", "build/x": "x", ".DS_Store": "x", "f.swp": "x", "f": "kept"})
    reply = corner.commit()
    assert sorted(os.listdir(corner.path / "c" / "v0")) == ["f"]
    assert any(warning.startswith("ignored 5:") for warning in reply.warnings)


def test_names_that_collide_elsewhere_are_pointed_out(corner: Corner) -> None:
    make(corner.begin(), {"d/Readme": "1", "d/README": "2", "d/caf\u00e9": "3", "d/cafe\u0301": "4"})
    (warning,) = corner.commit().warnings
    assert "d/README Readme" in warning
    assert warning.count("caf") == 2


def test_links_that_leave_the_draft_are_refused_and_listed(corner: Corner) -> None:
    draft = corner.begin()
    make(draft, {"d/f": "x"})
    (draft / "d" / "inside").symlink_to("../d/f")
    (draft / "absolute").symlink_to("/etc/passwd")
    (draft / "d" / "outside").symlink_to("../../x")
    with pytest.raises(DraftInvalidError) as raised:
        corner.commit()
    assert raised.value.paths == ("absolute", "d/outside")
    (draft / "absolute").unlink()
    (draft / "d" / "outside").unlink()
    corner.commit()
    assert (corner.path / "c" / "v0" / "d" / "inside").read_text() == "x"


def test_a_draft_that_cannot_be_committed_can_be_listed_and_abandoned(corner: Corner) -> None:
    (corner.begin() / "absolute").symlink_to("/etc/passwd")
    make(corner.begin("other"), {"file": "x"})
    listed = json.loads(corner.artfs("draft", "list", "--json").stdout)
    assert {draft["draft"]: draft["own_files"] for draft in listed if draft["project"] == corner.name} == {"c": 0, "other": 1}
    corner.artfs("draft", "abandon", "--yes", f"{corner.name}/c")
    assert os.listdir(corner.drafts) == ["other"]


def write_in(folder: int, name: str, text: str) -> None:
    with open(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=folder), "w") as stream:
        stream.write(text)
    os.close(folder)


@pytest.mark.parametrize("levels", [257, 1500])
def test_folders_that_are_nested_too_deep_are_refused_and_listed(corner: Corner, levels: int) -> None:
    """A version has at most 256 in each other, and nobody could read what is in more."""
    draft = corner.begin()
    write_in(nest(draft, "a", levels), "file", "deep")
    with pytest.raises(DraftInvalidError) as raised:
        corner.commit()
    assert raised.value.paths == ("/".join("a" * 257),)
    (draft / "a").rename(draft / "b")  # all that is below has another path now
    at = os.open(draft / "b" / "/".join("a" * (levels - 1)) / "file", os.O_RDONLY)
    assert os.read(at, 10) == b"deep"
    os.close(at)
    corner.artfs("gc")
    corner.artfs("draft", "list")
    corner.artfs("draft", "abandon", "--yes", f"{corner.name}/c")
    write_in(nest(corner.begin(), "a", 256), "file", "deep")
    corner.commit()
    assert (corner.path / "c" / "v0" / "/".join("a" * 256) / "file").read_text() == "deep"


@pytest.mark.parametrize("fits", [True, False])
def test_an_inherited_folder_that_is_moved_too_deep_is_refused(corner: Corner, fits: bool) -> None:
    """Nothing of it is staged but its name: how deep it is stands in the version that it comes from."""
    write_in(nest(corner.begin(), "a", 200), "file", "deep")
    corner.commit()
    draft = corner.begin("c:latest")
    os.close(nest(draft, "b", 56 if fits else 57))
    (draft / "a").rename(draft / "/".join("b" * (56 if fits else 57)) / "a")
    if fits:
        corner.commit("c:latest")
        assert (corner.path / "c" / "v1" / "/".join("b" * 56 + "a" * 200) / "file").read_text() == "deep"
        return
    with pytest.raises(DraftInvalidError) as raised:
        corner.commit("c:latest")
    assert raised.value.paths == ("/".join("b" * 57 + "a"),)
    (draft / "/".join("b" * 57) / "a").rename(draft / "c")
    corner.commit("c:latest")
    assert (corner.path / "c" / "v1" / "/".join("c" + "a" * 199) / "file").read_text() == "deep"


def test_paths_that_are_too_long_hinder_only_their_draft(corner: Corner) -> None:
    """What would get one is ENAMETOOLONG; what a move gave one can be moved back. `artfs gc` reads it all the same."""
    draft = corner.begin()
    (draft / "one").mkdir()
    write_in(nest(draft / "one", "b" * 250, 10), "file", "long")
    (draft / "two").mkdir()
    at, root = nest(draft / "two", "c" * 250, 14), os.open(draft, os.O_RDONLY)
    os.rename("one", "moved", src_dir_fd=root, dst_dir_fd=at)
    with pytest.raises(OSError, match="File name too long"):
        os.close(nest(Path(f"/proc/self/fd/{at}"), "d" * 250, 10))
    with pytest.raises(DraftInvalidError) as raised:
        corner.commit()
    assert all(path.startswith("two/ccc") for path in raised.value.paths)
    corner.artfs("gc")
    corner.artfs("draft", "list")
    os.rename("moved", "one", src_dir_fd=at, dst_dir_fd=root)
    shutil.rmtree(f"/proc/self/fd/{at}/{'d' * 250}")
    os.close(at)
    os.close(root)
    corner.commit()
    assert (corner.path / "c" / "v0" / "one" / "/".join(["b" * 250] * 10) / "file").read_text() == "long"


def test_a_type_that_does_not_fit_keeps_the_draft(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "0", {"f": "0"}), type="dataset")
    draft = corner.begin()
    (draft / "f").write_text("1")
    with pytest.raises(TypeConflictError):
        corner.commit(type="model")
    with pytest.raises(InvalidNameError):
        corner.commit(type="wandb-x")
    (draft / "f").write_text("changed after the commit that failed")
    assert corner.commit().version == "v1"
    assert (corner.path / "c" / "v1" / "f").read_text() == "changed after the commit that failed"


def test_a_failed_commit_leaves_a_draft_that_cannot_change_blobs(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "0", {"f": "0"}), type="dataset")
    draft = corner.begin()
    make(draft, {"a": "first", "b*": "second"})
    with pytest.raises(TypeConflictError):
        corner.commit(type="model")
    assert os.access(draft / "b", os.X_OK)
    with (draft / "a").open("a") as stream:
        stream.write(" and more")
    corner.commit()
    assert (corner.path / "c" / "latest" / "a").read_text() == "first and more"
    corner.verify_store()


@pytest.mark.embedded("what goes to a server is read once more")
def test_a_commit_reads_nothing_that_was_hashed_at_close(corner: Corner, tmp_path: Path) -> None:
    draft = corner.begin()
    big = tmp_path / "big"
    big.write_bytes(os.urandom(1 << 20) * 64)
    shutil.copyfile(big, draft / "big")
    corner.barrier()
    pid = corner.daemon.pid
    while corner.daemon.status()["hashing"]:
        pass
    before = bytes_read(pid)
    corner.commit()
    assert bytes_read(pid) - before < big.stat().st_size // 4


def test_drafts_are_listed_compared_and_abandoned(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "0", {"same": "0", "changed": "0", "gone": "0"}))
    corner.artfs("draft", "from", f"{corner.name}/c:latest")
    draft = corner.drafts / "c:latest"
    (draft / "changed").write_text("1")
    (draft / "gone").unlink()
    (draft / "new").write_text("1")
    assert f"{corner.name}/c:latest" in corner.artfs("draft", "list").stdout
    shown = corner.artfs("draft", "diff", f"{corner.name}/c:latest").stdout.splitlines()
    assert [line.split()[:2] for line in shown[:3]] == [["M", "changed"], ["D", "gone"], ["A", "new"]]
    corner.artfs("draft", "abandon", "--yes", f"{corner.name}/c:latest")
    assert not draft.exists()
    assert sorted(os.listdir(corner.path / "c" / "latest")) == ["changed", "gone", "same"]


def test_a_plain_file_has_no_place_beside_drafts(corner: Corner) -> None:
    for folder in (corner.mount / "drafts", corner.drafts):
        with pytest.raises(OSError) as raised:
            (folder / "file").write_text("x")
        assert raised.value.errno == errno.EPERM


def test_an_empty_draft_is_abandoned_by_rmdir(corner: Corner) -> None:
    draft = corner.begin()
    make(draft, {"d/f": "x"})
    with pytest.raises(OSError) as raised:
        draft.rmdir()
    assert raised.value.errno == errno.ENOTEMPTY
    subprocess.run(["rm", "-r", draft], check=True)
    assert os.listdir(corner.drafts) == []
    assert corner.artfs("commit", f"{corner.name}/c", check=False).returncode != 0


def test_a_linked_copy_of_a_version_stays_apart(corner: Corner, tmp_path: Path) -> None:
    corner.log(make(tmp_path / "0", {"d/f": "version", "d/run*": "x"}))
    draft = corner.begin("c:latest")
    subprocess.run(["cp", "-al", corner.path / "c" / "v0" / "d", draft / "copy"], check=True)
    os.link(corner.path / "c" / "v0" / "d" / "f", draft / "one")
    (draft / "copy" / "f").write_text("changed")
    assert (corner.path / "c" / "v0" / "d" / "f").read_text() == "version"
    assert (draft / "one").read_text() == "version"
    assert os.access(draft / "copy" / "run", os.X_OK)
    corner.commit("c:latest")
    latest = corner.path / "c" / "latest"
    assert [(latest / name).read_text() for name in ("copy/f", "one", "d/f")] == ["changed", "version", "version"]


def test_drafts_survive_the_daemon(
    workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = make_daemon(workspace).start()
    draft = daemon.mountpoint / "drafts" / "p" / "c"
    draft.mkdir(parents=True)
    make(draft, {"a": "kept", "d/b*": "kept"})
    daemon.kill()
    daemon.start()
    assert (draft / "a").read_text() == "kept"
    os.rename(draft / "d", draft / "e")
    daemon.terminate()
    workspace.artfs("commit", "p/c")
    daemon.start()
    assert (daemon.mountpoint / "p" / "c" / "v0" / "e" / "b").read_text() == "kept"
    assert not draft.exists()
