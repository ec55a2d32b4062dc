"""CPU cores of this process: CPU affinity, and the CPU quota of its cgroup (container limit)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path, PurePosixPath

_PROCESS = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Number of cores that this process may use: a quota of one and a half is two."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = quota_cores()
    return available if quota is None else max(1, min(available, ceil(quota)))


def quota_cores(process: Path = _PROCESS, cgroups: Path = _CGROUPS) -> float | None:
    """Cores that the quotas of this process's cgroups and their parents allow; None where there is no quota.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (cpu.cfs_quota_us).
    """
    quotas = [quota for folder in _folders(process, cgroups) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _folders(process: Path, cgroups: Path) -> Iterator[Path]:
    """Folders of the cgroups, and of their parents, that may hold a quota."""
    try:
        lines = process.read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 1 has a hierarchy per set of controllers. In a container its root may be the process's own cgroup.
        root = cgroups / controllers
        inside = PurePosixPath(path.lstrip("/"))
        yield from (root / part for part in (inside, *inside.parents) if ".." not in part.parts)


def _quota(folder: Path) -> float | None:
    """Quota of one cgroup, in cores."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        microseconds = int((folder / "cpu.cfs_quota_us").read_text())
        return None if microseconds <= 0 else microseconds / int((folder / "cpu.cfs_period_us").read_text())
    return None
