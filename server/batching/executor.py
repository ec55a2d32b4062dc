"""Thread pools of the server: quick graphs run on the thread that submits the rows, everything slow on workers."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from server.batching.offload_pool import OffloadPool
from server.execution_config import HeavyConfig

_LOGGER = logging.getLogger(__name__)
# Batchers limit their own runs, so this only has to exceed their sum: one slow model must not delay another.
_MAX_RUN_THREADS = 1024


class InlineWork(Protocol):
    """Rows waiting for a quick graph."""

    def run_once(self) -> None:
        """Run one batch, if there is one and no other thread runs it."""
        ...


class Executor:
    """Threads for graph runs and for heavy messages, and the list of quick graphs that have rows waiting.

    A thread that submits rows calls `run_ready` afterwards. Until then a transport can accept more requests, which
    share a batch; `GatherPolicy` says for how long.
    """

    def __init__(self, heavy: HeavyConfig, *, fair: bool = True) -> None:
        self._ready: deque[InlineWork] = deque()
        self._runs = ThreadPoolExecutor(_MAX_RUN_THREADS, "run")
        self._offload_pool = OffloadPool(heavy)
        self._fair = fair
        self._turn = threading.local()

    def add_ready(self, work: InlineWork) -> None:
        """Note that a quick graph has rows."""
        self._ready.append(work)

    def run_ready(self) -> bool:
        """Run one batch of each quick graph that has rows; returns whether rows are left."""
        for _ in range(len(self._ready)):
            try:
                work = self._ready.popleft()
            except IndexError:
                # Another thread has taken it in the meantime.
                break
            _logged(work.run_once)
        return bool(self._ready)

    def run_after(self) -> None:
        """Run one batch of quick graphs that the caller's work made ready; a worker runs the rest."""
        if self.run_ready():
            self.start_run(self._run_rest)

    def start_run(self, job: Callable[[], None]) -> None:
        """Run a slow graph's loop on a worker."""
        self._runs.submit(_logged, job)

    def offload(self, job: Callable[[], None], size_bytes: int = 0, caller: str = "") -> None:
        """Do slow work on a message of this size (a large one, image files) away from the transport's thread.

        Work that belongs to a job is done at once: the job has waited for its turn.

        Raises:
            OverloadedError: too many jobs are queued, of all callers or of this one.
        """
        if getattr(self._turn, "taken", False):
            job()
            return
        self._offload_pool.submit(partial(self._do, job), size_bytes, caller if self._fair else "")

    def close(self, seconds: float | None = None) -> bool:
        """Start nothing more and wait up to `seconds` for what runs; return whether all of it ended."""
        closing = threading.Thread(target=self._shut_down, name="closing", daemon=True)
        closing.start()
        closing.join(seconds)
        return not closing.is_alive()

    def _shut_down(self) -> None:
        self._offload_pool.close()
        self._runs.shutdown()

    def _do(self, job: Callable[[], None]) -> None:
        self._turn.taken = True
        try:
            job()
        finally:
            # The batches that follow answer other calls too.
            self._turn.taken = False
        self.run_after()

    def _run_rest(self) -> None:
        while self.run_ready():
            pass


def _logged(job: Callable[[], None]) -> None:
    try:
        job()
    except Exception:
        # A pool would swallow it, a transport's only thread would end.
        _LOGGER.exception("work on a graph failed")
