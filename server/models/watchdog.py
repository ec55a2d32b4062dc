"""Graph runs that do not end: seen, given up, interrupted where onnxruntime lets itself be interrupted."""

import logging
import threading
from collections.abc import Callable

from server.errors import UnavailableError
from server.models.bounded import Clock
from server.models.table import ModelTable, ServedModel

_LOGGER = logging.getLogger(__name__)


class HangWatch:
    """Looks at the runs of every version that serves or has not come to rest, and gives up those that take too long."""

    def __init__(self, table: ModelTable, limit_seconds: float, hung: Callable[[ServedModel, str], None]) -> None:
        self._table = table
        self._limit_seconds = limit_seconds
        self._hung = hung
        self._clock = Clock(limit_seconds)
        self._watched: set[ServedModel] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hangs", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._thread.join()

    def give_up_all(self, error: UnavailableError) -> None:
        """End every call that has rows in a graph, and interrupt the runs."""
        for served in self._watched | set(self._table.all()):
            served.give_up(error, "draining")

    def _watch(self) -> None:
        while not self._closed.wait(self._clock.tick_seconds):
            try:
                self._look()
            except Exception:
                _LOGGER.exception("looking for runs that do not end has failed")

    def _look(self) -> None:
        serving = set(self._table.all())
        for served in self._watched | serving:
            # One tick more than the limit has: the first may have come right after the run began.
            if served.tick() > self._clock.ticks and not served.given_up:
                self._give_up(served)
        self._watched = {served for served in self._watched | serving if served in serving or served.busy}

    def _give_up(self, served: ServedModel) -> None:
        reason = f"a run has taken longer than {self._limit_seconds:g} s"
        _LOGGER.error("%s version %s is withdrawn: %s", served.name, served.version, reason)
        served.give_up(UnavailableError(f"The model does not serve now: {reason}."), "failed")
        self._hung(served, reason)
