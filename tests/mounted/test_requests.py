"""What the daemon is not asked (docs/semantics.md, "Caching"): requests are counted in the handlers and looked at from
another process, over the control socket, which costs no request of the mount."""

from __future__ import annotations

import json
import mmap
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.kernelcaches import left_alone
from artfs.testing.mount import Daemon, Workspace, is_mounted
from artfs.testing.torture import Tally
from artfs.testing.trees import make, random_tree

CHEAP = {"opendir", "readdir", "releasedir", "forget"}
"""What a second look at a version costs for each directory; FORGET comes when the kernel needs memory."""

PER_COMMAND = {"getattr": 1, "getxattr": 2}
"""What it may cost once, however large the version is. On a mount that can be written to, the kernel forgets a directory's
time of last access whenever it was read, and asks for it again when the directory that the command names is looked at
(those below come with the listing of their parents). `ls -l` asks once a run whether this file system knows SELinux
labels, and once whether it knows access lists; the answer is no."""


FOLDERS = 41


@pytest.fixture(scope="module")
def corner(served: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Corner:
    """A project whose collection c has 800 small files, some nested, and one of 6 MB."""
    made = Corner(served, "requests")
    source = random_tree(tmp_path_factory.mktemp("requests") / "source", files=800, folders=FOLDERS - 1)
    (source / "large").write_bytes(os.urandom(6_000_000))
    (source / "small").write_bytes(b"words")
    made.log(source)
    return made


@pytest.fixture(autouse=True)
def kept_caches() -> Iterator[None]:
    with left_alone():
        yield


def run(*command: str | os.PathLike[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout


@pytest.mark.parametrize("name", ["latest", "v0"])
@pytest.mark.parametrize(
    "command",
    [("find",), ("ls", "-lR"), ("du", "-a"), ("find", "-ls")],
    ids=lambda command: " ".join(command),
)
def test_a_second_look_costs_only_the_reading_of_directories(
    corner: Corner, command: tuple[str, ...], name: str
) -> None:
    where = corner.path / "c" / name
    arguments = (command[0], where, *command[1:])
    first = run(*arguments)
    with corner.daemon.counting() as counts:
        assert run(*arguments) == first
    assert set(counts) <= CHEAP | set(PER_COMMAND)
    assert counts["getattr"] <= PER_COMMAND["getattr"]
    assert counts["getxattr"] <= (PER_COMMAND["getxattr"] if command[0] == "ls" else 0)
    assert counts["opendir"] == counts["releasedir"] == FOLDERS
    assert counts["readdir"] <= 2 * FOLDERS + 10


def test_the_first_look_asks_nothing_for_each_file(corner: Corner, tmp_path: Path) -> None:
    """Attributes come with the listing, and `ls` learns once that there are neither labels nor access lists."""
    corner.log(random_tree(tmp_path / "source", files=800, folders=FOLDERS - 1, seed=1), "fresh")
    with corner.daemon.counting() as counts:
        run("ls", "-lR", corner.path / "fresh" / "v0")
    assert counts["opendir"] == FOLDERS
    assert counts["lookup"] <= 3  # project, collection, version
    assert counts["getattr"] <= 3
    assert counts["getxattr"] <= 2
    assert counts["read"] == 0


READER = "import sys; print(len(open(sys.argv[1], 'rb').read()))"


def test_a_second_read_sends_no_read(corner: Corner, tmp_path: Path) -> None:
    """After reopening, and from another process."""
    corner.log(make(tmp_path / "source", {"large": os.urandom(6_000_000)}), "reading")
    path = corner.path / "reading" / "latest" / "large"
    with corner.daemon.counting() as counts:
        data = path.read_bytes()
    assert 0 < counts["read"] <= 6_000_000 / 131_072 + 1  # the first may be a smaller one
    with corner.daemon.counting() as counts:
        assert path.read_bytes() == data
        assert run(sys.executable, "-c", READER, path) == "6000000\n"
        assert run("sha256sum", "--", path) != ""
    assert counts["read"] == 0


def test_all_names_of_a_file_share_its_pages(corner: Corner) -> None:
    """What was read through an alias is there through vN, too."""
    data = (corner.path / "c" / "latest" / "large").read_bytes()
    with corner.daemon.counting() as counts:
        assert (corner.path / "c" / "v0" / "large").read_bytes() == data
    assert counts["read"] == 0


def test_a_map_of_what_was_read_sends_no_read(corner: Corner) -> None:
    path = corner.path / "c" / "v0" / "large"
    data = path.read_bytes()
    with corner.daemon.counting() as counts:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            assert view[:] == data
    assert counts["read"] == 0


def test_names_that_are_not_there_are_asked_once(corner: Corner) -> None:
    root = corner.path / "c" / "latest"
    assert not (root / "absent").exists()
    with corner.daemon.counting() as counts:
        for _ in range(100):
            assert not (root / "absent").exists()
            with pytest.raises(FileNotFoundError):
                (root / "absent").read_bytes()
    assert counts == Counter()


def test_opening_a_known_file_asks_little(corner: Corner) -> None:
    """OPEN and RELEASE; and one GETATTR after the READ that fetched it, which makes the kernel doubt the time of access."""
    path = corner.path / "c" / "latest" / "small"
    assert path.read_bytes() == b"words"
    with corner.daemon.counting() as counts:
        for _ in range(20):
            assert path.stat().st_size == 5
            assert path.read_bytes() == b"words"
    assert set(counts) <= {"open", "release", "getattr"}
    assert counts["open"] == 20
    assert counts["getattr"] <= 1


def test_xattrs_are_asked_each_time(corner: Corner) -> None:
    """They may change (tags, descriptions), and the kernel does not keep them."""
    with corner.daemon.counting() as counts:
        for _ in range(3):
            os.getxattr(corner.path / "c" / "latest", "user.artfs.version")
    assert counts["getxattr"] == 3


def test_the_counts_can_be_read_in_the_mount(corner: Corner) -> None:
    """As a person would look at them: reading the status costs a few requests of its own, never a LOOKUP of files."""
    before = corner.daemon.status_file()["requests"]
    after = corner.daemon.status_file()["requests"]
    spent = Counter(after) - Counter(before)
    assert sum(spent.values()) <= 10
    Path(corner.path / "c" / "latest" / "small").stat()
    assert os.stat(corner.mount / ".artfs" / "status").st_mode & 0o777 == 0o400


def test_absent_names_of_a_large_folder_are_asked_once(corner: Corner, tally: Tally) -> None:
    """As a program does that looks for its modules, settings and caches in each folder of a path."""
    roots = [corner.path / "c" / name for name in ("latest", "v0")]
    names = [f"absent-{number}.py" for number in range(200)]
    for root in roots:
        os.listdir(root)
    for _ in range(3):
        with corner.daemon.counting() as counts:
            for root in roots:
                for name in names:
                    assert not (root / name).exists()
        if counts:
            assert counts == {"lookup": len(roots) * len(names)}
    assert counts == Counter()
    tally("looks for what is not there", 3 * len(roots) * len(names))


STAT = "import os, sys; print(sum(1 for entry in os.scandir(sys.argv[1]) for _ in range(20) if os.stat(entry.path)))"


def test_a_storm_of_stat_on_a_listed_directory_asks_nothing(corner: Corner, tmp_path: Path, tally: Tally) -> None:
    corner.log(make(tmp_path / "source", {f"file-{number:03}": str(number) for number in range(500)}), "storm")
    root = corner.path / "storm" / "latest"
    os.listdir(root)
    with corner.daemon.counting() as counts:
        for number in range(500):
            for _ in range(10):
                os.stat(root / f"file-{number:03}")
    assert counts == Counter()
    with corner.daemon.counting() as counts:
        storm = [subprocess.Popen([sys.executable, "-c", STAT, root], stdout=subprocess.PIPE) for _ in range(4)]
        assert [process.communicate()[0] for process in storm] == [b"10000\n"] * 4
    assert set(counts) <= CHEAP | {"getattr"}
    assert counts["getattr"] <= 4  # of the directory itself
    tally("stat of listed files", 45_000)


def test_closing_asks_nothing(corner: Corner, tally: Tally) -> None:
    """A draft's file as well, also when it was written to."""
    draft = corner.begin()
    (draft / "first").write_bytes(b"")  # the one FLUSH of the mount, if nobody has closed a file yet
    with corner.daemon.counting() as counts:
        for number in range(50):
            (draft / f"file-{number}").write_bytes(b"words")
            assert (corner.path / "c" / "latest" / "small").read_bytes() == b"words"
    assert counts["flush"] == 0
    assert counts["create"] == 50
    assert corner.daemon.requests()["flush"] <= 1
    tally("files closed", 100)


FUSECTL = Path("/sys/fs/fuse/connections")


@pytest.fixture
def fusectl() -> Iterator[None]:
    """FUSE's control file system, as systemd mounts it."""
    if is_mounted(FUSECTL):
        yield
        return
    run("mount", "-t", "fusectl", "none", FUSECTL)
    yield
    run("umount", "--lazy", FUSECTL)


def test_the_status_tells_what_was_tuned(
    workspace: Workspace, make_daemon: Callable[..., Daemon], fusectl: None
) -> None:
    """And it is so."""
    daemon = make_daemon(workspace).start()
    limits = {"max_background": "64", "congestion_threshold": "48"}
    read_ahead = "4096" if workspace.server is None else "32"
    assert daemon.status_file()["tuning"] == {"read_ahead_kb": read_ahead, **limits}
    device = os.stat(daemon.mountpoint).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    assert Path(f"/sys/class/bdi/{number}/read_ahead_kb").read_text().strip() == read_ahead
    for name, value in limits.items():
        assert (FUSECTL / str(os.minor(device)) / name).read_text().strip() == value
    assert "max_background: 64" in daemon.log()


def test_what_may_not_be_tuned_is_told(
    ordinary_workspace: Workspace, make_daemon: Callable[..., Daemon], fusectl: None
) -> None:
    """An ordinary user sets the limits of a connection, but not read-ahead, and no limits above those that root allows."""
    allowed = Path("/sys/module/fuse/parameters/max_user_bgreq")
    before = allowed.read_text()
    try:
        for most, limits in (("1000", ["64", "48"]), ("20", None)):
            allowed.write_text(most)
            daemon = make_daemon(ordinary_workspace).start()
            account = ordinary_workspace.account
            shown = account.run(["cat", f"{daemon.mountpoint}/.artfs/status"])
            tuning = json.loads(shown.stdout)["tuning"]
            wish = "4096" if ordinary_workspace.server is None else "32"
            assert tuning["read_ahead_kb"] == f"128, not {wish}: Permission denied"
            if limits:
                assert [tuning["max_background"], tuning["congestion_threshold"]] == limits
            else:
                assert tuning["max_background"] == "12, not 64: Invalid argument"
            assert f"read_ahead_kb: 128, not {wish}: Permission denied" in daemon.log()
            daemon.terminate()
    finally:
        allowed.write_text(before)


def test_without_fusectl_that_is_told(workspace: Workspace, make_daemon: Callable[..., Daemon]) -> None:
    """As in this mount namespace of its own."""
    daemon = make_daemon(workspace)
    command = " ".join(map(shlex.quote, daemon.command()))
    script = f"! mountpoint -q {FUSECTL} || umount {FUSECTL}; exec {command}"
    daemon.command = lambda: ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script]  # type: ignore[method-assign]
    tuning = daemon.start().status()["tuning"]
    assert tuning["max_background"].startswith("unknown, not 64: ")
    assert "mount -t fusectl none /sys/fs/fuse/connections" in tuning["max_background"]
