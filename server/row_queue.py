"""Rows waiting for one graph, earliest deadline first; plain data, guarded by the lock of the model's backlog."""

import itertools
import threading
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from numpy.typing import NDArray

from server.call import FOREVER, Call

if TYPE_CHECKING:
    from server.batcher import Batcher

Array: TypeAlias = NDArray[Any]
Buffer: TypeAlias = bytes | memoryview

# Calls without a deadline queue as if they had this much time, so that those with one cannot starve them.
_PATIENCE_SECONDS = 30.0
# Below this length a heap is not worth tidying.
_TIDY_LENGTH = 64


class Backlog:
    """Rows waiting for all graphs of one model, and the lock that guards them and the graphs' queues."""

    def __init__(self, limit_rows: int) -> None:
        self.limit_rows = limit_rows
        self.rows = 0
        self.lock = threading.Lock()


class Entry:
    """Rows of one request: where they come from, until when they matter (the call's deadline), what to do then.

    `rows` is any C-contiguous buffer of `count` rows of the graph's input; `outputs` are (count, …) arrays when
    `done` is called.
    """

    __slots__ = (
        "batcher",
        "call",
        "count",
        "done",
        "dropped",
        "outputs",
        "parts",
        "queued",
        "rows",
        "unrun",
        "waiting",
    )

    def __init__(self, call: Call, rows: Buffer, count: int, done: Callable[["Entry"], None]) -> None:
        self.call = call
        self.rows = rows
        self.count = count
        self.done = done
        self.outputs: Sequence[Array] = ()
        self.parts: list[tuple[int, list[Array]]] = []
        self.batcher: Batcher
        self.queued = 0.0
        self.waiting = 0
        self.unrun = count
        self.dropped = False


class Slice(NamedTuple):
    """Rows start … stop - 1 of an entry's buffer."""

    entry: Entry
    rows: Buffer
    start: int
    stop: int


def joined(slices: Sequence[Slice], row_bytes: int) -> tuple[Buffer, int, int]:
    """Rows of one run: a buffer, the byte where they begin, and how many they are."""
    if len(slices) == 1:
        _, data, start, stop = slices[0]
        return data, start * row_bytes, stop - start
    data = b"".join([_bytes_of(piece, row_bytes) for piece in slices])
    return data, 0, len(data) // row_bytes


def _bytes_of(piece: Slice, row_bytes: int) -> Buffer:
    entry, data, start, stop = piece
    if stop - start == entry.count:
        return data
    return memoryview(data).cast("B")[start * row_bytes : stop * row_bytes]


def _nothing(entry: Entry) -> None:
    """What an entry that has gone still leads to."""


class RowQueue:
    """Entries by deadline; counts its rows here and in the model's backlog."""

    def __init__(self, backlog: Backlog, max_rows: int) -> None:
        self.rows = 0
        self.urgent_rows = 0
        self._backlog = backlog
        self._max_rows = max_rows
        self._heap: list[tuple[float, int, Entry]] = []
        self._latest = 0.0
        self._sequence = itertools.count()

    def __len__(self) -> int:
        """Entries, with those that have gone and are not yet tidied away."""
        return len(self._heap)

    def push(self, entry: Entry, now: float) -> None:
        """Add an entry with all its rows."""
        entry.queued = now
        entry.waiting = entry.count
        order = min(entry.call.deadline, now + _PATIENCE_SECONDS)
        self._latest = max(order, self._latest) if self._heap else order
        heappush(self._heap, (order, next(self._sequence), entry))
        self._count(entry, entry.count)

    def drop(self, entry: Entry) -> int:
        """Mark an entry as gone; the rows that were still waiting. The heap forgets it when it comes up."""
        rows = entry.waiting
        entry.dropped = True
        # The heap may keep it for a while, its caller's data should not wait for that.
        entry.rows = b""
        entry.done = _nothing
        entry.waiting = 0
        self._count(entry, -rows)
        # Every live entry has a row at least.
        if len(self._heap) > _TIDY_LENGTH + 2 * self.rows:
            self._heap[:] = [item for item in self._heap if not item[2].dropped]
            heapify(self._heap)
        return rows

    def urgent_rows_before(self, deadline: float) -> int:
        """Rows with a deadline that run before those of another one."""
        if deadline >= self._latest:
            return self.urgent_rows
        return sum(
            entry.waiting for order, _, entry in self._heap if order <= deadline and entry.call.deadline < FOREVER
        )

    def take(self, now: float, enough: int) -> tuple[list[Slice], list[tuple[Entry, int]]]:
        """Rows for one run, and the entries that came up too late with the rows that they had waiting.

        The run has `enough` rows when there are so many, a few more where a request should not be split.
        """
        slices: list[Slice] = []
        expired: list[tuple[Entry, int]] = []
        room = self._max_rows
        while self._max_rows - room < enough and room and self._heap:
            entry = self._heap[0][2]
            if entry.dropped:
                heappop(self._heap)
            elif entry.call.deadline <= now:
                expired.append((entry, self.drop(entry)))
            elif entry.waiting > room and entry.count <= self._max_rows:
                # It fits into a run of its own, and one run is sooner than two.
                break
            else:
                slices.append(self._slice(entry, room))
                room -= slices[-1].stop - slices[-1].start
        return slices, expired

    def _slice(self, entry: Entry, room: int) -> Slice:
        rows = min(entry.waiting, room)
        start = entry.count - entry.waiting
        entry.waiting -= rows
        self._count(entry, -rows)
        if entry.waiting == 0:
            heappop(self._heap)
        return Slice(entry, entry.rows, start, start + rows)

    def _count(self, entry: Entry, rows: int) -> None:
        self.rows += rows
        self._backlog.rows += rows
        if entry.call.deadline < FOREVER:
            self.urgent_rows += rows
