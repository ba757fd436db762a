"""What the measurements share: the machine's facts, timing, and a record of every number with what was asked for."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def machine(work: Path) -> dict[str, Any]:
    """What a reader of the numbers must know of this machine and of who else uses it now."""
    table = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in table.splitlines() if "model name" in line), "unknown")
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    device = subprocess.run(
        ["df", "--output=source,fstype,avail", "-BG", work], capture_output=True, text=True, check=True
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "cpus": f"{len(os.sched_getaffinity(0))} × {model}",
        "memory": f"{int(memory.split()[1]) / 1e6:.1f} GB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "disk": " ".join(device.stdout.splitlines()[-1].split()),
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        ).stdout.strip(),
    }


def timed(*command: str | os.PathLike[str]) -> float:
    """Runs `command`, which must succeed; its output is thrown away. Seconds."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def drop_caches(which: int) -> None:
    """1: the pages of files, 2: inodes and names (see proc_sys_vm(5)). Needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text(str(which))


def warm(source: Path) -> None:
    """Reads everything once, so that all compete with their input in memory."""
    subprocess.run(["tar", "-cf", "-", source], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def process_cpu_s(pid: int) -> float:
    """CPU time that a process has used so far, its threads included, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Record:
    """Everything that was measured. `say` prints a line at once; `write` leaves all of it as JSON."""

    facts: dict[str, Any]
    results: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def begin(cls, work: Path) -> Record:
        made = cls(machine(work))
        for name, value in made.facts.items():
            print(f"{name:8} {value}")
        print(flush=True)
        return made

    def ratio(
        self, name: str, ours: list[float], theirs: list[float], *, limit: float | None = None, unit: str = "s", note: str = ""
    ) -> None:
        """Two series of one run, taken in turn. The ratio is that of their medians; beside it the smallest and the largest of
        a pair. `limit`: what was asked for."""
        value = statistics.median(ours) / statistics.median(theirs)
        pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
        asked = f", asked for ≤ {limit:g}: {'met' if value <= limit else 'NOT MET'}" if limit is not None else ""
        print(
            f"{name}: {value:.2f} times ({min(pairs):.2f} to {max(pairs):.2f}){asked}\n"
            f"    ours   {_series(ours)} {unit}\n    theirs {_series(theirs)} {unit}{f'   {note}' if note else ''}",
            flush=True,
        )
        self.results.append(
            {"name": name, "ratio": value, "limit": limit, "ours": ours, "theirs": theirs, "unit": unit, "note": note}
        )

    def series(self, name: str, values: list[float], unit: str, note: str = "") -> None:
        """Several numbers that stand for themselves."""
        print(f"{name}: {_series(values)} {unit}{f'   {note}' if note else ''}", flush=True)
        self.results.append({"name": name, "values": values, "unit": unit, "note": note})

    def value(self, name: str, value: float, unit: str, *, least: float | None = None, most: float | None = None) -> None:
        """One number. `least`, `most`: what was asked for."""
        asked = ""
        if least is not None:
            asked = f", asked for ≥ {least:g}: {'met' if value >= least else 'NOT MET'}"
        if most is not None:
            asked = f", asked for ≤ {most:g}: {'met' if value <= most else 'NOT MET'}"
        print(f"{name}: {value:,.4g} {unit}{asked}", flush=True)
        self.results.append({"name": name, "value": value, "unit": unit, "least": least, "most": most})

    def write(self, path: Path | None) -> None:
        self.facts["load after"] = " ".join(f"{value:.2f}" for value in os.getloadavg())
        print(f"\nload after {self.facts['load after']}")
        if path is not None:
            path.write_text(json.dumps({"machine": self.facts, "results": self.results}, indent=2) + "\n")


def _series(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def enough_space(folder: Path, nbytes: int) -> None:
    """Ends the program when the disk would be filled."""
    free = shutil.disk_usage(folder).free
    if free < nbytes * 1.2:
        sys.exit(f"this needs {nbytes / 1e9:.0f} GB below {folder}; only {free / 1e9:.0f} GB are free (choose another --work)")
