"""Which thread does what: quick graphs on the thread that hands in the rows, everything slow on workers."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

# Batchers bound their own runs, so this only has to be more than they ever ask for: one slow model waits for nobody.
_MAX_RUN_THREADS = 1024


class InlineWork(Protocol):
    """Rows waiting for a quick graph."""

    def run_once(self) -> None:
        """Run one batch, if there is one and nobody else is at it."""
        ...


class Dispatcher:
    """Threads for graph runs and for heavy messages, and the list of quick graphs that have rows waiting.

    Whoever submits rows calls `run_ready` afterwards; between two calls a transport can take in more requests,
    which is what makes batches.
    """

    def __init__(self, heavy_threads: int) -> None:
        self._ready: deque[InlineWork] = deque()
        self._runs = ThreadPoolExecutor(_MAX_RUN_THREADS, "run")
        self._heavy = ThreadPoolExecutor(heavy_threads, "heavy")

    def add_ready(self, work: InlineWork) -> None:
        """Note that a quick graph has rows."""
        self._ready.append(work)

    def run_ready(self) -> bool:
        """Run one batch of each quick graph that has rows; true when some are left."""
        for _ in range(len(self._ready)):
            # Another thread may have taken it meanwhile.
            with suppress(IndexError):
                self._ready.popleft().run_once()
        return bool(self._ready)

    def start_run(self, job: Callable[[], None]) -> None:
        """Run a slow graph's loop on a worker."""
        self._runs.submit(job)

    def offload(self, job: Callable[[], None]) -> None:
        """Do heavy work on a message (large ones, image files) away from the transport's thread."""
        self._heavy.submit(self._do, job)

    def close(self) -> None:
        """Wait for what is running."""
        self._heavy.shutdown()
        self._runs.shutdown()

    def _do(self, job: Callable[[], None]) -> None:
        job()
        while self.run_ready():
            pass
