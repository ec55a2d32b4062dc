"""Protocols of the batcher (graph runner, run listener, failure callback), and a graph run in progress."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from server.batching.entry import Slice
from server.calls.call import Call
from server.types import Array


class GraphRunner(Protocol):
    """Runs a graph: what a batcher needs of a session."""

    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    row_bytes: int

    def run(self, batch: Array, *others: Array) -> Sequence[Array]:
        """(rows, …) of each input to one array per output, (rows, …) each."""
        ...


class RunListener(Protocol):
    """Counts runs and dropped rows, for the metrics."""

    def ran(self, rows: int, run_seconds: float, queue_seconds: Sequence[float]) -> None:
        """One graph run, with the waits of the requests that began in it."""
        ...

    def dropped(self, reason: str, rows: int) -> None:
        """Rows that will never run."""
        ...

    def tiled(self, tiles: int) -> None:
        """Rows that have run and were tiles of larger images."""
        ...


class OnRunFailed(Protocol):
    """Called by a batcher when a run fails."""

    def __call__(self, error: BaseException, *, certain: bool) -> None:
        """Find out whether the session is at fault; `certain` when the requests cannot be."""
        ...


@dataclass(frozen=True)
class RunHooks:
    """What a batcher calls as its graph runs."""

    listener: RunListener
    failed: OnRunFailed
    traced: Callable[[Iterable[Call], float, float], None] | None = None
    """Gets the calls of a run, its start (a time of time.monotonic()) and how long it took, in seconds."""
    outputs: Callable[[Sequence[Array]], None] | None = None
    """Gets (rows, …) outputs that leave for callers."""


class Run:
    """A graph run in progress."""

    __slots__ = ("slices", "ticks")

    def __init__(self, slices: list[Slice]) -> None:
        self.slices = slices
        self.ticks = 0
        """How often the watchdog has looked at it."""
