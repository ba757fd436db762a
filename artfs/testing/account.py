"""Running things as an ordinary user, from tests that run as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The checkout (or the site-packages folder) that these tests run from."""

FUSE_DEVICE = Path("/dev/fuse")


@dataclass(frozen=True)
class Account:
    """Who runs a program, and with which interpreter.

    Attributes:
        uid, gid: the numbers to change to; None keeps this process's own.
        python: an interpreter which that user may execute.
        environ: added to the environment of whatever is run.
    """

    uid: int | None = None
    gid: int | None = None
    python: str = sys.executable
    environ: Mapping[str, str] = field(default_factory=dict)

    def popen_arguments(self) -> dict[str, Any]:
        """For subprocess: the change of user, with no supplementary groups and so no capability left."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def run(self, command: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs `command` as this user (subprocess.run; output is captured as text, in the C locale, from `/`).

        `env` in `options` takes the place of this process's environment, below what `environ` adds.
        """
        environ = {**options.pop("env", os.environ), "LC_ALL": "C.UTF-8", **self.environ}
        defaults: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120, "check": False, "cwd": "/"}
        return subprocess.run(command, env=environ, **{**defaults, **self.popen_arguments(), **options})

    def own(self, path: Path) -> None:
        """Gives `path` (not what is below) to this user, mode 0700."""
        path.chmod(0o700)
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def open_fuse_device() -> None:
    """Lets everybody open /dev/fuse, as udev's rule does on a real machine; a bare one leaves it to root alone."""
    mode = stat.S_IMODE(FUSE_DEVICE.stat().st_mode)
    if os.geteuid() == 0 and mode & 0o666 != 0o666:
        FUSE_DEVICE.chmod(0o666)


@contextlib.contextmanager
def ordinary_account(name: str = "nobody") -> Iterator[Account]:
    """An account without any privilege that can run this very interpreter and these packages.

    Somebody who is no root already is yielded as is. Otherwise the account `name` is used. A checkout below a folder
    that only root may enter (root's home, a `mktemp -d`) is shown to it through a bind mount, which is gone
    afterwards. Raises AssertionError when the interpreter itself cannot be executed by others.
    """
    open_fuse_device()
    if os.geteuid() != 0:
        yield Account()
        return
    person = pwd.getpwnam(name)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="artfs-account-", dir="/tmp")))
        folder.chmod(0o755)
        home = folder / "home"
        home.mkdir()
        os.chown(home, person.pw_uid, person.pw_gid)
        view = ROOT
        if not _may_enter(ROOT, person.pw_uid, person.pw_gid):
            view = folder / "checkout"
            for part in (ROOT / "artfs", ROOT / "daemon", Path(sys.prefix)):
                if part.is_relative_to(ROOT):
                    _bind(part, view / part.relative_to(ROOT), stack)
        python = Path(sys.executable)
        if python.is_relative_to(ROOT):
            python = view / python.relative_to(ROOT)
        account = Account(
            uid=person.pw_uid,
            gid=person.pw_gid,
            python=str(python),
            environ={
                "HOME": str(home),
                "USER": name,
                "PYTHONPATH": f"{view}:{view / 'daemon'}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
            },
        )
        try:
            trial = account.run([account.python, "-c", "import artfs, artfsd, msgspec, pyfuse3"])
            reason = trial.stderr
        except PermissionError as error:
            reason = str(error)
        if reason:
            raise AssertionError(
                f"an ordinary user cannot run {python}: {reason.strip()}\n"
                "Run the tests in the environment that `make setup` makes from /usr/bin/python3."
            )
        yield account


def _bind(source: Path, target: Path, stack: contextlib.ExitStack) -> None:
    """Shows `source` at `target` until `stack` is left. The parts, not the checkout, whose own mode may be 0700."""
    target.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
    stack.callback(subprocess.run, ["umount", "--lazy", str(target)], check=True)


def _may_enter(path: Path, uid: int, gid: int) -> bool:
    test = shutil.which("test") or "/usr/bin/test"
    return subprocess.run([test, "-x", str(path)], user=uid, group=gid, extra_groups=[], check=False).returncode == 0
