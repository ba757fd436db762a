"""`make bench`: every measurement, one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    for name in ("ingest.py", "api.py", "mount.py"):
        print(f"\n══ {name}", flush=True)
        subprocess.run([sys.executable, Path(__file__).parent / name, *sys.argv[1:]], check=True)
