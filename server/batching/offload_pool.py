"""Heavy work on messages, such as decoding files: a few threads, and a queue that does not grow without end."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from server.config import HeavyConfig
from server.errors import OverloadedError

_LOGGER = logging.getLogger(__name__)
# Weight of the latest job in the running mean of how long one takes.
_RATE_WEIGHT = 0.1

Job: TypeAlias = Callable[[], None]


class _Line:
    """What waits and runs of one caller."""

    __slots__ = ("caller", "jobs", "size_bytes", "waiting")

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.waiting: deque[tuple[Job, int]] = deque()
        self.jobs = 0
        self.size_bytes = 0


class HeavyWork:
    """Jobs of callers who take turns, each one's in the order in which they came.

    Where more than half of what may wait does, a caller may have no more there than is free, as in `admission.py`.
    Those who are not told apart are one caller without a name, who may fill it.
    """

    def __init__(self, config: HeavyConfig) -> None:
        self._threads = config.heavy_threads
        self._max_jobs, self._max_bytes = config.max_heavy_jobs, config.max_heavy_bytes
        self._pool = ThreadPoolExecutor(config.heavy_threads, "heavy")
        self._lock = threading.Lock()
        self._jobs = 0
        self._bytes = 0
        self._seconds_per_job = 0.0
        self._lines: dict[str, _Line] = {}
        # Those that have jobs waiting; whose turn it is comes first.
        self._ring: deque[_Line] = deque()

    def submit(self, job: Job, size_bytes: int, caller: str = "") -> None:
        """Queue a job that holds `size_bytes` of messages.

        Raises:
            OverloadedError: too many jobs or bytes wait, of all callers or of this one.
        """
        with self._lock:
            line = self._lines.get(caller) or _Line(caller)
            self._check(line, size_bytes)
            self._lines[caller] = line
            if not line.waiting:
                self._ring.append(line)
            line.waiting.append((job, size_bytes))
            self._count(line, 1, size_bytes)
        self._pool.submit(self._do_next)

    def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        self._pool.shutdown(cancel_futures=True)

    def _check(self, line: _Line, size_bytes: int) -> None:
        jobs, size = self._jobs + 1, self._bytes + size_bytes
        # A message of any size the server takes has its turn when nothing else waits.
        if jobs > self._max_jobs or (self._jobs and size > self._max_bytes):
            raise OverloadedError(
                f"{self._jobs} requests of {self._bytes} bytes wait for a thread that reads large messages and "
                f"image files, of {self._max_jobs} and {self._max_bytes} that may wait: try again later",
                self._jobs * self._seconds_per_job / self._threads,
            )
        if not (line.caller and self._jobs):
            return
        many = 2 * jobs > self._max_jobs and line.jobs + 1 > self._max_jobs - jobs
        if many or (2 * size > self._max_bytes and line.size_bytes + size_bytes > self._max_bytes - size):
            raise OverloadedError(
                f"{line.jobs} requests of {line.size_bytes} bytes of this caller wait for a thread that reads large "
                "messages and image files, and the room that is left is for others: try again later",
                line.jobs * self._seconds_per_job / self._threads,
            )

    def _do_next(self) -> None:
        """Do one job of the caller whose turn it is."""
        with self._lock:
            line = self._ring.popleft()
            job, size_bytes = line.waiting.popleft()
            if line.waiting:
                self._ring.append(line)
        started = time.monotonic()
        try:
            job()
        except Exception:
            _LOGGER.exception("heavy work has failed")
        seconds = time.monotonic() - started
        with self._lock:
            self._count(line, -1, -size_bytes)
            self._seconds_per_job += _RATE_WEIGHT * (seconds - self._seconds_per_job)

    def _count(self, line: _Line, jobs: int, size_bytes: int) -> None:
        self._jobs += jobs
        self._bytes += size_bytes
        line.jobs += jobs
        line.size_bytes += size_bytes
        if not line.jobs:
            del self._lines[line.caller]
