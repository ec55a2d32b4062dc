"""Measurements of the machine: CPU time and memory of process trees, load of other programs, calls per second."""

import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
WARM_UP_CALLS = 3


def tree(root: int) -> set[int]:
    """A process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def cpu_seconds(root: int) -> float:
    """CPU time of a process tree so far, including children that have exited."""
    return sum(_process_seconds(pid) for pid in tree(root))


def memory_mib(root: int) -> tuple[float, float]:
    """Resident and proportional memory of a process tree."""
    totals = {"Rss": 0, "Pss": 0}
    for pid in tree(root):
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:  # it has exited
            continue
        for line in lines:
            name, _, rest = line.partition(":")
            if name in totals:
                totals[name] += int(rest.split()[0])
    return totals["Rss"] / 1024, totals["Pss"] / 1024


@dataclass
class Watch:
    """CPU load of other programs since `begin`."""

    busy: float = 0
    began: float = 0

    def begin(self) -> None:
        """Start measuring."""
        self.busy, self.began = _busy_seconds(), perf_counter()

    def foreign_cores(self, ours: float) -> float:
        """Cores kept busy by other programs; `ours` is the CPU time of our own in the same period, in seconds."""
        spent = _busy_seconds() - self.busy
        return max(0.0, (spent - ours) / (perf_counter() - self.began))


def description() -> str:
    """The machine in words: processor, cores, memory, system."""
    info = (PROC / "cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "?")
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return f"{os.cpu_count()} cores ({model}), {gibibytes:.0f} GiB, {system}, Python {platform.python_version()}"


def date_and_revision() -> dict[str, str]:
    """When and at which revision of this repository a page is written."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    revision = subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True, check=False).stdout
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "revision": revision.strip()}


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    """Rate of calls one after the other, after a warm-up of three."""
    for _ in range(WARM_UP_CALLS):
        call()
    began, count = perf_counter(), 0
    while perf_counter() - began < seconds:
        call()
        count += 1
    return count / (perf_counter() - began)


def _busy_seconds() -> float:
    """CPU seconds that were not idle, over all cores, stolen time included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def _process_seconds(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / TICKS_PER_SECOND if fields else 0.0


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty when the process has exited."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
