"""The daemon's log: each line about a request has its number, and under systemd each has its level."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.testing.mount import Daemon, Workspace, read_what_is_there

PATIENCE_S = 30.0


class JournalDaemon(Daemon):
    """One whose standard error is the journal, by what its environment says."""

    def _spawn(self, environ: dict[str, str]) -> None:
        status = self.log_path.stat()
        super()._spawn({**environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})


def test_each_line_for_the_journal_has_its_level(workspace: Workspace) -> None:
    daemon = JournalDaemon(workspace)
    daemon.expect_log("stuck")
    with daemon:
        os.kill(daemon.pid, signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE_S
        while "---- end of" not in daemon.log():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    lines = daemon.log().splitlines()
    assert [line for line in lines if not re.match(r"<[3-7]>", line)] == []
    assert f"<6>INFO artfsd.ready: ready: {workspace.mountpoint} shows {workspace.home}" in lines  # and no time


@pytest.mark.embedded("damages a blob of the store")
def test_lines_about_a_request_have_its_number(
    workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """The same number that the access log has, also when others came while it waited."""
    (tmp_path / "file").write_bytes(os.urandom(3_000_000))
    workspace.artfs("log", tmp_path / "file", "p/c")
    largest = max(workspace.blobs_path.glob("*/*"), key=lambda path: path.stat().st_size)
    largest.chmod(0o644)
    with largest.open("r+b") as blob:
        blob.seek(1_500_000)
        blob.write(bytes(4096))
    daemon = make_daemon(workspace).start()
    daemon.expect_log("damaged")
    log = os.open(daemon.mountpoint / ".artfs" / "accesslog", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="Input/output error"):
            (daemon.mountpoint / "p" / "c" / "v0" / "file").read_bytes()
        told = read_what_is_there(log)
    finally:
        os.close(log)
    failed = set(re.findall(r"(?m)^\S+ (\d+) read local/p/c:v0/file \S+ .* EIO ", told.decode()))
    assert failed
    assert set(re.findall(r"request (\d+) \(read ", daemon.log())) <= failed
    numbered = set(re.findall(r"\[request (\d+) read\] .* is damaged", daemon.log()))
    assert numbered
    assert numbered <= failed
