"""What the machine does: CPU time of programs with all their children, memory, and the load that is not ours."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


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
    """CPU time of a process tree so far, its children that have ended included."""
    return sum(_process_seconds(pid) for pid in tree(root))


def memory_mib(root: int) -> tuple[float, float]:
    """Resident and proportional memory of a process tree."""
    totals = {"Rss": 0, "Pss": 0}
    for pid in tree(root):
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:  # ended meanwhile
            continue
        for line in lines:
            name, _, rest = line.partition(":")
            if name in totals:
                totals[name] += int(rest.split()[0])
    return totals["Rss"] / 1024, totals["Pss"] / 1024


@dataclass
class Watch:
    """How busy the machine was with others since `begin`."""

    busy: float = 0
    began: float = 0

    def begin(self) -> None:
        """Starts to watch."""
        self.busy, self.began = _busy_seconds(), perf_counter()

    def foreign_cores(self, ours: float) -> float:
        """Cores kept busy by others, `ours` being the CPU seconds that we used ourselves meanwhile."""
        spent = _busy_seconds() - self.busy
        return max(0.0, (spent - ours) / (perf_counter() - self.began))


def description() -> str:
    """The kind of machine: processor, cores, memory, system."""
    info = (PROC / "cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "?")
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return f"{os.cpu_count()} cores ({model}), {gibibytes:.0f} GiB, {system}, Python {platform.python_version()}"


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
    """Fields of /proc/PID/stat from the state on; empty when the process has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
