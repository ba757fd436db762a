"""The commands that talk with a daemon: mount, umount, status, commit, draft; and what they do when it does not answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from artfs.cli.procs import is_running
from artfs.client.control import running_mounts
from artfs.testing.mount import Daemon, Workspace, detach, is_mounted

MakeDaemon = Callable[..., Daemon]


def shown(workspace: Workspace, *arguments: str | os.PathLike[str]) -> Any:
    """What the command says as JSON."""
    return json.loads(workspace.artfs(*arguments, "--json").stdout)


def refusal(workspace: Workspace, *arguments: str | os.PathLike[str], code: int) -> str:
    """The one line (and the list below it) with which the command fails."""
    done = workspace.artfs(*arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("artfs: ")
    return done.stderr.removeprefix("artfs: ").rstrip("\n")


@pytest.fixture
def mounted(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """A mount made by `artfs mount`; what it said. Ended afterwards."""
    made = shown(workspace, "mount", workspace.mountpoint)
    try:
        yield made
    finally:
        detach(workspace.mountpoint)
        if is_running(made["pid"]):
            os.kill(made["pid"], signal.SIGKILL)


@pytest.fixture
def draft(workspace: Workspace, mounted: dict[str, Any]) -> Path:
    """A draft of p/c in the mount, with one closed file."""
    folder = workspace.mountpoint / "drafts" / "p" / "c"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a\n")
    return folder


@contextmanager
def somebody(code: str, folder: Path) -> Iterator[int]:
    """A process that runs `code` in `folder` and then stays; its pid."""
    child = subprocess.Popen(
        ["/usr/bin/python3", "-c", f"{code}\nprint(flush=True)\ninput()"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield child.pid
        finally:
            child.kill()


def test_mount_says_where_and_who(workspace: Workspace, mounted: dict[str, Any]) -> None:
    assert mounted["mountpoint"] == str(workspace.mountpoint)
    assert is_running(mounted["pid"])
    assert "ready" in Path(mounted["log"]).read_text()
    (record,) = running_mounts(workspace.settings.run_path)
    assert (record.pid, record.entity) == (mounted["pid"], "local")
    assert os.getsid(mounted["pid"]) == mounted["pid"], "it must outlive the terminal"
    assert not list((workspace.settings.run_path).glob("notify-*"))


def test_a_second_mount_is_refused(workspace: Workspace, mounted: dict[str, Any]) -> None:
    said = refusal(workspace, "mount", workspace.mountpoint, code=7)
    assert said == (
        f"{workspace.mountpoint} is already served by artfs (pid {mounted['pid']}); "
        f"`artfs umount {workspace.mountpoint}` ends it"
    )
    other = refusal(workspace, "--home", workspace.path / "other", "mount", workspace.mountpoint, code=7)
    assert "already served by an artfs of another state folder" in other
    assert is_running(mounted["pid"])


def test_umount_finds_the_only_mount_and_waits(workspace: Workspace, mounted: dict[str, Any]) -> None:
    assert shown(workspace, "umount") == [{"mountpoint": str(workspace.mountpoint)}]
    assert not is_mounted(workspace.mountpoint)
    assert not is_running(mounted["pid"])
    assert os.listdir(workspace.mountpoint) == []
    assert "nothing is mounted at" in refusal(workspace, "umount", workspace.mountpoint, code=3)


def test_umount_of_several(workspace: Workspace, mounted: dict[str, Any]) -> None:
    second = workspace.path / "second"
    second.mkdir()
    workspace.artfs("mount", second)
    said = refusal(workspace, "umount", code=2)
    assert str(second) in said
    assert str(workspace.mountpoint) in said
    assert len(shown(workspace, "status")["mounts"]) == 2
    assert len(shown(workspace, "umount", "--all")) == 2
    assert not is_mounted(second)


@pytest.mark.parametrize(
    ("code", "how"), [("", "works in"), ("f = open('a.txt')\nimport os; os.chdir('/')", "has open")]
)
def test_a_mount_in_use_says_by_whom(workspace: Workspace, draft: Path, code: str, how: str) -> None:
    with somebody(code, draft) as pid:
        said = refusal(workspace, "umount", code=4)
        assert f"(pid {pid}) {how} {draft}" in said
        assert is_mounted(workspace.mountpoint)
    workspace.artfs("umount")


def test_a_lazy_umount_lets_go_at_once(workspace: Workspace, draft: Path) -> None:
    with somebody("", draft):
        workspace.artfs("umount", "--lazy", workspace.mountpoint)
        assert not is_mounted(workspace.mountpoint)


def test_umount_of_a_dead_mount(workspace: Workspace, mounted: dict[str, Any]) -> None:
    os.kill(mounted["pid"], signal.SIGKILL)
    workspace.artfs("umount", workspace.mountpoint)
    assert not is_mounted(workspace.mountpoint)


def test_doctor_names_a_dead_mount(workspace: Workspace, mounted: dict[str, Any]) -> None:
    os.kill(mounted["pid"], signal.SIGKILL)
    done = workspace.artfs("doctor", "--json", check=False)
    assert done.returncode == 1
    fixes = [check["fix"] for check in json.loads(done.stdout) if check["check"] == "mount"]
    assert f"fusermount3 -uz {workspace.mountpoint}" in fixes


def test_status_and_info_show_the_mount(workspace: Workspace, draft: Path, mounted: dict[str, Any]) -> None:
    (mount,) = shown(workspace, "status")["mounts"]
    assert (mount["pid"], mount["error"]) == (mounted["pid"], None)
    assert mount["daemon"]["serves_drafts"] is True
    assert "answers" in workspace.artfs("status").stdout
    workspace.artfs("commit", "p/c")
    (path,) = shown(workspace, "info", "p/c:v0")["mounted_at"]
    assert (Path(path) / "a.txt").read_text() == "a\n"


def test_commit_goes_through_the_daemon(workspace: Workspace, draft: Path) -> None:
    found = shown(
        workspace, "commit", "p/c", "--type", "model", "-a", "best", "-t", "x", "-m", "n=1", "-d", "hello"
    )
    assert (found["version"], found["created"], found["aliases"]) == ("v0", True, ["best", "latest"])
    assert not draft.exists()
    assert (workspace.mountpoint / "p" / "c" / "best" / "a.txt").read_text() == "a\n"
    version = shown(workspace, "info", "p/c:v0")
    assert (version["type"], version["tags"], version["metadata"]) == ("model", ["x"], {"n": 1})
    assert version["description"] == "hello"


def test_a_draft_by_its_folder(workspace: Workspace, draft: Path) -> None:
    assert shown(workspace, "commit", draft)["version"] == "v0"
    workspace.artfs("draft", "from", "p/c")
    inner = workspace.mountpoint / "drafts/p/c:latest"
    (inner / "deep").mkdir()
    (inner / "deep" / "b").touch()
    done = subprocess.run(
        [workspace.account.python, "-m", "artfs.cli", "commit", ".."],
        cwd=inner / "deep",
        env=workspace.environ,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("committed local/p/c:v1"), done.stderr


def test_open_files_are_listed(workspace: Workspace, draft: Path) -> None:
    with somebody("f = open('open.txt', 'w')", draft):
        said = refusal(workspace, "commit", "p/c", code=5)
        assert "open for writing: open.txt" in said
        assert (draft / "a.txt").read_text() == "a\n"
    assert shown(workspace, "commit", "p/c")["file_count"] == 2


def test_a_file_closed_just_before_counts_as_closed(workspace: Workspace, draft: Path) -> None:
    """RELEASE follows close() with a delay of its own; the barrier makes the commit wait for it."""
    for number in range(10):
        with (draft / f"{number}.bin").open("wb") as stream:
            stream.write(bytes(1 << 20))
    assert shown(workspace, "commit", "p/c")["file_count"] == 11


def test_drafts_begun_and_abandoned_are_seen_in_the_mount(workspace: Workspace, draft: Path) -> None:
    workspace.artfs("commit", "p/c")
    begun = shown(workspace, "draft", "from", "p/c:v0", "c:fixes")
    folder = workspace.mountpoint / "drafts/p/c:fixes"
    assert begun["mounted_at"] == str(folder)
    assert os.listdir(folder) == ["a.txt"]
    (folder / "a.txt").write_text("changed\n")
    assert shown(workspace, "draft", "list")[0]["own_files"] == 1
    (change,) = shown(workspace, "draft", "diff", "p/c:fixes")["changes"]
    assert (change["path"], change["change"]) == ("a.txt", "changed")
    workspace.artfs("draft", "abandon", "p/c:fixes", "--yes")
    assert not folder.exists()
    assert shown(workspace, "draft", "list") == []


def test_without_the_daemon_the_draft_commits_all_the_same(workspace: Workspace, draft: Path) -> None:
    workspace.artfs("umount")
    assert shown(workspace, "commit", "p/c")["version"] == "v0"


def test_a_daemon_that_hangs_is_said_to(workspace: Workspace, draft: Path, mounted: dict[str, Any]) -> None:
    os.kill(mounted["pid"], signal.SIGSTOP)
    try:
        said = refusal(workspace, "commit", "p/c", code=11)
        assert "does not answer" in said
        (mount,) = shown(workspace, "status")["mounts"]
        assert "does not answer" in mount["error"]
    finally:
        os.kill(mounted["pid"], signal.SIGCONT)
    assert shown(workspace, "commit", "p/c")["version"] == "v0"
