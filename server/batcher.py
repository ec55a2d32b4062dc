"""Rows of many requests in one graph run: a run starts when the session is free, earliest deadline first."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from server.call import Call
from server.dispatcher import Dispatcher
from server.errors import DeadlineError, OverloadedError
from server.plan import Plan
from server.row_queue import Array, Backlog, Entry, RowQueue, Slice, joined

_LOGGER = logging.getLogger(__name__)
# Weight of the latest full run in the running mean of its speed.
_RATE_WEIGHT = 0.1
# Batches in a row that fail as wholes alone, after which the session is made anew.
_MAX_JOINT_FAILURES = 3


class Runnable(Protocol):
    """What a batcher needs of a session."""

    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    row_bytes: int

    def run(self, batch: Array) -> Sequence[Array]:
        """(rows, …) to one array per output, (rows, …) each."""
        ...


class RunObserver(Protocol):
    """What a batcher tells the metrics."""

    def ran(self, rows: int, run_seconds: float, queue_seconds: Sequence[float]) -> None:
        """One graph run, with the waits of the requests that began in it."""
        ...

    def dropped(self, reason: str, rows: int) -> None:
        """Rows that will never run."""
        ...


class Batcher:
    """The queue of one graph, and its runs."""

    def __init__(
        self,
        session: Runnable,
        plan: Plan,
        backlog: Backlog,
        dispatcher: Dispatcher,
        observer: RunObserver,
        failed: Callable[[BaseException], None],
        traced: Callable[[Iterable[Call], float, float], None] | None = None,
    ) -> None:
        self.plan = plan
        self.queue = RowQueue(backlog, plan.max_rows)
        self._session = session
        self._backlog = backlog
        self._dispatcher = dispatcher
        self._observer = observer
        self._failed = failed
        self._traced = traced
        self._running = 0
        self._busy = 0
        self._running_rows = 0
        self._joint_failures = 0
        self._scheduled = False
        self._grown = threading.Condition(backlog.lock)
        self._window_end = 0.0
        self._seconds_per_row = plan.seconds_per_row

    def submit(self, entry: Entry) -> None:
        """Queue an entry.

        Raises:
            DeadlineError: its deadline has passed.
            OverloadedError: too many rows wait, or they cannot all run before its deadline.
        """
        entry.batcher = self
        entry.call.entry = entry
        now = time.monotonic()
        with self._backlog.lock:
            if entry.dropped or not entry.call.open:
                entry.call.entry = None
                return
            self._admit(entry, now)
            if self.plan.max_delay_seconds:
                self._open_window(now)
            self.queue.push(entry, now)
            start = not self.plan.inline and self._running < self.plan.concurrent_runs
            self._running += start
            schedule = self.plan.inline and not self._scheduled
            self._scheduled |= schedule
        if schedule:
            self._dispatcher.add_ready(self)
        elif start:
            self._dispatcher.start_run(self._work)

    def discard(self, entry: Entry, reason: str) -> None:
        """Take an entry out of the queue: nobody wants its answer."""
        with self._backlog.lock:
            rows = self.queue.drop(entry)
        if rows:
            self._observer.dropped(reason, rows)

    def run_once(self) -> None:
        """Run one batch on this thread, unless as many run already as may."""
        with self._backlog.lock:
            self._scheduled = False
            if self._running >= self.plan.concurrent_runs:
                return
            self._running += 1
        self._run_batch()
        with self._backlog.lock:
            self._running -= 1
            schedule = self.queue.rows > 0 and not self._scheduled
            self._scheduled |= schedule
        if schedule:
            self._dispatcher.add_ready(self)

    def _work(self) -> None:
        """Run batches on a worker until nothing waits."""
        while True:
            with self._backlog.lock:
                self._gather()
                if self.queue.rows == 0:
                    self._running -= 1
                    return
            self._run_batch()
            # Answers may have led to rows for quick graphs.
            self._dispatcher.run_after()

    def _open_window(self, now: float) -> None:
        if self.queue.rows == 0:
            self._window_end = now + self.plan.max_delay_seconds
        self._grown.notify()

    def _gather(self) -> None:
        """Give a batch time to fill, where the settings ask for it."""
        while 0 < self.queue.rows < self.plan.max_rows:
            rest = self._window_end - time.monotonic()
            if rest <= 0:
                return
            self._grown.wait(rest)

    def _admit(self, entry: Entry, now: float) -> None:
        """Refuse at once what cannot be served in time."""
        deadline = entry.call.deadline
        if deadline <= now:
            self._observer.dropped("deadline", entry.count)
            raise DeadlineError("The deadline has passed before the request could run.")
        if self._backlog.rows + entry.count > self._backlog.limit_rows:
            self._observer.dropped("overload", entry.count)
            raise OverloadedError(
                f"{self._backlog.rows} rows wait for this model and {entry.count} came, of "
                f"{self._backlog.limit_rows} that may wait: try again later",
                # Rows of the model's other graphs wait too; that they are as fast is a guess.
                self._wait_seconds(self._backlog.rows),
            )
        # The sum is quick, the exact number is not: it is asked for where it may matter.
        before = self.queue.urgent_rows
        if now + self._wait_seconds(before + entry.count + self._running_rows) > deadline:
            before = self.queue.urgent_rows_before(deadline)
        wait = self._wait_seconds(before + entry.count + self._running_rows)
        # With nothing before it a request is always worth a try: the estimate may be stale.
        if before and now + wait > deadline:
            self._observer.dropped("overload", entry.count)
            raise OverloadedError(
                f"the answer would take about {wait:.3f} s, with {before} rows waiting before it, and the "
                f"deadline is in {deadline - now:.3f} s: try again later, or with more time",
                wait,
            )

    def _wait_seconds(self, rows: int) -> float:
        return rows * self._seconds_per_row / self.plan.concurrent_runs

    def _run_batch(self) -> None:
        now = time.monotonic()
        with self._backlog.lock:
            slices, expired = self.queue.take(now, self._fair_share())
            rows = sum(piece.stop - piece.start for piece in slices)
            self._busy += 1
            self._running_rows += rows
        try:
            self._expire(expired)
            if slices:
                self._run(slices, now)
        except Exception as error:
            # Whatever it is, it ends these calls and not the thread.
            _LOGGER.exception("a batch has failed outside its graph")
            for piece in slices:
                piece.entry.call.fail(error)
        finally:
            with self._backlog.lock:
                self._busy -= 1
                self._running_rows -= rows

    def _expire(self, expired: list[tuple[Entry, int]]) -> None:
        for entry, rows in expired:
            self._observer.dropped("deadline", rows)
            entry.call.fail(DeadlineError("The deadline has passed while the request waited."))

    def _fair_share(self) -> int:
        """Rows that leave as much for every other run that could begin now, but no run too small to be worth it."""
        idle = self.plan.concurrent_runs - self._busy
        return max(-(-self.queue.rows // idle), self.plan.shared_rows)

    def _run(self, slices: list[Slice], started: float) -> bool:
        """Run rows and hand their outputs on; whether the graph has run."""
        batch = self._assemble(slices)
        try:
            outputs = self._session.run(batch)
        except Exception as error:  # noqa: BLE001 (whatever a provider raises)
            self._isolate(slices, error)
            return False
        if len(slices) > 1:
            self._joint_failures = 0
        seconds = time.monotonic() - started
        rows = len(batch)
        if 2 * rows >= self.plan.max_rows:
            self._seconds_per_row += _RATE_WEIGHT * (seconds / rows - self._seconds_per_row)
        self._observer.ran(rows, seconds, [started - piece.entry.queued for piece in slices if piece.start == 0])
        if self._traced is not None:
            self._traced([piece.entry.call for piece in slices], started, seconds)
        self._deliver(slices, outputs, started, seconds)
        return True

    def _assemble(self, slices: list[Slice]) -> Array:
        session = self._session
        data, start, rows = joined(slices, session.row_bytes)
        elements = rows * session.row_bytes // session.dtype.itemsize
        return np.frombuffer(data, session.dtype, elements, start).reshape(rows, *session.row_shape)

    def _isolate(self, slices: list[Slice], error: BaseException) -> None:
        """A run has failed: run each request alone, so that none is harmed by its neighbours."""
        if len(slices) > 1:
            alone = [self._run([piece], time.monotonic()) for piece in slices]
            if all(alone):
                self._note_joint_failure(slices, error)
            return
        _LOGGER.error("a graph run has failed", exc_info=error)
        slices[0].entry.call.fail(error)
        self._failed(error)

    def _note_joint_failure(self, slices: list[Slice], error: BaseException) -> None:
        """Requests that fail together and succeed alone tell of the session, not of a request."""
        self._joint_failures += 1
        if self._joint_failures == 1:
            _LOGGER.error("a run of %d requests has failed that succeed alone", len(slices), exc_info=error)
        if self._joint_failures == _MAX_JOINT_FAILURES:
            self._failed(error)

    def _deliver(self, slices: list[Slice], outputs: Sequence[Array], started: float, seconds: float) -> None:
        rows = len(outputs[0])
        offset = 0
        for entry, _, start, stop in slices:
            size = stop - start
            part = [output[offset : offset + size] for output in outputs]
            offset += size
            call = entry.call
            if not call.open:
                continue
            try:
                if size == entry.count:
                    call.note_run(started - entry.queued, seconds, rows)
                    entry.outputs = part
                    entry.done(entry)
                elif self._join(entry, start, part, started, seconds, rows):
                    entry.done(entry)
            except Exception as error:  # noqa: BLE001 (it becomes the call's status)
                call.fail(error)

    def _join(self, entry: Entry, start: int, part: list[Array], started: float, seconds: float, rows: int) -> bool:
        """Keep one part of a large request; true when all are there."""
        with self._backlog.lock:
            entry.call.note_run(started - entry.queued if start == 0 else 0.0, seconds, rows)
            entry.parts.append((start, part))
            entry.unrun -= len(part[0])
            if entry.unrun:
                return False
        entry.parts.sort(key=lambda piece: piece[0])
        entry.outputs = [np.concatenate(column) for column in zip(*(p for _, p in entry.parts), strict=True)]
        return True
