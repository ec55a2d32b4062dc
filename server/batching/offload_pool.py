"""Bounded thread pool for slow work on messages, such as decoding image files."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from server.errors import OverloadedError
from server.execution_config import HeavyConfig

_LOGGER = logging.getLogger(__name__)
# Weight of the latest job in the running mean of how long one takes.
_RATE_WEIGHT = 0.1

Job: TypeAlias = Callable[[], None]


class _CallerQueue:
    """The jobs of one caller that wait or run."""

    __slots__ = ("caller", "jobs", "size_bytes", "waiting")

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.waiting: deque[tuple[Job, int]] = deque()
        self.jobs = 0
        self.size_bytes = 0


class OffloadPool:
    """Runs jobs of callers in turns (round robin), those of one caller in the order of arrival.

    When the queue is more than half full, a caller may have no more in it than remains free, as in `admission.py`.
    Jobs without a caller's name share one queue, which may fill the pool's.
    """

    def __init__(self, config: HeavyConfig) -> None:
        self._threads = config.heavy_threads
        self._max_jobs, self._max_bytes = config.max_heavy_jobs, config.max_heavy_bytes
        self._pool = ThreadPoolExecutor(config.heavy_threads, "heavy")
        self._lock = threading.Lock()
        self._jobs = 0
        self._bytes = 0
        self._seconds_per_job = 0.0
        self._queues: dict[str, _CallerQueue] = {}
        # Callers that have jobs waiting; the next one to be served comes first.
        self._ring: deque[_CallerQueue] = deque()

    def submit(self, job: Job, size_bytes: int, caller: str = "") -> None:
        """Queue a job that holds `size_bytes` of messages.

        Raises:
            OverloadedError: too many jobs or bytes are queued, of all callers or of this one.
        """
        with self._lock:
            queue = self._queues.get(caller) or _CallerQueue(caller)
            self._check(queue, size_bytes)
            self._queues[caller] = queue
            if not queue.waiting:
                self._ring.append(queue)
            queue.waiting.append((job, size_bytes))
            self._count(queue, 1, size_bytes)
        self._pool.submit(self._do_next)

    def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        self._pool.shutdown(cancel_futures=True)

    def _check(self, queue: _CallerQueue, size_bytes: int) -> None:
        jobs, size = self._jobs + 1, self._bytes + size_bytes
        # With nothing else queued, a message of any size that the server accepts is admitted.
        if jobs > self._max_jobs or (self._jobs and size > self._max_bytes):
            raise OverloadedError(
                f"{self._jobs} requests of {self._bytes} bytes wait for a thread that reads large messages and "
                f"image files; the limits are {self._max_jobs} and {self._max_bytes}: try again later",
                self._jobs * self._seconds_per_job / self._threads,
            )
        if not (queue.caller and self._jobs):
            return
        many = 2 * jobs > self._max_jobs and queue.jobs + 1 > self._max_jobs - jobs
        if many or (2 * size > self._max_bytes and queue.size_bytes + size_bytes > self._max_bytes - size):
            raise OverloadedError(
                f"{queue.jobs} requests of {queue.size_bytes} bytes of this caller wait for a thread that reads large "
                "messages and image files, and the remaining room is for other callers: try again later",
                queue.jobs * self._seconds_per_job / self._threads,
            )

    def _do_next(self) -> None:
        """Do one job of the next caller."""
        with self._lock:
            queue = self._ring.popleft()
            job, size_bytes = queue.waiting.popleft()
            if queue.waiting:
                self._ring.append(queue)
        started = time.monotonic()
        try:
            job()
        except Exception:
            _LOGGER.exception("offloaded work failed")
        seconds = time.monotonic() - started
        with self._lock:
            self._count(queue, -1, -size_bytes)
            self._seconds_per_job += _RATE_WEIGHT * (seconds - self._seconds_per_job)

    def _count(self, queue: _CallerQueue, jobs: int, size_bytes: int) -> None:
        self._jobs += jobs
        self._bytes += size_bytes
        queue.jobs += jobs
        queue.size_bytes += size_bytes
        if not queue.jobs:
            del self._queues[queue.caller]
