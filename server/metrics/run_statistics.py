"""Exact counts of one graph's runs, for those who ask for numbers instead of histograms."""

import time
from collections import defaultdict
from collections.abc import Sequence


class Times:
    """How often, and for how many nanoseconds in all."""

    __slots__ = ("count", "ns")

    def __init__(self, count: int = 0, ns: int = 0) -> None:
        self.count = count
        self.ns = ns

    def add(self, count: int, seconds: float) -> None:
        """Count events that took so long together."""
        self.count += count
        self.ns += int(seconds * 1e9)


class RunRecord:
    """Runs of one graph of one version; not safe by itself."""

    __slots__ = ("compute", "dropped", "last_run_ms", "queue", "runs")

    def __init__(self) -> None:
        self.runs: defaultdict[int, Times] = defaultdict(Times)
        """Runs by rows."""
        self.queue = Times()
        """Requests that have begun to run, and what they waited."""
        self.compute = Times()
        """The same requests, and the runs that they began in."""
        self.dropped = 0
        """Requests that left the queue without a run."""
        self.last_run_ms = 0
        """End of the last run, in ms since 1970."""

    def ran(self, rows: int, run_seconds: float, queue_seconds: Sequence[float]) -> None:
        """Count a graph run, and the waits of the requests that began in it."""
        began = len(queue_seconds)
        self.runs[rows].add(1, run_seconds)
        self.queue.add(began, sum(queue_seconds))
        self.compute.add(began, began * run_seconds)
        self.last_run_ms = time.time_ns() // 1_000_000
