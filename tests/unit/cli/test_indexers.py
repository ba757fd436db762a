"""updatedb's configuration, and the command that mends it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from artfs.cli.indexers import check_updatedb

DEBIAN = """PRUNE_BIND_MOUNTS="yes"
# PRUNENAMES=".git .bzr .hg .svn"
PRUNEPATHS="/tmp /var/spool /media"
PRUNEFS="NFS afs autofs binfmt_misc fuse.glusterfs fuse.sshfs proc sysfs"
"""


OTHERS = ['PRUNEFS = "nfs"\n', '  PRUNEFS= ""\n', "", '# PRUNEFS = "fuse.artfs"\n', 'PRUNEFS = "fuse.artfsx"\n']


@pytest.mark.parametrize("text", [DEBIAN, *OTHERS])
def test_what_it_says_to_type_mends_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "updatedb.conf"
    path.write_text(text)
    check = check_updatedb(path)
    assert check.status == "warn"
    subprocess.run(["sh", "-c", check.fix.replace("sudo ", "")], check=True, stdout=subprocess.DEVNULL)
    assert check_updatedb(path).status == "ok"
    assert set(path.read_text().replace('"', " ").split()) >= set(text.replace('"', " ").split())


@pytest.mark.parametrize("text", ['PRUNEFS="nfs fuse.artfs proc"\n', 'PRUNEFS = "FUSE.ARTFS"\n'])
def test_what_is_told_already(tmp_path: Path, text: str) -> None:
    path = tmp_path / "updatedb.conf"
    path.write_text(text)
    assert check_updatedb(path).status == "ok"
    assert check_updatedb(tmp_path / "none").status == "ok"
