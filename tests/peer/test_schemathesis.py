"""Every call with whatever its description allows, and with what it does not, from a program that the authors of artfs did not
write: nothing is a 500, and nothing is answered otherwise than described."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from artfs.client.catalog import RemoteCatalog
from artfs.client.http import Http
from artfs.testing.account import ROOT
from artfs.testing.sending import logged
from artfs.testing.serving import artfs_serve

E, P = "team", "vision"
SECONDS = 45

# It knows no frames, and takes them for bytes.
HOOKS = """
import schemathesis
schemathesis.serializer.alias("application/vnd.artfs.frames", "application/octet-stream")
"""

# Names have rules that a schema would not tell better than docs/cli.md: what breaks them is refused, and rightly so.
NOT_CHECKED = "positive_data_acceptance"
# A stream without an end, one that waits for bytes which nobody sends, the end of the token that the tests come with, and a
# quota: what does not fit it is answered with 507, as it is meant to be, which counts as a fault of the server here.
NOT_CALLED = ("events", "finish_upload", "revoke_token", "set_quota")


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path / "home")]
    hooks = tmp_path / "hooks.py"
    hooks.write_text(HOOKS)
    program = str(Path(sys.executable).with_name("schemathesis"))
    made = subprocess.run(
        [sys.executable, "-m", "artfs.cli", *home, "-q", "token", "create", "root", "--admin"], cwd=ROOT, check=True,
        capture_output=True, text=True,
    )
    token = made.stdout.strip()
    with artfs_serve(*home, "--no-access-log") as server:
        with RemoteCatalog(Http(server.url, token)) as catalog:
            members = [logged(catalog, number, E, P) for number in range(3)]
            catalog.link(members[0].version.id, E, P, "links")
            catalog.record_use(catalog.create_run(E, P).id, members[0].version.id)
        done = subprocess.run(
            [
                program, "run", f"{server.url}/v1/openapi.json", "--header", f"Authorization: Bearer {token}", "--checks", "all",
                "--exclude-checks", NOT_CHECKED, "--max-time", str(SECONDS), "--request-timeout", "20", "--no-color",
                "--generation-database", "none", "--seed", "1",
                *(word for name in NOT_CALLED for word in ("--exclude-operation-id", name)),
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
            env={**os.environ, "PYTHONWARNINGS": "default", "SCHEMATHESIS_HOOKS": str(hooks)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert " 0 passed" not in done.stdout
        assert "a defect of the server" not in server.log
