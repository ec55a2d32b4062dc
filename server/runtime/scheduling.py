"""Scheduling of threads (Linux): whether one that is woken may take the core of the thread that woke it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


class DeferredWakeUps:
    """Context in which threads of this process that are woken wait for a free core (no wake-up preemption).

    Without effect on threads whose scheduling policy is not the usual one, and where the system or a container's filter
    of system calls does not allow to change it. Source: sched(7), SCHED_BATCH.
    """

    def __init__(self, name: str) -> None:
        """Take the threads that run now under this name, as the kernel knows it."""
        self._threads = [thread for thread in _named(name) if _may_change(thread)]

    def __len__(self) -> int:
        """Number of threads that it has an effect on."""
        return len(self._threads)

    def __enter__(self) -> None:
        for thread in self._threads:
            # One that has ended must not keep the others as they were.
            with suppress(OSError):
                _set_policy(thread, os.SCHED_BATCH)

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            with suppress(OSError):
                _set_policy(thread, os.SCHED_OTHER)


def _named(name: str) -> Iterator[int]:
    for folder in _THREADS.glob("*"):
        # A thread may end at any time.
        with suppress(OSError):
            if (folder / "comm").read_text().rstrip("\n") == name:
                yield int(folder.name)


def _may_change(thread: int) -> bool:
    if not hasattr(os, "SCHED_BATCH"):
        return False
    try:
        if os.sched_getscheduler(thread) != os.SCHED_OTHER:
            return False
        _set_policy(thread, os.SCHED_BATCH)
        _set_policy(thread, os.SCHED_OTHER)
    except OSError:
        return False
    return True


def _set_policy(thread: int, policy: int) -> None:
    os.sched_setscheduler(thread, policy, os.sched_param(0))
