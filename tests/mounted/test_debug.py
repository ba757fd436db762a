"""`artfs debug`: one archive for a bug report, whatever the daemon is doing, and no secret in any byte of it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import secrets
import signal
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from artfs.testing.mount import Daemon, Workspace


def opened(data: bytes) -> dict[str, str]:
    """The files of an archive, without the folder that they are in."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {}
        for member in tar.getmembers():
            assert member.isfile()
            assert member.mode == 0o600
            file = tar.extractfile(member)
            assert file is not None
            folder, _, name = member.name.partition("/")
            assert re.fullmatch(r"artfs-debug-\d{8}-\d{6}", folder)
            found[name] = file.read().decode()
    return found


def debug(workspace: Workspace, tmp_path: Path, **environ: str) -> tuple[bytes, str]:
    """The archive, and what the command said."""
    path = tmp_path / f"report-{secrets.token_hex(4)}.tar.gz"
    command = [workspace.account.python, "-m", "artfs.cli", "debug", "--output", path]
    done = subprocess.run(command, env={**workspace.environ, **environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Look at it before you send it" in done.stdout
    assert f"wrote {path}" in done.stdout
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_bytes(), done.stdout


def test_it_has_all_that_a_report_needs(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content that is nobody's business")
    daemon.workspace.artfs("log", tmp_path / "file", "p/c")
    (daemon.mountpoint / "p" / "c" / "latest" / "file").read_text()
    with daemon.workspace.config.open("w") as config:
        config.write("deadline_s = 17\n")
    data, said = debug(daemon.workspace, tmp_path, ARTFS_POLL_S="0.3")
    files = opened(data)
    (folder,) = {name.partition("/")[0] for name in files if name.startswith("mount-")}
    assert json.loads(files["status.json"])["mounts"][0]["daemon"]["pid"] == daemon.pid
    assert "kernel" in files["doctor.txt"]
    for part in ("python 3", "pyfuse3 ", "libfuse 3.", "trio ", "kernel Linux"):
        assert part in files["versions.txt"]
    assert f"{daemon.mountpoint} " in files["mounts.txt"]
    assert re.search(r"read_ahead_kb: \d+\n", files["mounts.txt"])
    assert f"deadline_s is 17.0 (from the config file {daemon.workspace.config})" in files["settings.txt"]
    assert "poll_s is 0.3 (from the environment, ARTFS_POLL_S)" in files["settings.txt"]
    assert "workers is 0 (from the default)" in files["settings.txt"]
    assert f"what the mount at {daemon.mountpoint} is doing: process {daemon.pid}" in files[f"{folder}/dump.txt"]
    assert re.search(r" statfs / pid=\d+ ", files[f"{folder}/accesslog.txt"])
    assert "ready: " in files[f"{folder}/output.txt"]
    assert re.search(r"(?m)^\d+ artfs-dumps|^\d+ python", files[f"{folder}/process.txt"])
    assert "nobody's business" not in gzip.decompress(data).decode(errors="replace")
    for name in files:
        assert name == "README.txt" or f"{name}  " in said
        assert name == "README.txt" or f"{name}: " in files["README.txt"]
    assert "journal" in files["README.txt"]  # had, or not and why


def test_it_works_without_a_daemon(workspace: Workspace, tmp_path: Path) -> None:
    log = workspace.settings.log_path / "0123456789abcdef.log"
    workspace.artfs("ls")
    log.write_text("what an earlier daemon said\n")
    files = opened(debug(workspace, tmp_path)[0])
    assert files["log/0123456789abcdef.log"] == "what an earlier daemon said\n"
    assert json.loads(files["status.json"])["mounts"] == []
    # Nor needs it settings that can be read, nor a file to write to.
    workspace.config.write_text("nonsense = 1\n")
    command = [workspace.account.python, "-m", "artfs.cli", "debug", "-q", "-o", "-"]
    done = subprocess.run(command, env=workspace.environ, capture_output=True)
    assert done.returncode == 0
    files = opened(done.stdout)
    assert "unknown setting 'nonsense'" in files["README.txt"]
    assert "versions.txt" in files


def test_it_works_with_a_daemon_that_hangs(workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = make_daemon(workspace).start()
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        data, said = debug(workspace, tmp_path)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    files = opened(data)
    (folder,) = {name.partition("/")[0] for name in files if name.startswith("mount-")}
    assert f"{folder}/dump.txt" not in files
    assert "wrote no dump within" in said
    assert f"{folder}/dump.txt: process {daemon.pid} wrote no dump" in files["README.txt"]
    assert "did not end within" in files["README.txt"]  # who listened to the access log
    assert re.search(r"(?m)^State:\s+T", files[f"{folder}/process.txt"])
    assert "ready: " in files[f"{folder}/output.txt"]
    assert json.loads(files["status.json"])["mounts"][0]["error"]


@pytest.mark.embedded("its settings name a proxy that leads nowhere")
def test_no_secret_is_in_it(workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """One planted wherever one may be: settings, environment, kept tokens, logs, names of files, the access log."""
    planted = {
        name: f"{name}{secrets.token_hex(12)}"
        for name in (
            "config", "kept", "proxy", "aws", "daemon", "bearer", "presigned", "cookie", "url", "older", "named", "awskey",
            "jsontoken",
        )
    }  # fmt: skip
    token = "artfs_" + secrets.token_urlsafe(32)[:43]
    workspace.config.write_text(f'token = "{planted["config"]}"\nproxy = "http://ada:{planted["proxy"]}@proxy.example:3128"\n')
    workspace.config.chmod(0o600)
    (workspace.path / "tokens.json").write_text(json.dumps({"https://artfs.example": planted["kept"]}))
    (workspace.path / "tokens.json").chmod(0o600)
    daemon = make_daemon(workspace, environ={"MY_API_TOKEN": planted["daemon"]}).start()
    presigned = f"https://b.example/k?X-Amz-Credential=x&X-Amz-Signature={planted['presigned']}"
    basic = base64.b64encode(f"ada:{planted['config']}".encode()).decode()
    lines = [
        f"Authorization: Bearer {planted['bearer']}",
        f'{{"authorization": "Basic {basic}"}}',
        f"GET {presigned} answered 403",
        f"Set-Cookie: session={planted['cookie']}; Path=/",
        f"cannot connect to postgresql://artfs:{planted['url']}@db/artfs",
        f"with {token} in the middle, and {quote(planted['kept'])}",
        f'aws_secret_access_key = "{planted["awskey"]}"',
        f'{{"access_token": "{planted["jsontoken"]}"}}',
        f"the daemon's own {planted['daemon']}, and {planted['aws']}",
    ]
    with daemon.log_path.open("a") as log:
        log.write("\n".join(lines) + "\n")
    workspace.settings.log_path.joinpath("x.log.1").write_text(f"password={planted['older']}\n" + "\n".join(lines))
    draft = daemon.mountpoint / "drafts" / "p" / "c"
    draft.mkdir(parents=True)
    name = quote(f"k?X-Amz-Signature={planted['named']}", safe="?=")
    asks = """if True:
        import itertools, os, sys, time
        for number in itertools.count():
            os.path.exists(f"{sys.argv[1]}/{number}{sys.argv[2]}")
            time.sleep(0.1)
    """
    asking = subprocess.Popen(["python3", "-S", "-c", asks, draft, name])
    try:
        data, said = debug(workspace, tmp_path, AWS_SECRET_ACCESS_KEY=planted["aws"])
    finally:
        asking.kill()
        asking.wait()
    whole = gzip.decompress(data)
    files = opened(data)
    (folder,) = {each.partition("/")[0] for each in files if each.startswith("mount-")}
    # What they were planted in is there.
    assert "X-Amz-Signature=[REDACTED]" in files[f"{folder}/accesslog.txt"]
    assert "cannot connect to postgresql://[REDACTED]@db/artfs" in files[f"{folder}/output.txt"]
    assert "password=[REDACTED]" in files["log/x.log.1"]
    assert "proxy is 'http://[REDACTED]@proxy.example:3128'" in files["settings.txt"]
    assert "token is set (from the config file" in files["settings.txt"]
    for where, secret in {**planted, "token": token}.items():
        raw = secret.encode()
        for spelled in (raw, raw[len(where) :], base64.b64encode(raw)[:16], raw.hex().encode()):
            assert spelled not in whole, where
            assert spelled.decode() not in said, where


def test_it_replaces_nothing(workspace: Workspace, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    done = workspace.artfs("debug", "-o", there, check=False)
    assert done.returncode == 4
    assert there.read_text() == "mine"


@pytest.mark.parametrize("way", ["defect", "silence"])
def test_what_cannot_be_had_costs_only_itself(way: str) -> None:
    import time

    from artfs.cli.debugging import Item, archive, gather
    from artfs.cli.redact import Redactor

    def bad() -> str:
        if way == "silence":
            time.sleep(1000)
        raise ZeroDivisionError("token=q1w2e3r4")

    gathered = gather([Item("bad", bad), Item("good", lambda: "text")], Redactor([]), lambda name: None, 0.2)
    assert gathered.files == [("good", "text")]
    files = opened(archive(gathered, "artfs-debug-20260101-000000"))
    assert ("no answer within 0.2 s" if way == "silence" else "a defect of artfs debug") in files["README.txt"]
    assert "q1w2e3r4" not in files["README.txt"]
