"""Watchdog: graph runs and loads that exceed their time limit are abandoned, and interrupted where possible."""

import logging
import threading
from collections.abc import Callable
from math import ceil
from typing import TypeVar

from server.errors import UnavailableError
from server.models.job_thread import run_in_thread
from server.models.table import ModelTable, ServedModel

T = TypeVar("T")
_LOGGER = logging.getLogger(__name__)
_MAX_TICK_SECONDS = 1.0
_MIN_TICKS = 10


class TimedOutError(Exception):
    """Work has exceeded its time limit."""


class CancelledError(Exception):
    """Work has been cancelled."""


class TimeLimit:
    """A time limit counted in ticks of at most a second: the time for which a process is suspended does not count."""

    def __init__(self, seconds: float) -> None:
        self.tick_seconds = min(seconds / _MIN_TICKS, _MAX_TICK_SECONDS)
        self.ticks = ceil(seconds / self.tick_seconds)


class Watchdog:
    """Watches the runs of all versions that serve or still have runs, and abandons those that exceed the limit.

    `on_hang` is called with the version and the reason, on the watchdog's thread.
    """

    def __init__(self, table: ModelTable, limit_seconds: float, on_hang: Callable[[ServedModel, str], None]) -> None:
        self._table = table
        self._limit_seconds = limit_seconds
        self._on_hang = on_hang
        self._limit = TimeLimit(limit_seconds)
        self._watched: set[ServedModel] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._thread.join()

    def abandon_all(self, error: UnavailableError) -> None:
        """End every call that has rows in a graph, and interrupt the runs."""
        for served in self._watched | set(self._table.all()):
            served.abandon(error, "draining")

    def _watch(self) -> None:
        while not self._closed.wait(self._limit.tick_seconds):
            try:
                self._look()
            except Exception:
                _LOGGER.exception("checking for runs that exceed their time limit failed")

    def _look(self) -> None:
        serving = set(self._table.all())
        for served in self._watched | serving:
            # One tick more than the limit has: the first may have come right after the run began.
            if served.tick() > self._limit.ticks and not served.abandoned:
                self._abandon(served)
        self._watched = {served for served in self._watched | serving if served in serving or served.busy}

    def _abandon(self, served: ServedModel) -> None:
        reason = f"a run has taken longer than {self._limit_seconds:g} s"
        _LOGGER.error("%s version %s is withdrawn: %s", served.name, served.version, reason)
        served.abandon(UnavailableError(f"The model does not serve now: {reason}."), "failed")
        self._on_hang(served, reason)


def run_with_timeout(job: Callable[[], T], seconds: float, name: str, cancelled: Callable[[], bool] = bool) -> T:
    """Run a job on a thread of its own, which is abandoned if it does not return in time.

    Raises:
        TimedOutError: it takes longer.
        CancelledError: `cancelled` has become true.
    """
    outcome = run_in_thread(name, job)
    ended = threading.Event()
    outcome.add_done_callback(lambda _: ended.set())
    limit = TimeLimit(seconds)
    for _ in range(limit.ticks):
        if ended.wait(limit.tick_seconds):
            return outcome.result()
        if cancelled():
            raise CancelledError
    raise TimedOutError
