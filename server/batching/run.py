"""Graph runs as a batcher sees them: what runs, who hears of it, which are under way."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from server.batching.row_queue import Array, Slice


class Runnable(Protocol):
    """What a batcher needs of a session."""

    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    row_bytes: int

    def run(self, batch: Array) -> Sequence[Array]:
        """(rows, …) to one array per output, (rows, …) each."""
        ...


class RunObserver(Protocol):
    """What a batcher tells the metrics."""

    def ran(self, rows: int, run_seconds: float, queue_seconds: Sequence[float]) -> None:
        """One graph run, with the waits of the requests that began in it."""
        ...

    def dropped(self, reason: str, rows: int) -> None:
        """Rows that will never run."""
        ...


class Doctor(Protocol):
    """Whom a batcher tells that a run has failed."""

    def __call__(self, error: BaseException, *, certain: bool) -> None:
        """Look whether it is the session: `certain` when it cannot be a request."""
        ...


class Run:
    """A graph run under way."""

    __slots__ = ("slices", "ticks")

    def __init__(self, slices: list[Slice]) -> None:
        self.slices = slices
        self.ticks = 0
        """How often it has been looked at."""
