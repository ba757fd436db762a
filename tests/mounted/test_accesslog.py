"""MOUNT/.artfs/accesslog: whoever reads it sees requests as they are answered, and can hold up nobody."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.mount import Daemon, Workspace, read_what_is_there

PATIENCE_S = 30.0
"""Far above what is needed; only a failure meets it."""

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (?P<number>\d+) (?P<op>\w+) (?P<what>.+) "
    r"pid=(?P<pid>\d+|-) uid=(?P<uid>\d+|-) (?P<result>OK(?:=\d+)?|E[A-Z]+) (?P<took>\d+\.\d{6})"
)


@pytest.fixture
def log(daemon: Daemon) -> Path:
    return daemon.mountpoint / ".artfs" / "accesslog"


@contextlib.contextmanager
def reading(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that reads it, running, with its output in a pipe that does not block."""
    with subprocess.Popen([*command, str(log)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        os.set_blocking(child.stdout.fileno(), False)
        try:
            yield child
        finally:
            child.kill()


def told(child: subprocess.Popen[bytes], act: Callable[[], object], pattern: str, so_far: str = "") -> str:
    """What the reader printed until `pattern` is in it; `act` is done again and again meanwhile: when the reader has opened the
    file is its own business."""
    assert child.stdout is not None
    text, until = so_far, time.monotonic() + PATIENCE_S
    while not re.search(pattern, text):
        assert time.monotonic() < until, f"{pattern} is not in:\n{text}"
        act()
        text += (child.stdout.read() or b"").decode()
        time.sleep(0.01)
    return text


def probe(daemon: Daemon, name: str) -> Callable[[], object]:
    return lambda: os.path.exists(daemon.mountpoint / ".artfs" / name)


PROGRAMS = [
    ["cat"], ["tail", "-f", "-s", "0.1"], ["grep", "--line-buffered", ""], ["sh", "-c", 'exec dd status=none bs=64k < "$0"'],
]  # fmt: skip


@pytest.mark.parametrize("command", PROGRAMS, ids=["cat", "tail", "grep", "dd"])
def test_programs_show_requests_as_they_happen(daemon: Daemon, log: Path, command: list[str]) -> None:
    with reading(log, *command) as child:
        text = told(child, probe(daemon, "first"), r" lookup \.artfs first .*\n")
        # Much longer than one read waits (the reader was interrupted meanwhile), and it goes on.
        time.sleep(1.5)
        assert child.poll() is None, (child.stdout.read() if child.stdout else b"")
        text = told(child, probe(daemon, "second"), r" lookup \.artfs second .*\n", text)
    for line in text[: text.rindex("\n")].split("\n"):
        assert LINE.fullmatch(line), line
    found = [LINE.fullmatch(line) for line in text.splitlines() if " first " in line]
    assert found[0] is not None
    assert (found[0]["pid"], found[0]["uid"], found[0]["result"]) == (str(os.getpid()), str(os.getuid()), "ENOENT")
    numbers = [int(line.split()[1]) for line in text.splitlines() if " lookup " in line]
    assert numbers == sorted(numbers)


def test_what_lines_say(daemon: Daemon, log: Path, tmp_path: Path) -> None:
    """Paths, names with spaces, sizes, errors; and neither the log's own requests nor people's data."""
    (tmp_path / "with space\n").write_text("x" * 5000)
    daemon.workspace.artfs("log", tmp_path, "p/c")
    top = daemon.mountpoint
    with reading(log, "cat") as child:
        text = told(child, probe(daemon, "begin"), r" begin ")
        (top / "drafts/p/d").mkdir(parents=True)
        with open(top / "drafts/p/d/file", "wb") as file:
            file.write(b"secret content")
        os.rename(top / "drafts/p/d/file", top / "drafts/p/d/other")
        os.setxattr(top / "drafts/p/d", "user.artfs.description", b"secret text")
        (top / "p/c/v0/with space\n").read_text()
        with pytest.raises(OSError, match="Read-only"):
            os.unlink(top / "p/c/v0/with space\n")
        text = told(child, probe(daemon, "end"), r" end .*\n", text)
    assert " mkdir drafts/p d pid=" in text
    assert " create drafts/p/d file pid=" in text
    assert re.search(r" write drafts/p/d/file 14@0 pid=- uid=- OK ", text)
    assert re.search(r" rename drafts/p/d file #\d+ other pid=", text)
    assert " setxattr drafts/p/d user.artfs.description pid=" in text
    assert re.search(r" read local/p/c:v0/with\\040space\\012 \d+@0 pid=- uid=- OK=5000 ", text)
    assert re.search(r" unlink local/p/c:v0 with\\040space\\012 pid=\d+ uid=\d+ EROFS ", text)
    assert "secret" not in text
    assert "accesslog" not in text.replace(" lookup .artfs accesslog ", "")


def test_readers_that_are_killed_hold_up_nobody(daemon: Daemon, log: Path) -> None:
    for number in range(2):
        with reading(log, "cat") as one, reading(log, "cat") as two:
            text = told(one, probe(daemon, f"n{number}"), rf" n{number} ")
            assert re.search(rf" n{number} ", told(two, probe(daemon, f"n{number}"), rf" n{number} "))
            assert text
            one.send_signal(signal.SIGKILL)
            assert one.wait(PATIENCE_S) == -signal.SIGKILL
            told(two, probe(daemon, f"m{number}"), rf" m{number} ")
    assert daemon.status_file()["handles"]["files"] <= 1  # what shows it


def test_readers_leave_workers_for_others(daemon: Daemon, log: Path) -> None:
    """Only so many may wait, and of one descriptor only one at a time."""
    descriptors = []
    with pytest.raises(OSError, match="busy") as raised:
        for _ in range(1000):
            descriptors.append(os.open(log, os.O_RDONLY))
    assert raised.value.errno == errno.EBUSY
    assert len(descriptors) == 8
    command = ["sh", "-c", 'for n in $(seq 100); do dd bs=1 count=1 status=none <&0 & done; wait']
    with subprocess.Popen(command, stdin=descriptors[0], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as many:
        for number in range(50):
            assert not os.path.exists(daemon.mountpoint / ".artfs" / f"n{number}")
        many.kill()
    for descriptor in descriptors:
        os.close(descriptor)
    os.close(os.open(log, os.O_RDONLY))  # there is room again, as soon as they are closed


def test_nothing_that_waits_is_eagain_for_who_asks_so(daemon: Daemon, log: Path) -> None:
    descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while os.read(descriptor, 65536):
                pass
        with pytest.raises(BlockingIOError):
            os.read(descriptor, 1)
        probe(daemon, "seen")()
        assert b" lookup .artfs seen " in os.read(descriptor, 65536)
    finally:
        os.close(descriptor)


def test_who_reads_too_slowly_is_told_how_much_is_missing(daemon: Daemon, log: Path) -> None:
    """And costs the daemon no more than a bounded piece of memory."""
    descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        before = daemon.requests()["lookup"]
        while daemon.requests()["lookup"] - before < 6_000:
            for number in range(1000):
                os.path.exists(daemon.mountpoint / ".artfs" / f"{number:0200d}")
        asked = daemon.requests()["lookup"] - before
        data = read_what_is_there(descriptor)
    finally:
        os.close(descriptor)
    lines = data.decode().splitlines()
    (note,) = [line for line in lines if line.startswith("#")]
    assert lines[-1] == note
    missing = int(re.fullmatch(r"# (\d+) lines are missing here: .*", note)[1])  # type: ignore[index]
    assert sum(" lookup " in line for line in lines) + missing >= asked > missing > 0
    assert len(data) < 1.1 * (1 << 20)


def test_it_can_be_neither_written_nor_read_by_others(make_daemon: Callable[..., Daemon], workspace: Workspace) -> None:
    daemon = make_daemon(workspace, ["--allow-other"]).start()
    log = daemon.mountpoint / ".artfs" / "accesslog"
    assert log.stat().st_mode & 0o777 == 0o400
    with pytest.raises(OSError, match="Read-only"):
        os.open(log, os.O_WRONLY)
    as_other = {"user": 65534, "group": 65534, "extra_groups": [], "capture_output": True, "text": True}
    seen = subprocess.run(["ls", str(daemon.mountpoint)], **as_other)  # type: ignore[call-overload]
    assert seen.returncode == 0
    refused = subprocess.run(["cat", str(log)], **as_other)  # type: ignore[call-overload]
    assert refused.returncode != 0
    assert os.strerror(errno.EACCES) in refused.stderr


def test_nothing_is_made_while_nobody_reads(daemon: Daemon, log: Path) -> None:
    size = log.stat().st_size
    for number in range(50):
        probe(daemon, f"n{number}")()
    assert log.stat().st_size == size
    with reading(log, "cat") as child:
        told(child, probe(daemon, "x"), " x ")
    assert log.stat().st_size > size
    size = log.stat().st_size
    deadline = time.monotonic() + PATIENCE_S
    while True:  # RELEASE follows close() with a delay of its own
        probe(daemon, "y")()
        if (now := log.stat().st_size) == size:
            break
        assert time.monotonic() < deadline
        size = now


def test_who_looks_at_its_end_is_not_made_to_wait(daemon: Daemon, log: Path) -> None:
    """As `tail` without -f, and the first look of `tail -f`."""
    assert subprocess.run(["tail", "-n", "3", log], timeout=PATIENCE_S).returncode == 0
