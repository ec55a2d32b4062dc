"""Heavy work on messages, such as decoding files: a few threads, and a queue that does not grow without end."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from server.errors import OverloadedError

_LOGGER = logging.getLogger(__name__)
MAX_JOBS = 1024
MAX_BYTES = 512 * 1024 * 1024
# Weight of the latest job in the running mean of how long one takes.
_RATE_WEIGHT = 0.1


class HeavyWork:
    """Jobs in the order in which they came."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "heavy")
        self._lock = threading.Lock()
        self._jobs = 0
        self._bytes = 0
        self._seconds_per_job = 0.0

    def submit(self, job: Callable[[], None], size_bytes: int) -> None:
        """Queue a job that holds `size_bytes` of messages.

        Raises:
            OverloadedError: too many jobs or bytes wait.
        """
        with self._lock:
            # A message of any size the server takes has its turn when nothing else waits.
            if self._jobs >= MAX_JOBS or (self._jobs and self._bytes + size_bytes > MAX_BYTES):
                raise OverloadedError(
                    f"{self._jobs} requests of {self._bytes} bytes wait for a thread that reads large messages and "
                    f"image files, of {MAX_JOBS} and {MAX_BYTES} that may wait: try again later",
                    self._jobs * self._seconds_per_job / self._threads,
                )
            self._jobs += 1
            self._bytes += size_bytes
        self._pool.submit(self._do, job, size_bytes)

    def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        self._pool.shutdown(cancel_futures=True)

    def _do(self, job: Callable[[], None], size_bytes: int) -> None:
        started = time.monotonic()
        try:
            job()
        except Exception:
            _LOGGER.exception("heavy work has failed")
        seconds = time.monotonic() - started
        with self._lock:
            self._jobs -= 1
            self._bytes -= size_bytes
            self._seconds_per_job += _RATE_WEIGHT * (seconds - self._seconds_per_job)
