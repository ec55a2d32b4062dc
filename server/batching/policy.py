"""Batch policy of a graph: batch size, concurrency and thread, chosen from a profile of its warm-up.

The other parts of the batching policy: when a batch leaves (`gather`), in which order rows run (`row_queue`,
`deadline_queue`, `fair_queue`), and which rows are refused (`admission`).
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from server.execution_config import BatchingConfig
from server.runtime.session import Array, Session

# A larger batch must save this share of the time per row to be worth its latency …
_WORTHWHILE = 0.15
# … but a run shorter than this is mostly overhead.
_SHORT_RUN_SECONDS = 0.001
# … and no run should delay others by more than this, if it can be smaller.
_LONG_RUN_SECONDS = 0.010
# A second concurrent run pays only for a graph that takes longer than two threads cost each other.
_CONCURRENT_RUN_SECONDS = 0.0001
# Larger batches of a graph this slow add no information and delay the start.
_TOO_LONG_SECONDS = 0.1
# Rounds in which each batch is timed: at least, at most, and until this much time has passed.
_MIN_ROUNDS = 2
_MAX_ROUNDS = 20
_PROFILE_SECONDS = 0.02
# How long a graph waits at most while another one is profiled.
_TURN_SECONDS = 5.0


@dataclass(frozen=True)
class BatchPolicy:
    """How a graph is run."""

    max_rows: int
    """Maximum rows of a run."""
    shared_rows: int
    """Minimum rows of a run when several runs could share what waits."""
    concurrent_runs: int
    """Maximum runs at a time."""
    inline: bool
    """Whether it runs on the transport's thread rather than on a worker."""
    max_delay_seconds: float
    """Maximum time that a batch waits to fill."""
    seconds_per_row: float
    """Measured time of a row in a full run."""


def profile(session: Session, buckets: Sequence[int], *, alone: bool, side: int = 1) -> dict[int, float]:
    """Measure seconds per run of every batch bucket, smallest first, until a run gets long; keyed by rows.

    Free axes are `side` long.
    `alone` means that graphs run on the calling thread only. Then its CPU time is measured, without what other threads
    and programs take: a model that is loaded during traffic gets the policy that it would get on an idle machine.
    """
    clock = time.thread_time if alone else time.perf_counter
    zeros = session.zeros(max(buckets), side)
    seconds: dict[int, float] = {}
    for rows in buckets:
        session.run(*(each[:rows] for each in zeros))
        seconds[rows] = _time(session, [each[:rows] for each in zeros], clock)
        if seconds[rows] > _TOO_LONG_SECONDS:
            break
    # A disturbance of a core lasts longer than a short run, so each size is timed again after the others.
    until = time.perf_counter() + _PROFILE_SECONDS
    for round_ in range(_MAX_ROUNDS):
        if round_ >= _MIN_ROUNDS and time.perf_counter() > until:
            break
        for rows, least in seconds.items():
            seconds[rows] = min(least, _time(session, [each[:rows] for each in zeros], clock))
    return seconds


class Profiler:
    """Profiles brief graphs at once, others one at a time: two with large batches would need twice the memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def profile(self, session: Session, buckets: Sequence[int], *, alone: bool, side: int = 1) -> dict[int, float]:
        """As the function, when its turn has come; a graph that does not end keeps the others for a while only."""
        row = session.zeros(1, side)
        # More than once: the first run, or a disturbed one, says little.
        brief = alone and any(_time(session, row, time.thread_time) < _CONCURRENT_RUN_SECONDS for _ in range(3))
        first = not brief and self._lock.acquire(timeout=_TURN_SECONDS)
        try:
            return profile(session, buckets, alone=alone, side=side)
        finally:
            if first:
                self._lock.release()


def choose_policy(seconds: Mapping[int, float], config: BatchingConfig, cores: int) -> BatchPolicy:
    """Choose the policy of a graph that took `seconds[rows]` per run, on a machine with this many cores."""
    rows = min(config.max_batch_rows, max(seconds)) if config.max_batch_rows else _best_rows(seconds)
    nearest = max((size for size in seconds if size <= rows), default=min(seconds))
    quick = min(seconds.values()) * 1e6 <= config.inline_run_microseconds and not config.max_queue_delay_ms
    several = not quick and min(seconds.values()) >= _CONCURRENT_RUN_SECONDS
    return BatchPolicy(
        max_rows=rows,
        shared_rows=min(_efficient(seconds)[0], rows),
        concurrent_runs=config.concurrent_runs or (cores if several else 1),
        inline=quick,
        max_delay_seconds=config.max_queue_delay_ms / 1000,
        seconds_per_row=seconds[nearest] / nearest,
    )


def _best_rows(seconds: Mapping[int, float]) -> int:
    """The smallest efficient batch whose run is not too short; the largest efficient one if all are."""
    good = _efficient(seconds)
    return next((rows for rows in good if seconds[rows] >= _SHORT_RUN_SECONDS), good[-1])


def _efficient(seconds: Mapping[int, float]) -> list[int]:
    """Batch sizes whose time per row is nearly the best, without those whose run is too long; ascending."""
    sizes = [rows for rows in sorted(seconds) if seconds[rows] <= _LONG_RUN_SECONDS] or [min(seconds)]
    best = min(seconds[rows] / rows for rows in sizes)
    return [rows for rows in sizes if seconds[rows] / rows <= best * (1 + _WORTHWHILE)]


def _time(session: Session, inputs: Sequence[Array], clock: Callable[[], float]) -> float:
    started = clock()
    session.run(*inputs)
    return clock() - started
