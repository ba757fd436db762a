"""`artfsd MOUNTPOINT`: serves the state folder's catalog as a file system, in the foreground.

`artfs mount` starts it in the background; systemd starts it as it is.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from artfs.errors import ArtfsError
from artfs.settings import load_settings
from artfs.stacks import hold_signal
from artfsd import logs
from artfsd.firewall import HANDLER_CODE
from artfsd.ready import watchdog_period
from artfsd.run import MountOptions, serve


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="artfsd", description="Serve artifacts as a file system (in the foreground).")
    made.add_argument("mountpoint", help="an empty directory of yours")
    made.add_argument("--home", type=Path, help="state folder (default: ARTFS_HOME or ~/.local/share/artfs)")
    made.add_argument("--entity", help="whose projects stand at the root of the mount")
    made.add_argument("--foreground", action="store_true", help="stay attached (the default; accepted for symmetry)")
    made.add_argument("--allow-other", action="store_true", help="let other users in")
    made.add_argument("--aliases", choices=("directories", "symlinks"), default="directories", help="how aliases show")
    made.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 after a clean end, 2 for bad usage, 1 for anything that went wrong."""
    args = parser().parse_args(argv)
    hold_signal()
    prefix = logs.set_up(args.log_level.upper(), os.environ, HANDLER_CODE)
    try:
        settings = load_settings(home=args.home, entity=args.entity)
        serve(
            settings,
            MountOptions(
                mountpoint=args.mountpoint,
                allow_other=args.allow_other,
                symlinked_aliases=args.aliases == "symlinks",
                notify_socket=os.environ.get("NOTIFY_SOCKET"),
                watchdog_s=watchdog_period(os.environ),
                line_prefix=prefix,
            ),
        )
    except ArtfsError as error:
        print(f"artfsd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
