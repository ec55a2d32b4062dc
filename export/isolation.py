"""A process apart: if the runtime crashes there, a check has failed and this program goes on."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class CrashError(Exception):
    """The process died: what it was asked to do kills the runtime."""


class Isolation:
    """One process that runs functions, started at the first call; use as a context."""

    def __init__(self) -> None:
        # Spawned: a fork of a process with torch's threads may hang.
        self._pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a module's function over there; its exceptions are raised here.

        Raises:
            CrashError: the process died.
        """
        try:
            return self._pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise CrashError(f"the process that ran {function.__name__} died") from error
