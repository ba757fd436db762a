"""`mount.artfs`: what mount(8) runs for a file system of type artfs, so that a line in /etc/fstab works:

    artfs  /srv/data  artfs  home=/var/lib/artfs,allow_other,nofail,_netdev  0  0

mount(8) looks for it in /sbin only; `ln -s "$(command -v mount.artfs)" /sbin/` puts it there. The daemon is started as
`artfs mount` starts it, and this returns when the mount answers. The first field of the line is only a label.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

from artfs.cli.mounting import MountOptions, start_daemon, unmount
from artfs.errors import ArtfsError, ConflictError, MountpointError, UnavailableError, UsageError
from artfs.settings import load_settings

USAGE = "usage: mount.artfs SOURCE DIRECTORY [-sfnv] [-o home=DIR,entity=NAME,allow_other,…]"

OK = 0
BAD_USAGE = 1
SYSTEM_ERROR = 2
INTERRUPTED = 8
MOUNT_FAILED = 32
"""Exit codes of mount(8), section EXIT STATUS."""

OPTIONS = ("home=DIR", "entity=NAME", "aliases=directories|symlinks", "log_level=LEVEL", "allow_other")
"""Options of our own, for messages."""

LOG_LEVELS = ("debug", "info", "warning", "error")

FLAGS = frozenset({"ro", "noexec", "noatime", "nodiratime"})
"""Options that the kernel enforces for one mount, whatever is mounted; only root may set them, on a finished mount."""

_ALREADY_SO = frozenset(
    # What every FUSE mount is without being asked, or what asks for nothing.
    "defaults rw exec async nosuid nodev atime diratime relatime norelatime nostrictatime nolazytime loud".split()
    # For mount(8) and systemd, which may pass them on.
    + "auto noauto user users nouser owner noowner group nogroup nofail fail _netdev".split()
)
_ALREADY_SO_PREFIXES = ("x-", "X-", "user=", "uhelper=", "comment=", "helper=")


@dataclass(frozen=True, slots=True)
class MountRequest:
    """A parsed command line.

    Attributes:
        mountpoint: as given.
        home, entity: None leaves the setting's own default.
        flags: of FLAGS, sorted.
        is_fake: check everything, mount nothing (`-f`).
        is_verbose: say what is done (`-v`).
    """

    mountpoint: Path
    home: str | None = None
    entity: str | None = None
    options: MountOptions = field(default_factory=MountOptions)
    flags: tuple[str, ...] = ()
    is_fake: bool = False
    is_verbose: bool = False


def parse(arguments: Sequence[str]) -> MountRequest:
    """What mount(8) asks for with `SOURCE DIRECTORY [-sfnvrw] [-N namespace] [-o options] [-t type]`.

    Options may stand before, between or after the two names. Raises UsageError for what is unknown (an unknown `-o`
    word is let pass with `-s`) or cannot be had.
    """
    names: list[str] = []
    switches: set[str] = set()
    texts: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            names.append(word)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in "oNt":
                if not letters and not rest:
                    raise UsageError(f"-{letter} needs a value; {USAGE}")
                value, letters = letters or rest.pop(0), ""
                if letter == "o":
                    texts.append(value)
                elif letter == "N":
                    raise UsageError("mounting in another namespace (-N) is not supported; use nsenter(1)")
            elif letter in "sfnvrw":
                switches.add(letter)
            else:
                raise UsageError(f"unknown option -{letter}; {USAGE}")
    if len(names) != 2:
        raise UsageError(USAGE)
    if "r" in switches:
        texts.append("ro")
    words = [word for text in texts for word in split_options(text)]
    return _with_options(MountRequest(Path(names[1])), words, switches)


def split_options(text: str) -> list[str]:
    """The words of a comma-separated option string; a value in double quotes may hold commas, and loses its quotes."""
    if text.count('"') % 2:
        raise UsageError(f"a quote is not closed in the options {text}")
    words = re.findall(r'(?:[^,"]|"[^"]*")+', text)
    return [word.replace('"', "") for word in words]


def _with_options(request: MountRequest, words: Sequence[str], switches: set[str]) -> MountRequest:
    values: dict[str, str] = {}
    flags: set[str] = set()
    allow_other = False
    aliases: Literal["directories", "symlinks"] = "directories"
    for word in words:
        key, _, value = word.partition("=")
        if key in ("home", "entity", "aliases", "log_level"):
            if not value:
                raise UsageError(f"the option {key} needs a value: {key}=…")
            values[key] = value
        elif word == "allow_other":
            allow_other = True
        elif word in FLAGS:
            flags.add(word)
        elif word == "rw":
            flags.discard("ro")
        elif word == "exec":
            flags.discard("noexec")
        elif word in ("suid", "dev"):
            raise UsageError(f"the option {word} cannot be had: a FUSE mount is always nosuid and nodev")
        elif word == "remount":
            raise UsageError("remounting is not supported; unmount it and mount it again")
        elif word not in _ALREADY_SO and not word.startswith(_ALREADY_SO_PREFIXES) and "s" not in switches:
            raise UsageError(f"unknown option {word}; artfs knows {', '.join(OPTIONS)}, and mount's general ones")
    if not Path(values.get("home", "/")).is_absolute():
        raise UsageError(f"home={values['home']} must be an absolute path")
    match values.get("aliases", "directories"):
        case "directories" | "symlinks" as chosen:
            aliases = chosen
        case other:
            raise UsageError(f"aliases={other}: must be directories or symlinks")
    level = values.get("log_level")
    if level is not None and level not in LOG_LEVELS:
        raise UsageError(f"log_level={level}: must be one of {', '.join(LOG_LEVELS)}")
    return MountRequest(
        mountpoint=request.mountpoint,
        home=values.get("home"),
        entity=values.get("entity"),
        options=MountOptions(allow_other=allow_other, aliases=aliases, log_level=level),
        flags=tuple(sorted(flags)),
        is_fake="f" in switches,
        is_verbose="v" in switches,
    )


def mount(request: MountRequest) -> None:
    """Does it, and returns when the mount answers with all its flags. On an error nothing is left mounted."""
    if "ro" in request.flags and os.geteuid() != 0:
        raise UsageError("only root can mount artfs with `ro` (versions are read-only without it; drafts are not)")
    settings = load_settings(home=request.home, entity=request.entity)

    def note(text: str) -> None:
        if request.is_verbose:
            print(f"mount.artfs: {text}")

    note(f"mounting the catalog in {settings.home} at {request.mountpoint}")
    if request.is_fake:
        return
    record = start_daemon(settings, request.mountpoint, request.options, on_note=note)
    # The flags that `user` implies cannot be set by that user, who could do without them through fusermount3 anyway.
    if request.flags and os.geteuid() == 0:
        try:
            _set_flags(record.mountpoint, request.flags)
        except BaseException:
            unmount(settings, record.mountpoint, lazy=True)
            raise
    note(f"{record.mountpoint} is served by process {record.pid}")


def _set_flags(mountpoint: str, flags: Sequence[str]) -> None:
    options = ",".join(("remount", "bind", "nosuid", "nodev", *flags))
    done = subprocess.run(
        ["mount", "--no-mtab", "-o", options, mountpoint], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise UnavailableError(f"cannot set {','.join(flags)} on {mountpoint}: {done.stderr.strip()}")


def exit_code(error: ArtfsError) -> int:
    """mount(8)'s exit code for `error`."""
    if isinstance(error, MountpointError | ConflictError | UnavailableError):
        return MOUNT_FAILED
    return BAD_USAGE if isinstance(error, UsageError) else SYSTEM_ERROR


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns the exit code; what is wrong is one line on standard error."""
    try:
        mount(parse(arguments))
    except ArtfsError as error:
        print(f"mount.artfs: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        print("mount.artfs: interrupted", file=sys.stderr)
        return INTERRUPTED
    return OK


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
