"""A systemd user manager of an account without privileges, to try units as they are run.

It needs root (to make a control group and a mount namespace), but no systemd as init. Everything that it starts is in a
control group and a mount namespace of its own, so neither its services nor its mounts are seen outside.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from artfs.testing.account import Account

START_TIMEOUT_S = 30.0

_CGROUPS = Path("/sys/fs/cgroup")

# $1: the shell's own folders of control groups, one a line; the rest: what to run as the user.
_ENTER = """
set -eu
mount -t tmpfs tmpfs /run/systemd
chmod 755 /run/systemd
mkdir /run/systemd/system
for group in $1; do echo $$ > "$group/cgroup.procs"; done
shift
exec "$@"
"""


class UserManager:
    """`systemd --user` of `account`, running from `__enter__` to `__exit__`.

    Arguments:
        units: file name to text, as in ~/.config/systemd/user ("artfs.service", "artfs.service.d/test.conf").
    """

    def __init__(self, account: Account, units: Mapping[str, str]) -> None:
        assert account.uid is not None, "a user manager for tests needs root, and an account to change to"
        self.account = account
        self._stack = contextlib.ExitStack()
        self.path = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="artfs-", dir="/tmp")))
        self.path.chmod(0o755)
        for name, text in units.items():
            unit = self.path / "config" / "systemd" / "user" / name
            unit.parent.mkdir(parents=True, exist_ok=True)
            unit.write_text(text)
        (self.path / "run").mkdir()
        account.own(self.path / "run")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _environ(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": self.account.environ["HOME"],
            "XDG_RUNTIME_DIR": str(self.path / "run"),
            "XDG_CONFIG_HOME": str(self.path / "config"),
        }

    def _as_user(self, command: Sequence[str]) -> list[str]:
        account = self.account
        return ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--", *command]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs `command` as the user, where the manager's mounts are seen."""
        assert self._process is not None
        inside = ["nsenter", f"--target={self._process.pid}", "--mount", "--root", "--", *self._as_user(command)]
        return subprocess.run(inside, env=self._environ, cwd="/", capture_output=True, text=True, timeout=120)

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`systemctl --user ARGUMENTS`."""
        return self.run("systemctl", "--user", *arguments)

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """What `systemctl show` says of `unit`."""
        shown = self.systemctl("show", unit, *(f"--property={name}" for name in names)).stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def log(self) -> str:
        """What the manager and its services wrote."""
        return (self.path / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.push(self._stack)
            groups = [self._make_group(root) for root in self._group_roots()]
            enter = ["unshare", "--mount", "--propagation=slave", "--", "sh", "-c", _ENTER, "sh", "\n".join(groups)]
            manager = ["/lib/systemd/systemd", "--user", "--log-target=console", "--log-level=notice"]
            log = self._stack.enter_context((self.path / "log").open("ab"))
            self._process = subprocess.Popen(
                [*enter, *self._as_user(manager)], env=self._environ, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            self._stack.callback(self._end)
            deadline = time.monotonic() + START_TIMEOUT_S
            while not (self.path / "run" / "systemd" / "private").exists():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"no user manager came up:\n{self.log()}")
                time.sleep(0.02)
            undo.pop_all()
        return self

    def _group_roots(self) -> list[Path]:
        """Where systemd looks for its control groups: version 2, or both of a hybrid set-up."""
        hybrid = [path for path in (_CGROUPS / "unified", _CGROUPS / "systemd") if path.is_dir()]
        return hybrid or [_CGROUPS]

    def _make_group(self, root: Path) -> str:
        """A control group of the user's own below the one that this process is in."""
        name = "name=systemd" if root.name == "systemd" else ""
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        current = next(path for _, controllers, path in lines if controllers == name)
        group = root / current.lstrip("/") / self.path.name
        group.mkdir()
        self._stack.callback(_remove_group, group)
        for path in (group, *group.iterdir()):
            os.chown(path, self.account.uid or 0, self.account.gid or 0)
        return str(group)

    def _end(self) -> None:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.systemctl("exit")
            self._process.wait(START_TIMEOUT_S)
        self._process.kill()
        self._process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _remove_group(group: Path) -> None:
    """Ends whatever is left in a control group and removes it with all below."""
    deadline = time.monotonic() + START_TIMEOUT_S
    for folder in sorted((path for path in (group, *group.rglob("*")) if path.is_dir()), reverse=True):
        while members := (folder / "cgroup.procs").read_text().split():
            assert time.monotonic() < deadline, f"{folder} still has processes {members}"
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
            time.sleep(0.02)
        folder.rmdir()

