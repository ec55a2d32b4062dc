"""Serial executor: jobs run one after the other on a thread of their own. Also: one function on a new thread."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any, TypeVar

from server.errors import UnavailableError

T = TypeVar("T")
_LOGGER = logging.getLogger(__name__)
# A job under way ends at its next step, which may be a long one: the thread is a daemon and need not be awaited.
_CLOSE_SECONDS = 1.0


class ThreadStartError(Exception):
    """The process, its container or the machine has as many threads as it may have."""


class SerialExecutor:
    """Runs jobs in the order in which they were submitted, and one scheduled job when its time has come.

    A job that raises is logged and the next one runs.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._scheduled: tuple[float, Callable[[], None]] | None = None
        self._closed: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    @property
    def closed(self) -> bool:
        """Whether no more work may start."""
        return self._closed.done()

    def start(self) -> None:
        """Run what has been submitted, and what will be."""
        self._thread.start()

    def close(self) -> None:
        """Start no more jobs."""
        self._closed.set_result(None)
        self._jobs.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job soon; from any thread."""
        self._jobs.put(job)

    def schedule(self, seconds: float | None, job: Callable[[], None]) -> None:
        """Run a job after a time, or never, in place of the one scheduled before; to be called by a job."""
        self._scheduled = None if seconds is None else (time.monotonic() + seconds, job)

    def run(self, job: Callable[[], T]) -> T:
        """Run a job and wait for its result, on another thread; raises what the job raises.

        Raises:
            UnavailableError: the executor is closed first.
        """
        outcome: Future[T] = Future()
        self.submit(partial(_settle, outcome, job))
        self.wait(outcome)
        return outcome.result()

    def wait(self, work: Future[Any]) -> None:
        """Wait for work that other threads do, on another thread than this one.

        Raises:
            UnavailableError: the executor is closed first.
        """
        if not self.ends(work):
            raise UnavailableError("The server is stopping: no model can be loaded or unloaded.")

    def ends(self, work: Future[Any], seconds: float | None = None) -> bool:
        """Wait for work, at most for that time and until the executor is closed; whether the work is done."""
        wait((work, self._closed), seconds, FIRST_COMPLETED)
        return work.done()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception:
                _LOGGER.exception("a job of thread %r failed", self._thread.name)

    def _next(self) -> Callable[[], None] | None:
        if self._scheduled is None:
            return self._jobs.get()
        due, job = self._scheduled
        try:
            return self._jobs.get(timeout=max(due - time.monotonic(), 0.0))
        except queue.Empty:
            self._scheduled = None
            return job


class Guard:
    """Runs jobs that are repeated in rounds: one that raises ends nothing, and is logged once until it has passed."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._known: set[str] = set()
        self._failing: set[str] = set()

    def run(self, job: Callable[[], None]) -> None:
        """Run a job; a disk that fails for a while must not end the thread."""
        try:
            job()
        except Exception as error:
            failure = repr(error)
            if failure not in self._known | self._failing:
                _LOGGER.exception("%s failed", self._what)
            self._failing.add(failure)

    def end_round(self) -> None:
        """Note that all jobs have had their turn."""
        self._known, self._failing = self._failing, set()


def run_in_thread(name: str, job: Callable[[], T]) -> Future[T]:
    """Run a job on its own daemon thread, which need not be awaited.

    The outcome is a ThreadStartError when there can be no more threads.
    """
    outcome: Future[T] = Future()
    try:
        threading.Thread(target=_settle, args=(outcome, job), name=name, daemon=True).start()
    except RuntimeError as error:
        outcome.set_exception(
            ThreadStartError(f"{error}: raise the limit of threads (ulimit -u, or pids of the container)")
        )
    return outcome


def _settle(outcome: Future[T], job: Callable[[], T]) -> None:
    try:
        result = job()
    except BaseException as error:  # noqa: BLE001 (raised where the outcome is asked for)
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
