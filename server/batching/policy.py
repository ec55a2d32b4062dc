"""How a graph is run, decided by the times measured at its warm-up."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from server.config import BatchingConfig
from server.runtime.session import Array, Session

# A larger batch must save this share of the time per row to be worth its latency …
_WORTHWHILE = 0.15
# … but a run shorter than this is all overhead.
_SHORT_RUN_SECONDS = 0.001
# … and no run should keep others waiting this long, if it can be smaller.
_LONG_RUN_SECONDS = 0.010
# A second concurrent run pays only where the graph outweighs what two threads cost each other.
_CONCURRENT_RUN_SECONDS = 0.0001
# Larger batches of a graph this slow would tell nothing and delay the start.
_TOO_LONG_SECONDS = 0.1
# Turns in which each batch is timed, and when enough have been.
_LEAST_TURNS = 2
_TIMED_TURNS = 20
_TIMED_SECONDS = 0.02


@dataclass(frozen=True)
class BatchPolicy:
    """How a graph is run.

    Rows of a run at most, and as few as a run may have when several could share what waits; runs at a time; on the
    transport's thread or on workers; how long a batch may wait to fill.
    """

    max_rows: int
    shared_rows: int
    concurrent_runs: int
    inline: bool
    max_delay_seconds: float
    seconds_per_row: float


def profile(session: Session, buckets: Sequence[int], *, alone: bool) -> dict[int, float]:
    """Run every batch bucket, smallest first, up to where a run gets long; seconds per run by rows.

    `alone` says that graphs run on the calling thread only. Then what other threads and programs take of its time is
    left out: a model that is loaded beside traffic gets the plan that it would get on an idle machine.
    """
    clock = time.thread_time if alone else time.perf_counter
    zeros = np.zeros((max(buckets), *session.row_shape), session.dtype)
    seconds: dict[int, float] = {}
    for rows in buckets:
        session.run(zeros[:rows])
        seconds[rows] = _time(session, zeros[:rows], clock)
        if seconds[rows] > _TOO_LONG_SECONDS:
            break
    # What slows a core down lasts longer than a short run: each size is timed again when the others have been.
    until = time.perf_counter() + _TIMED_SECONDS
    for turn in range(_TIMED_TURNS):
        if turn >= _LEAST_TURNS and time.perf_counter() > until:
            break
        for rows, least in seconds.items():
            seconds[rows] = min(least, _time(session, zeros[:rows], clock))
    return seconds


def choose_policy(seconds: Mapping[int, float], config: BatchingConfig, cores: int) -> BatchPolicy:
    """Plan for a graph that took `seconds[rows]` a run."""
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
    """The smallest batch that is nearly as fast a row as any, between too short a run and too long a one."""
    good = _efficient(seconds)
    return next((rows for rows in good if seconds[rows] >= _SHORT_RUN_SECONDS), good[-1])


def _efficient(seconds: Mapping[int, float]) -> list[int]:
    """Batch sizes that are nearly as fast a row as any, none of them too long a run; ascending."""
    sizes = [rows for rows in sorted(seconds) if seconds[rows] <= _LONG_RUN_SECONDS] or [min(seconds)]
    best = min(seconds[rows] / rows for rows in sizes)
    return [rows for rows in sizes if seconds[rows] / rows <= best * (1 + _WORTHWHILE)]


def _time(session: Session, batch: Array, clock: Callable[[], float]) -> float:
    started = clock()
    session.run(batch)
    return clock() - started
