"""CPU resources of this process: glibc's allocator (malloc), memory that is left, threads of BLAS, cores."""

import ctypes
import os
import platform
import re
from pathlib import Path

from threadpoolctl import threadpool_limits

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST = 2**31 - 1
_LARGEST_KEPT = 64 * 1024**2
_MEMINFO = re.compile(r"^MemAvailable: +(\d+) kB$", re.MULTILINE)
_CACHED = re.compile(r"^inactive_file (\d+)$", re.MULTILINE)
# Where a system tells neither: more than any machine has.
_MOST_MEMORY = 2**60
_NO_MEMORY = re.compile(r"can't allocate memory|out of memory|Storage size calculation overflowed")

# OpenBLAS' threads wait for each other in a loop. Where another program needs their core, each product of small
# matrices takes a turn of the scheduler: a mixture of the codes of 1,350 digits took 22 s of CPU time instead of 0.4.
one_blas_thread = threadpool_limits.wrap(limits=1, user_api="blas")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning it to the kernel; whether that could be set.

    By default the kernel gets back what a step frees, and zeroes it page by page when the next step needs it:
    10,800 page faults in a step of `conv-ae`, a quarter of its time. Tensors larger than those of steps are returned.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) and libc.mallopt(_M_TRIM_THRESHOLD, _MOST))


def available_memory(system: Path = Path("/proc"), group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may still take: what the machine has left, or its control group (v2) if that is less."""
    machine, cached = _MEMINFO.search(_text(system / "meminfo")), _CACHED.search(_text(group / "memory.stat"))
    limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
    left = [int(machine[1]) * 1024] if machine else []
    if limit.isdigit() and used.isdigit():
        # A group uses what the kernel keeps of files that were read, too, and gets it back when it needs it.
        left.append(max(0, int(limit) - int(used) + (int(cached[1]) if cached else 0)))
    return min(left, default=_MOST_MEMORY)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: in Python and NumPy a MemoryError, in PyTorch a RuntimeError."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
