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
from server.row_queue import Array, Backlog, Buffer, Entry, RowQueue, Slice

_LOGGER = logging.getLogger(__name__)
# Weight of the latest full run in the running mean of its speed.
_RATE_WEIGHT = 0.1


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

    def discard(self, entry: Entry) -> None:
        """Take an entry out of the queue: its caller is gone."""
        with self._backlog.lock:
            rows = self.queue.drop(entry)
        if rows:
            self._observer.dropped("cancelled", rows)

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
            while self._dispatcher.run_ready():
                pass

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
                self._wait_seconds(self.queue.rows),
            )
        wait = self._wait_seconds(self.queue.urgent_rows + entry.count)
        # With nothing before it a request is always worth a try: the estimate may be stale.
        if self.queue.urgent_rows and now + wait > deadline:
            self._observer.dropped("overload", entry.count)
            raise OverloadedError(
                f"the answer would take about {wait:.3f} s, with {self.queue.urgent_rows} rows waiting, and the "
                f"deadline is in {deadline - now:.3f} s: try again later, or with more time",
                wait,
            )

    def _wait_seconds(self, rows: int) -> float:
        return rows * self._seconds_per_row / self.plan.concurrent_runs

    def _run_batch(self) -> None:
        now = time.monotonic()
        with self._backlog.lock:
            slices, expired = self.queue.take(now, self._fair_share())
            self._busy += 1
        for entry, rows in expired:
            self._observer.dropped("deadline", rows)
            entry.call.fail(DeadlineError("The deadline has passed while the request waited."))
        if slices:
            self._run(slices, now)
        with self._backlog.lock:
            self._busy -= 1

    def _fair_share(self) -> int:
        """Rows that leave as much for every other run that could begin now, but no run too small to be worth it."""
        idle = self.plan.concurrent_runs - self._busy
        return max(-(-self.queue.rows // idle), self.plan.shared_rows)

    def _run(self, slices: list[Slice], started: float) -> None:
        batch = self._assemble(slices)
        try:
            outputs = self._session.run(batch)
        except Exception as error:  # noqa: BLE001 (whatever a provider raises)
            self._isolate(slices, error)
            return
        seconds = time.monotonic() - started
        rows = len(batch)
        if 2 * rows >= self.plan.max_rows:
            self._seconds_per_row += _RATE_WEIGHT * (seconds / rows - self._seconds_per_row)
        self._observer.ran(rows, seconds, [started - piece.entry.queued for piece in slices if piece.start == 0])
        if self._traced is not None:
            self._traced([piece.entry.call for piece in slices], started, seconds)
        self._deliver(slices, outputs, started, seconds)

    def _assemble(self, slices: list[Slice]) -> Array:
        session = self._session
        if len(slices) == 1:
            _, data, start, stop = slices[0]
        else:
            data = b"".join([self._bytes_of(piece) for piece in slices])
            start, stop = 0, len(data) // session.row_bytes
        elements = session.row_bytes // session.dtype.itemsize
        flat = np.frombuffer(data, session.dtype, (stop - start) * elements, start * session.row_bytes)
        return flat.reshape(stop - start, *session.row_shape)

    def _bytes_of(self, piece: Slice) -> Buffer:
        entry, data, start, stop = piece
        if stop - start == entry.count:
            return data
        return memoryview(data).cast("B")[start * self._session.row_bytes : stop * self._session.row_bytes]

    def _isolate(self, slices: list[Slice], error: BaseException) -> None:
        """A run has failed: run each request alone, so that none is harmed by its neighbours."""
        if len(slices) > 1:
            for piece in slices:
                self._run([piece], time.monotonic())
            return
        _LOGGER.error("a graph run has failed", exc_info=error)
        entry = slices[0].entry
        self.discard(entry)
        entry.call.fail(error)
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
