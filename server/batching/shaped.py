"""Interface of runs of many shapes (the implementation is on branch tiles)."""

from collections.abc import Callable, Sequence
from typing import Protocol

from server.calls.call import Call
from server.types import Array


class ShapedGraph(Protocol):
    """A graph that takes inputs of many shapes."""

    def submit(
        self,
        call: Call,
        items: Sequence[Array],
        done: Callable[[list[list[Array]]], None],
        levels: Sequence[float] = (),
        now: float | None = None,
        *,
        intermediate: bool = False,
    ) -> None:
        """Run items."""
        ...
