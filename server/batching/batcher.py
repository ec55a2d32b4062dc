"""Dynamic batching: rows of many requests in one graph run, which starts when the session is free."""

import logging
import threading
import time
from collections.abc import Sequence

import numpy as np

from server.batching.admission import Admission
from server.batching.entry import Backlog, Done, Entry, Slice, join_rows, outputs_of
from server.batching.executor import Executor
from server.batching.gather import seconds_to_fill
from server.batching.output_check import NotFiniteError, non_finite_rows
from server.batching.policy import BatchPolicy
from server.batching.row_queue import RowQueue
from server.batching.run import GraphRunner, Run, RunHooks
from server.calls.call import FOREVER
from server.errors import DeadlineError, ServingError
from server.types import Array

_LOGGER = logging.getLogger(__name__)
# Weight of the latest full run in the running mean of its speed.
_RATE_WEIGHT = 0.1
# Consecutive batches that fail although each of their requests succeeds alone, after which the session is replaced.
_MAX_JOINT_FAILURES = 3


class Batcher:
    """The queue of one graph, and its runs."""

    def __init__(
        self,
        session: GraphRunner,
        policy: BatchPolicy,
        backlog: Backlog,
        executor: Executor,
        hooks: RunHooks,
        queue: RowQueue | None = None,
    ) -> None:
        self.policy = policy
        self.queue = RowQueue(backlog, policy.max_rows) if queue is None else queue
        self._admission = Admission(backlog, self.queue, hooks.listener)
        self._session = session
        self._backlog = backlog
        self._executor = executor
        self._listener = hooks.listener
        self._failed = hooks.failed
        self._traced = hooks.traced
        self._observe = hooks.outputs
        self._running = 0
        self._busy = 0
        self._running_rows = 0
        self._joint_failures = 0
        self._scheduled = False
        self._runs: set[Run] = set()
        self._abandoned_with: ServingError | None = None
        self._grown = threading.Condition(backlog.lock)
        self._window_end = 0.0
        self._seconds_per_row = policy.seconds_per_row

    def submit(self, entry: Entry, now: float) -> None:
        """Queue an entry that arrived at `now`, a time of time.monotonic().

        Raises:
            DeadlineError: its deadline has passed.
            OverloadedError: too many rows are queued, of all callers or of this one, to run before its deadline.
            ServingError: the batcher was abandoned.
        """
        entry.queue = self
        call = entry.call
        call.entry = entry
        policy = self.policy
        with self._backlog.lock:
            if entry.dropped or not call.open:
                call.entry = None
                return
            if self._abandoned_with is not None:
                raise self._abandoned_with
            if call.deadline != FOREVER or self._backlog.crowded(entry.count):
                seconds = self._seconds_per_row / policy.concurrent_runs
                self._admission.check(entry, now, self._running_rows, seconds)
            if policy.max_delay_seconds:
                self._open_window(now)
            self.queue.push(entry, now)
            if policy.inline:
                idle = not self._scheduled
                self._scheduled = True
            else:
                idle = self._running < policy.concurrent_runs
                self._running += idle
        if not idle:
            return
        if policy.inline:
            self._executor.add_ready(self)
        else:
            self._executor.start_run(self._work)

    def discard(self, entry: Entry, reason: str) -> None:
        """Take an entry out of the queue; its answer is no longer needed."""
        with self._backlog.lock:
            rows = self.queue.drop(entry)
        if rows:
            self._listener.dropped(reason, rows)

    @property
    def abandoned(self) -> bool:
        """Whether it was abandoned and runs nothing more."""
        return self._abandoned_with is not None

    @property
    def busy(self) -> bool:
        """Whether a run is in progress."""
        return bool(self._runs)

    def tick(self) -> int:
        """Count one look of the watchdog at each run in progress; return the count of the longest run."""
        runs = list(self._runs)
        for run in runs:
            run.ticks += 1
        return max((run.ticks for run in runs), default=0)

    def abandon(self, error: ServingError, reason: str) -> None:
        """Give it up: end every call that waits or runs here with an error, and refuse others with the same error.

        `reason` is what its rows are counted as dropped for.
        """
        with self._backlog.lock:
            self._abandoned_with = error
            entries = self.queue.entries()
        for entry in entries:
            self.discard(entry, reason)
        for entry in (*entries, *(entry for run in list(self._runs) for entry, *_ in run.slices)):
            entry.call.fail(error)

    def run_once(self) -> None:
        """Run one batch on this thread, unless the maximum number of concurrent runs is reached."""
        with self._backlog.lock:
            self._scheduled = False
            if self._running >= self.policy.concurrent_runs:
                return
            self._running += 1
        self._run_batch()
        with self._backlog.lock:
            self._running -= 1
            schedule = self.queue.rows > 0 and not self._scheduled
            self._scheduled |= schedule
        if schedule:
            self._executor.add_ready(self)

    def _work(self) -> None:
        """Run batches on a worker thread until nothing waits."""
        while True:
            with self._backlog.lock:
                self._gather()
                if self.queue.rows == 0:
                    self._running -= 1
                    return
            self._run_batch()
            # Answers may have queued rows for quick graphs.
            self._executor.run_after()

    def _open_window(self, now: float) -> None:
        if self.queue.rows == 0:
            self._window_end = now + self.policy.max_delay_seconds
        self._grown.notify()

    def _gather(self) -> None:
        """Give a batch time to fill, if the settings ask for it."""
        while (rest := seconds_to_fill(self.queue.rows, self.policy.max_rows, self._window_end)) > 0:
            self._grown.wait(rest)

    def _run_batch(self) -> None:
        with self._backlog.lock:
            now = time.monotonic()
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
            _LOGGER.exception("a batch failed outside its graph")
            for entry, *_ in slices:
                entry.call.fail(error)
        finally:
            with self._backlog.lock:
                self._busy -= 1
                self._running_rows -= rows

    def _expire(self, expired: list[tuple[Entry, int]]) -> None:
        for entry, rows in expired:
            self._listener.dropped("deadline", rows)
            entry.call.fail(DeadlineError("The deadline passed while the request waited."))

    def _fair_share(self) -> int:
        """Rows of this run, so that idle runs get as many, but no run is too small to be worthwhile."""
        idle = self.policy.concurrent_runs - self._busy
        return max(-(-self.queue.rows // idle), self.policy.shared_rows)

    def _run(self, slices: list[Slice], started: float) -> bool:
        """Run rows and deliver their outputs; return whether the run succeeded."""
        run = Run(slices)
        self._runs.add(run)
        try:
            outputs = self._compute(slices)
        except Exception as error:  # noqa: BLE001 (whatever a provider raises)
            self._runs.discard(run)
            self._isolate(slices, error)
            return False
        finally:
            self._runs.discard(run)
        if len(slices) > 1:
            self._joint_failures = 0
        seconds = time.monotonic() - started
        rows = len(outputs[0])
        if 2 * rows >= self.policy.max_rows:
            self._seconds_per_row += _RATE_WEIGHT * (seconds / rows - self._seconds_per_row)
        self._listener.ran(rows, seconds, [started - entry.queued for entry, _, start, _ in slices if start == 0])
        if self._traced is not None:
            self._traced([entry.call for entry, *_ in slices], started, seconds)
        self._deliver(slices, outputs, started, seconds)
        return True

    def _compute(self, slices: list[Slice]) -> Sequence[Array]:
        """Return the (rows, …) outputs of one run."""
        session = self._session
        data, start, rows = join_rows(slices, session.row_bytes)
        return session.run(np.ndarray((rows, *session.row_shape), session.dtype, data, start))

    def _isolate(self, slices: list[Slice], error: BaseException) -> None:
        """After a failed run, run each request alone, so that none fails because of another."""
        if self._abandoned_with is not None:
            return
        if len(slices) > 1:
            alone = [self._run([piece], time.monotonic()) for piece in slices]
            if all(alone):
                self._note_joint_failure(slices, error)
            return
        _LOGGER.error("a graph run failed", exc_info=error)
        slices[0][0].call.fail(error)
        self._failed(error, certain=False)

    def _note_joint_failure(self, slices: list[Slice], error: BaseException) -> None:
        """Count batches whose requests fail together and succeed alone: the session is at fault, not a request."""
        self._joint_failures += 1
        if self._joint_failures == 1:
            _LOGGER.error("a run of %d requests failed, each of which succeeds alone", len(slices), exc_info=error)
        if self._joint_failures == _MAX_JOINT_FAILURES:
            self._failed(error, certain=True)

    def _deliver(self, slices: list[Slice], outputs: Sequence[Array], started: float, seconds: float) -> None:
        """Deliver outputs, those of requests with the same callback together."""
        rows = len(outputs[0])
        bad = non_finite_rows(outputs)
        first = 0
        together: dict[Done, list[Entry]] = {}
        for entry, _, start, stop in slices:
            call = entry.call
            size = stop - start
            if not call.open:
                pass
            elif bad is not None and bad[first : first + size].any():
                call.fail(NotFiniteError())
            elif size == entry.count:
                call.note_run(started - entry.queued, seconds, rows)
                entry.first = first
                together.setdefault(entry.done, []).append(entry)
            else:
                part = [output[first : first + size] for output in outputs]
                with self._backlog.lock:
                    call.note_run(started - entry.queued if start == 0 else 0.0, seconds, rows)
                    complete = entry.add_part(start, part)
                if complete:
                    self._finish(entry.done, [entry], entry.joined_parts())
            first += size
        for done, entries in together.items():
            self._finish(done, entries, outputs)

    def _finish(self, done: Done, entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
        """Hand outputs over to the callback that answers, and to the one that observes them."""
        try:
            if self._observe is not None and not entries[0].intermediate:
                self._observe(outputs_of(entries, outputs))
            done(entries, outputs)
        except Exception as error:  # noqa: BLE001 (it becomes the calls' status)
            for entry in entries:
                entry.call.fail(error)
