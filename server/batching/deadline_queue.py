"""Earliest deadline first: one heap with the entries of all callers."""

from collections.abc import Callable
from heapq import heapify, heappush
from typing import Protocol

from server.batching.entry import Entry, Heap, Item
from server.calls.call import FOREVER, Call

# A heap shorter than this is not worth compacting.
_COMPACT_LENGTH = 64


class WaitingRows(Protocol):
    """Rows queued for a graph, as counted by its `RowQueue`."""

    rows: int
    urgent_rows: int
    """Those that have a deadline."""


class DeadlineQueue:
    """Entries in the order of their deadlines."""

    def __init__(self, waiting: WaitingRows) -> None:
        self._waiting = waiting
        self._heap: Heap = []
        self._latest = 0.0

    def __len__(self) -> int:
        """Entries, including dropped ones that are not yet compacted away."""
        return len(self._heap)

    def items(self) -> Heap:
        """All entries, in no order."""
        return self._heap

    def push(self, item: Item) -> None:
        """Add an entry."""
        if item[0] > self._latest or not self._heap:
            self._latest = item[0]
        heappush(self._heap, item)

    def take(self, room: int, least: int, take_from: Callable[[Heap, int, float], int]) -> None:
        """Fill a run that has `room` until `least` of it is left; `take_from` does so from a heap."""
        take_from(self._heap, room, least)

    def forget(self, entry: Entry, rows: int) -> None:
        """Note that an entry was dropped, with `rows` that it had waiting."""
        del entry, rows
        compact(self._heap, self._waiting.rows)

    def rows_before(self, call: Call, count: int) -> int:
        """Rows that will run before `count` of a call: those with an earlier deadline."""
        del count
        if call.deadline >= self._latest:
            return self._waiting.urgent_rows
        return urgent_rows(self._heap, call.deadline)

    def most_rows_before(self) -> int:
        """Upper bound of `rows_before` for any call, without counting."""
        return self._waiting.urgent_rows


def urgent_rows(heap: Heap, deadline: float) -> int:
    """Waiting rows that have a deadline, and not a later one."""
    return sum(entry.waiting for order, _, entry in heap if order <= deadline and entry.call.deadline < FOREVER)


def compact(heap: Heap, live_rows: int) -> None:
    """Remove dropped entries from a heap when they are most of it."""
    # Every live entry has at least one row.
    if len(heap) > _COMPACT_LENGTH + 2 * live_rows:
        heap[:] = [item for item in heap if not item[2].dropped]
        heapify(heap)
