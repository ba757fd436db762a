"""Whether programs that go through the whole machine are told to leave mounts of artfs alone."""

from __future__ import annotations

import re
from pathlib import Path

from artfs.cli.finding import Check

UPDATEDB_CONF = Path("/etc/updatedb.conf")
FSTYPE = "fuse.artfs"


def check_updatedb(path: Path = UPDATEDB_CONF) -> Check:
    """locate's updatedb reads no file, but lists every directory, and so has the trees of all versions fetched."""
    name = "updatedb"
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return Check(name, "ok", f"there is no {path}")
    # The last one counts.
    pruned = re.findall(r"^[ \t]*PRUNEFS[ \t]*=[ \t]*\"([^\"\n]*)\"", text, re.MULTILINE)
    if pruned and FSTYPE in pruned[-1].lower().split():
        return Check(name, "ok", f"{path} leaves mounts of artfs out")
    fix = f"sudo sed -i 's/^[ \\t]*PRUNEFS[ \\t]*=[ \\t]*\"/&{FSTYPE} /' {path}" if pruned else (
        f"echo 'PRUNEFS = \"{FSTYPE}\"' | sudo tee -a {path}"
    )  # fmt: skip
    return Check(name, "warn", f"{path} has updatedb list every version of a mount that root may enter", fix)
