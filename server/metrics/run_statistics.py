"""Exact counts of one graph's runs, for the statistics extension, which reports totals instead of histograms."""

import time
from collections import defaultdict
from collections.abc import Sequence


class DurationTotal:
    """Number of events and their total duration in nanoseconds."""

    __slots__ = ("count", "ns")

    def __init__(self, count: int = 0, ns: int = 0) -> None:
        self.count = count
        self.ns = ns

    def add(self, count: int, seconds: float) -> None:
        """Add events that took `seconds` in total."""
        self.count += count
        self.ns += int(seconds * 1e9)


class RunStatistics:
    """Runs of one graph of one version; not thread-safe."""

    __slots__ = ("compute", "dropped", "last_run_ms", "queue", "runs")

    def __init__(self) -> None:
        self.runs: defaultdict[int, DurationTotal] = defaultdict(DurationTotal)
        """Runs by rows."""
        self.queue = DurationTotal()
        """Requests that began to run, and their time in the queue."""
        self.compute = DurationTotal()
        """The same requests, and the time of the runs they began in."""
        self.dropped = 0
        """Requests that left the queue without running."""
        self.last_run_ms = 0
        """End of the last run, in ms since 1970."""

    def ran(self, rows: int, run_seconds: float, queue_seconds: Sequence[float]) -> None:
        """Count a graph run, and the waits of the requests that began in it."""
        began = len(queue_seconds)
        self.runs[rows].add(1, run_seconds)
        self.queue.add(began, sum(queue_seconds))
        self.compute.add(began, began * run_seconds)
        self.last_run_ms = time.time_ns() // 1_000_000
