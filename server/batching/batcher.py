"""Rows of many requests in one graph run: a run starts when the session is free, earliest deadline first."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from server.batching.admission import Admission
from server.batching.executor import Dispatcher
from server.batching.gather import seconds_to_fill
from server.batching.output_check import NotFiniteError, spoiled_rows
from server.batching.policy import BatchPolicy
from server.batching.row_queue import Array, Backlog, Done, Entry, RowQueue, Slice, joined
from server.batching.run import Doctor, Run, Runnable, RunObserver
from server.calls.call import FOREVER, Call
from server.errors import DeadlineError, ServingError

_LOGGER = logging.getLogger(__name__)
# Weight of the latest full run in the running mean of its speed.
_RATE_WEIGHT = 0.1
# Batches in a row that fail as wholes alone, after which the session is made anew.
_MAX_JOINT_FAILURES = 3


class Batcher:
    """The queue of one graph, and its runs."""

    def __init__(
        self,
        session: Runnable,
        plan: BatchPolicy,
        backlog: Backlog,
        dispatcher: Dispatcher,
        observer: RunObserver,
        failed: Doctor,
        traced: Callable[[Iterable[Call], float, float], None] | None = None,
    ) -> None:
        self.plan = plan
        self.queue = RowQueue(backlog, plan.max_rows)
        self._admission = Admission(backlog, self.queue, observer)
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
        self._under_way: set[Run] = set()
        self._given_up: ServingError | None = None
        self._grown = threading.Condition(backlog.lock)
        self._window_end = 0.0
        self._seconds_per_row = plan.seconds_per_row

    def submit(self, entry: Entry, now: float) -> None:
        """Queue an entry that came at `now`, a time of time.monotonic().

        Raises:
            DeadlineError: its deadline has passed.
            OverloadedError: too many rows wait, of all callers or of this one, or cannot all run before its deadline.
            ServingError: the batcher has been given up.
        """
        entry.batcher = self
        call = entry.call
        call.entry = entry
        plan = self.plan
        with self._backlog.lock:
            if entry.dropped or not call.open:
                call.entry = None
                return
            if self._given_up is not None:
                raise self._given_up
            if call.deadline != FOREVER or self._backlog.crowded(entry.count):
                seconds = self._seconds_per_row / plan.concurrent_runs
                self._admission.check(entry, now, self._running_rows, seconds)
            if plan.max_delay_seconds:
                self._open_window(now)
            self.queue.push(entry, now)
            if plan.inline:
                idle = not self._scheduled
                self._scheduled = True
            else:
                idle = self._running < plan.concurrent_runs
                self._running += idle
        if not idle:
            return
        if plan.inline:
            self._dispatcher.add_ready(self)
        else:
            self._dispatcher.start_run(self._work)

    def discard(self, entry: Entry, reason: str) -> None:
        """Take an entry out of the queue: nobody wants its answer."""
        with self._backlog.lock:
            rows = self.queue.drop(entry)
        if rows:
            self._observer.dropped(reason, rows)

    @property
    def given_up(self) -> bool:
        """Whether it runs nothing more."""
        return self._given_up is not None

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""
        return bool(self._under_way)

    def tick(self) -> int:
        """Count one look at each run under way; how often the longest has been looked at."""
        runs = list(self._under_way)
        for run in runs:
            run.ticks += 1
        return max((run.ticks for run in runs), default=0)

    def give_up(self, error: ServingError, reason: str) -> None:
        """End every call that waits or runs here with an error, and refuse others with it; rows drop for a reason."""
        with self._backlog.lock:
            self._given_up = error
            entries = self.queue.entries()
        for entry in entries:
            self.discard(entry, reason)
        for entry in (*entries, *(entry for run in list(self._under_way) for entry, *_ in run.slices)):
            entry.call.fail(error)

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
        while (rest := seconds_to_fill(self.queue.rows, self.plan.max_rows, self._window_end)) > 0:
            self._grown.wait(rest)

    def _run_batch(self) -> None:
        now = time.monotonic()
        with self._backlog.lock:
            slices, expired = self.queue.take(now, self._fair_share())
            rows = sum([stop - start for _, _, start, stop in slices])
            self._busy += 1
            self._running_rows += rows
        try:
            self._expire(expired)
            if slices:
                self._run(slices, now)
        except Exception as error:
            # Whatever it is, it ends these calls and not the thread.
            _LOGGER.exception("a batch has failed outside its graph")
            for entry, *_ in slices:
                entry.call.fail(error)
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
        run = Run(slices)
        self._under_way.add(run)
        try:
            outputs = self._session.run(batch)
        except Exception as error:  # noqa: BLE001 (whatever a provider raises)
            self._under_way.discard(run)
            self._isolate(slices, error)
            return False
        finally:
            self._under_way.discard(run)
        if len(slices) > 1:
            self._joint_failures = 0
        seconds = time.monotonic() - started
        rows = len(batch)
        if 2 * rows >= self.plan.max_rows:
            self._seconds_per_row += _RATE_WEIGHT * (seconds / rows - self._seconds_per_row)
        self._observer.ran(rows, seconds, [started - entry.queued for entry, _, start, _ in slices if start == 0])
        if self._traced is not None:
            self._traced([entry.call for entry, *_ in slices], started, seconds)
        self._deliver(slices, outputs, started, seconds)
        return True

    def _assemble(self, slices: list[Slice]) -> Array:
        session = self._session
        data, start, rows = joined(slices, session.row_bytes)
        return np.ndarray((rows, *session.row_shape), session.dtype, data, start)

    def _isolate(self, slices: list[Slice], error: BaseException) -> None:
        """A run has failed: run each request alone, so that none is harmed by its neighbours."""
        if self._given_up is not None:
            return
        if len(slices) > 1:
            alone = [self._run([piece], time.monotonic()) for piece in slices]
            if all(alone):
                self._note_joint_failure(slices, error)
            return
        _LOGGER.error("a graph run has failed", exc_info=error)
        slices[0][0].call.fail(error)
        self._failed(error, certain=False)

    def _note_joint_failure(self, slices: list[Slice], error: BaseException) -> None:
        """Requests that fail together and succeed alone tell of the session, not of a request."""
        self._joint_failures += 1
        if self._joint_failures == 1:
            _LOGGER.error("a run of %d requests has failed that succeed alone", len(slices), exc_info=error)
        if self._joint_failures == _MAX_JOINT_FAILURES:
            self._failed(error, certain=True)

    def _deliver(self, slices: list[Slice], outputs: Sequence[Array], started: float, seconds: float) -> None:
        """Hand outputs on, those of requests that go on alike together."""
        rows = len(outputs[0])
        spoiled = spoiled_rows(outputs)
        first = 0
        alike: dict[Done, list[Entry]] = {}
        for entry, _, start, stop in slices:
            call = entry.call
            size = stop - start
            if not call.open:
                pass
            elif spoiled is not None and spoiled[first : first + size].any():
                call.fail(NotFiniteError())
            elif size == entry.count:
                call.note_run(started - entry.queued, seconds, rows)
                entry.first = first
                alike.setdefault(entry.done, []).append(entry)
            else:
                part = [output[first : first + size] for output in outputs]
                with self._backlog.lock:
                    call.note_run(started - entry.queued if start == 0 else 0.0, seconds, rows)
                    complete = entry.add_part(start, part)
                if complete:
                    _finish(entry.done, [entry], entry.joined_parts())
            first += size
        for done, entries in alike.items():
            _finish(done, entries, outputs)


def _finish(done: Done, entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
    try:
        done(entries, outputs)
    except Exception as error:  # noqa: BLE001 (it becomes the calls' status)
        for entry in entries:
            entry.call.fail(error)
