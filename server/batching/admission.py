"""Who may queue: not when too much waits, not for what would come too late, not who leaves no room to others."""

from typing import Protocol

from server.batching.row_queue import Backlog, Entry, RowQueue
from server.errors import DeadlineError, OverloadedError


class DropObserver(Protocol):
    """What admission tells the metrics."""

    def dropped(self, reason: str, rows: int) -> None:
        """Rows that will never run."""
        ...


class Admission:
    """Refuses at once what cannot be served in time; to be asked under the lock of the backlog.

    What may wait is as many rows as the limit says, or as can run before the deadline, if those are fewer. When more
    than half of it is taken, a caller may have no more rows there than are still free ("dynamic thresholds", Choudhury
    and Hahne 1998): one that floods is stopped at three quarters, of many each at less, and some room is left for
    whoever comes next. Below one half nothing is counted, so that it costs nothing; where nothing waits, anything may.
    """

    def __init__(self, backlog: Backlog, queue: RowQueue, observer: DropObserver) -> None:
        self._backlog = backlog
        self._queue = queue
        self._observer = observer

    def check(self, entry: Entry, now: float, running_rows: int, row_seconds: float) -> None:
        """Let an entry in, `running_rows` rows running before it, at `row_seconds` a row.

        Raises:
            DeadlineError: its deadline has passed.
            OverloadedError: there is no room for it, or its caller has taken too much.
        """
        backlog, count = self._backlog, entry.count
        left = entry.call.deadline - now
        if left <= 0:
            self._observer.dropped("deadline", count)
            raise DeadlineError("The deadline has passed before the request could run.")
        free = backlog.limit_rows - backlog.rows - count
        if free < 0:
            self._refuse(
                count,
                f"{backlog.rows} rows wait for this model and {count} came, of {backlog.limit_rows} that may wait: "
                "try again later",
                # Rows of the model's other graphs wait too; that they are as fast is a guess.
                backlog.rows * row_seconds,
            )
        # The sum is quick, the exact number is not: it is asked for where it may matter.
        before = self._queue.most_rows_before()
        if 2 * (before + count + running_rows) * row_seconds > left:
            before = self._queue.rows_before(entry.call, count)
        wait = (before + count + running_rows) * row_seconds
        # With nothing before it a request is always worth a try: the estimate may be stale.
        if before and wait > left:
            self._refuse(
                count,
                f"the answer would take about {wait:.3f} s, with {before} rows waiting before it, and the deadline is "
                f"in {left:.3f} s: try again later, or with more time",
                wait,
            )
        if backlog.shared and backlog.rows and (backlog.crowded(count) or (before and 2 * wait > left)):
            self._share(entry, min(free, (left - wait) / row_seconds) if before else free, row_seconds)

    def _share(self, entry: Entry, free: float, row_seconds: float) -> None:
        """Count a caller's rows, of which it may have as many as are free afterwards."""
        caller = entry.call.caller
        held = self._backlog.held.get(caller, 0)
        if held + entry.count > free:
            self._refuse(
                entry.count,
                f"{held} rows of this caller wait and {entry.count} came, and the room that is left is for others: "
                "try again later",
                held * row_seconds,
            )
        entry.caller = caller

    def _refuse(self, rows: int, message: str, seconds: float) -> None:
        self._observer.dropped("overload", rows)
        raise OverloadedError(message, seconds)
