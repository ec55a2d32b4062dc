"""Admission control (backpressure, load shedding): refuse rows if the queue is full, too slow, or one caller's."""

from typing import Protocol

from server.batching.entry import Backlog, Entry
from server.batching.row_queue import RowQueue
from server.errors import DeadlineError, OverloadedError


class DropListener(Protocol):
    """Counts dropped rows, for the metrics."""

    def dropped(self, reason: str, rows: int) -> None:
        """Rows that will never run."""
        ...


class Admission:
    """Refuses at once what cannot be served in time; call it with the backlog locked.

    Capacity is the row limit, or the rows that can run before the deadline if those are fewer. When more than half of
    it is used, a caller may have no more rows queued than are still free ("dynamic thresholds", Choudhury and Hahne
    1998): a single flooding caller is stopped at three quarters, each of several earlier, and some room is left for the
    next caller. Below half nothing is counted, so that it costs nothing; an empty queue admits anything.
    """

    def __init__(self, backlog: Backlog, queue: RowQueue, listener: DropListener) -> None:
        self._backlog = backlog
        self._queue = queue
        self._listener = listener

    def check(self, entry: Entry, now: float, running_rows: int, row_seconds: float) -> None:
        """Admit an entry, with `running_rows` rows running before it, at `row_seconds` a row.

        Raises:
            DeadlineError: its deadline has passed.
            OverloadedError: there is no room for it, or its caller has too many rows queued.
        """
        backlog, count = self._backlog, entry.count
        left = entry.call.deadline - now
        if left <= 0:
            self._listener.dropped("deadline", count)
            raise DeadlineError("The deadline passed before the request could run.")
        free = backlog.limit_rows - backlog.rows - count
        if free < 0:
            self._refuse(
                count,
                f"{backlog.rows} of at most {backlog.limit_rows} rows are queued for this model, no room for {count}: "
                "try again later",
                # These include rows of the model's other graphs, assumed to be as fast.
                backlog.rows * row_seconds,
            )
        # The upper bound is cheap, the exact number is not: compute it only if it may matter.
        before = self._queue.most_rows_before()
        if 2 * (before + count + running_rows) * row_seconds > left:
            before = self._queue.rows_before(entry.call, count)
        wait = (before + count + running_rows) * row_seconds
        # With nothing before it a request is always worth trying: the estimate may be stale.
        if before and wait > left:
            self._refuse(
                count,
                f"the answer would take about {wait:.3f} s, with {before} rows queued before it, and the deadline is "
                f"in {left:.3f} s: try again later, or with a longer deadline",
                wait,
            )
        if backlog.shared and backlog.rows and (backlog.crowded(count) or (before and 2 * wait > left)):
            self._share(entry, min(free, (left - wait) / row_seconds) if before else free, row_seconds)

    def _share(self, entry: Entry, free: float, row_seconds: float) -> None:
        """Limit a caller to as many rows as remain free, and count its rows."""
        caller = entry.call.caller
        held = self._backlog.held.get(caller, 0)
        if held + entry.count > free:
            self._refuse(
                entry.count,
                f"{held} rows of this caller are queued, and the remaining room is not enough for {entry.count} more "
                "and for other callers: try again later",
                held * row_seconds,
            )
        entry.caller = caller

    def _refuse(self, rows: int, message: str, seconds: float) -> None:
        self._listener.dropped("overload", rows)
        raise OverloadedError(message, seconds)
