"""CPU resources of this process: glibc's allocator (malloc), threads of BLAS, cores."""

import ctypes
import os
import platform

from threadpoolctl import threadpool_limits

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST = 2**31 - 1
_LARGEST_KEPT = 64 * 1024**2

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
