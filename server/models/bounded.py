"""Work that may never end, such as a stranger's graph: waited for no longer than it may take."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from math import ceil
from typing import TypeVar

T = TypeVar("T")
_LONGEST_TICK_SECONDS = 1.0
_LEAST_TICKS = 10


class OverdueError(Exception):
    """Work has taken longer than it may."""


class UnwantedError(Exception):
    """Nobody waits for the work any more."""


class Clock:
    """A time limit in ticks that are waited for one by one: a process that was suspended has not used it up."""

    def __init__(self, seconds: float) -> None:
        self.tick_seconds = min(seconds / _LEAST_TICKS, _LONGEST_TICK_SECONDS)
        self.ticks = ceil(seconds / self.tick_seconds)


def bounded(job: Callable[[], T], seconds: float, name: str, unwanted: Callable[[], bool] = bool) -> T:
    """Do a job on a thread of its own, which may go on when this has given up.

    Raises:
        OverdueError: it takes longer.
        UnwantedError: `unwanted` has become true.
    """
    outcome: Future[T] = Future()
    ended = threading.Event()

    def run() -> None:
        try:
            outcome.set_result(job())
        except BaseException as error:  # noqa: BLE001 (whoever waits raises it)
            outcome.set_exception(error)
        ended.set()

    threading.Thread(target=run, name=name, daemon=True).start()
    clock = Clock(seconds)
    for _ in range(clock.ticks):
        if ended.wait(clock.tick_seconds):
            return outcome.result()
        if unwanted():
            raise UnwantedError
    raise OverdueError
