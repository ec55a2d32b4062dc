"""Jobs done one after the other on a thread of their own."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from server.errors import UnavailableError

# A job under way ends at its next step, which may be a long one: the thread is a daemon and need not be awaited.
_CLOSE_SECONDS = 1.0


class Jobs:
    """A thread that does `first`, then what comes in, and `idle` when nothing has for `pause()` seconds.

    `guarded` does a job and raises nothing.
    """

    def __init__(
        self,
        name: str,
        first: Callable[[], None],
        idle: Callable[[], None],
        pause: Callable[[], float | None],
        guarded: Callable[[Callable[[], None]], None],
    ) -> None:
        self._first, self._idle, self._pause, self._guarded = first, idle, pause, guarded
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closed: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def closed(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._closed.done()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Begin nothing more."""
        self._closed.set_result(None)
        self._jobs.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def put(self, job: Callable[[], None]) -> None:
        """Do a job soon."""
        self._jobs.put(job)

    def wait_for(self, job: Callable[[], None]) -> None:
        """Do a job, and wait for its end.

        Raises:
            UnavailableError: the thread is closed first.
        """
        done: Future[None] = Future()

        def run() -> None:
            try:
                job()
            finally:
                done.set_result(None)

        self._jobs.put(run)
        self.await_end(done)

    def await_end(self, work: "Future[Any]") -> None:
        """Wait on another thread for work that is done on yet another one.

        Raises:
            UnavailableError: this one is closed first.
        """
        if not self.ends(work):
            raise UnavailableError("The server is stopping: it loads and unloads nothing more.")

    def ends(self, work: "Future[Any]", seconds: float | None = None) -> bool:
        """Wait for work, so long at most and no longer than until the end; whether it is done."""
        wait((work, self._closed), seconds, FIRST_COMPLETED)
        return work.done()

    def _run(self) -> None:
        self._guarded(self._first)
        while True:
            try:
                job = self._jobs.get(timeout=self._pause())
            except queue.Empty:
                job = self._idle
            if job is None:
                return
            self._guarded(job)
