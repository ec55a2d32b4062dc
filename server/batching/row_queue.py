"""Rows waiting for one graph, earliest deadline first; plain data, guarded by the lock of the model's backlog."""

import itertools
import threading
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from server.batching.fair_queue import Heap, Line, Turns
from server.calls.call import FOREVER, Call

if TYPE_CHECKING:
    from server.batching.batcher import Batcher

Array: TypeAlias = NDArray[Any]
Buffer: TypeAlias = bytes | memoryview

# Calls without a deadline queue as if they had this much time, so that those with one cannot starve them.
_PATIENCE_SECONDS = 30.0
# Below this length a heap is not worth tidying.
_TIDY_LENGTH = 64
# Callers take turns where more waits than so many runs take: the order of less matters little, and costs nothing.
_CALM_RUNS = 2
# A turn is this part of a run, so that several callers share it.
_TURNS_PER_RUN = 4


class Backlog:
    """Rows waiting for all graphs of one model, and the lock that guards them and the graphs' queues."""

    def __init__(self, limit_rows: int, *, shared: bool) -> None:
        self.limit_rows = limit_rows
        self.shared = shared
        """Whether a caller must leave room to others, and let them go first in their turn."""
        self.rows = 0
        self.held: dict[str, int] = {}
        """Rows by caller of those that came when much waited already."""
        self.lock = threading.Lock()

    def crowded(self, rows: int) -> bool:
        """Whether with so many more rows over half of what may wait would."""
        return 2 * (self.rows + rows) > self.limit_rows

    def hold(self, caller: str, rows: int) -> None:
        """Count rows for a caller, or out; a caller without any is forgotten."""
        held = self.held.get(caller, 0) + rows
        if held:
            self.held[caller] = held
        else:
            self.held.pop(caller, None)


class Entry:
    """Rows of one request: where they come from, until when they matter (the call's deadline), what to do then.

    `rows` is any C-contiguous buffer of `count` rows of the graph's input. `done` gets entries whose rows have run
    and the (rows, …) outputs in which they lie: those of an entry begin at its `first`.
    """

    batcher: "Batcher"
    caller = ""
    """Whom its rows are counted for, where they are."""
    line: Line | None = None
    """Where it waits, where callers take turns."""
    first = 0
    queued = 0.0
    waiting = 0
    dropped = False

    def __init__(self, call: Call, rows: Buffer, count: int, done: "Done") -> None:
        self.call = call
        self.rows = rows
        self.count = count
        self.done = done
        self._parts: dict[int, Sequence[Array]] | None = None

    def add_part(self, start: int, outputs: Sequence[Array]) -> bool:
        """Keep the outputs of the rows from `start` of a request that was split; true when all are there."""
        self._parts = self._parts or {}
        self._parts[start] = outputs
        return sum(len(part[0]) for part in self._parts.values()) == self.count

    def joined_parts(self) -> list[Array]:
        """(count, …) outputs of a request that was split."""
        parts = sorted((self._parts or {}).items())
        return [np.concatenate(column) for column in zip(*(outputs for _, outputs in parts), strict=True)]


Done: TypeAlias = Callable[[Sequence[Entry], Sequence[Array]], None]
# Rows start … stop - 1 of an entry's buffer, which the entry itself may lose meanwhile.
Slice: TypeAlias = tuple[Entry, Buffer, int, int]


class Each:
    """Hands entries on one by one, each with its own (count, …) outputs; one that fails ends its own call alone."""

    def __init__(self, done: Callable[[Entry, Sequence[Array]], None]) -> None:
        self._done = done

    def __call__(self, entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
        """Hand on the entries of one run."""
        for entry in entries:
            try:
                self._done(entry, [output[entry.first : entry.first + entry.count] for output in outputs])
            except Exception as error:  # noqa: BLE001 (it becomes the call's status)
                entry.call.fail(error)


def joined(slices: Sequence[Slice], row_bytes: int) -> tuple[Buffer, int, int]:
    """Rows of one run: a buffer, the byte where they begin, and how many they are."""
    if len(slices) == 1:
        _, data, start, stop = slices[0]
        return data, start * row_bytes, stop - start
    data = b"".join(
        [
            data if stop - start == entry.count else memoryview(data).cast("B")[start * row_bytes : stop * row_bytes]
            for entry, data, start, stop in slices
        ]
    )
    return data, 0, len(data) // row_bytes


def _nothing(entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
    """What an entry that has gone still leads to."""


class RowQueue:
    """Entries by deadline, and by caller where many wait; counts its rows here and in the model's backlog."""

    def __init__(self, backlog: Backlog, max_rows: int) -> None:
        self.rows = 0
        self.urgent_rows = 0
        self.turns: Turns | None = None
        """The order between callers, from when many rows wait until none does."""
        self._backlog = backlog
        self._max_rows = max_rows
        self._calm_rows = _CALM_RUNS * max_rows if backlog.shared else FOREVER
        # Everybody's entries, while callers do not take turns.
        self._heap: Heap = []
        self._latest = 0.0
        self._sequence = itertools.count()

    def __len__(self) -> int:
        """Entries, with those that have gone and are not yet tidied away."""
        return len(self._heap) + (0 if self.turns is None else len(self.turns))

    def push(self, entry: Entry, now: float) -> None:
        """Add an entry with all its rows."""
        entry.queued = now
        entry.waiting = entry.count
        order = min(entry.call.deadline, now + _PATIENCE_SECONDS)
        if order > self._latest or not self.rows:
            self._latest = order
        item = (order, next(self._sequence), entry)
        if self.rows > self._calm_rows or self.turns is not None:
            self._begin_turns().push(item)
        else:
            heappush(self._heap, item)
        self._count(entry, entry.count)

    def entries(self) -> list[Entry]:
        """Those that wait."""
        items = self._heap if self.turns is None else self.turns.items()
        return [entry for _, _, entry in items if not entry.dropped]

    def drop(self, entry: Entry) -> int:
        """Mark an entry as gone; the rows that were still waiting. The heap forgets it when it comes up."""
        rows = self._drop(entry)
        if not self.rows:
            self.turns = None
        return rows

    def rows_before(self, call: Call, count: int) -> int:
        """Rows that will run before so many of a call: where callers take no turns, those with an earlier deadline."""
        deadline = call.deadline
        if self.turns is not None:
            return self.turns.rows_before(self.rows, call.caller, deadline, count)
        if deadline >= self._latest:
            return self.urgent_rows
        return sum(
            entry.waiting for order, _, entry in self._heap if order <= deadline and entry.call.deadline < FOREVER
        )

    def most_rows_before(self) -> int:
        """As many rows as may run before any other ones at most, without counting."""
        return self.urgent_rows if self.turns is None else self.rows

    def take(self, now: float, enough: int) -> tuple[list[Slice], list[tuple[Entry, int]]]:
        """Rows for one run, and the entries that came up too late with the rows that they had waiting.

        The run has `enough` rows when there are so many, a few more where a request should not be split.
        """
        slices: list[Slice] = []
        expired: list[tuple[Entry, int]] = []
        room = self._max_rows
        least = max(room - enough, 0)
        if self.turns is None:
            self._take_from(now, slices, expired, self._heap, room, least)
        else:
            self.turns.take(self.rows, room, least, partial(self._take_from, now, slices, expired))
            if not self.rows:
                self.turns = None
        return slices, expired

    def _take_from(
        self, now: float, slices: list[Slice], expired: list[tuple[Entry, int]], heap: Heap, room: int, least: float
    ) -> int:
        """Take rows of a heap until `least` of the room is left; the room that is."""
        while heap and room > least:
            entry = heap[0][2]
            waiting, count = entry.waiting, entry.count
            if entry.dropped:
                heappop(heap)
            elif entry.call.deadline <= now:
                expired.append((entry, self._drop(entry)))
            elif waiting > room and count <= self._max_rows:
                # It fits into a run of its own, and one run is sooner than two.
                break
            else:
                rows = min(waiting, room)
                start = count - waiting
                slices.append((entry, entry.rows, start, start + rows))
                room -= rows
                entry.waiting -= rows
                self._count(entry, -rows)
                if rows == waiting:
                    heappop(heap)
        return room

    def _begin_turns(self) -> Turns:
        """Let callers take turns from now on, those first who would have been."""
        turns = self.turns
        if turns is None:
            turns = self.turns = Turns(max(self._max_rows / _TURNS_PER_RUN, 1))
            for item in sorted(self._heap):
                if not item[2].dropped:
                    turns.push(item)
            self._heap.clear()
        return turns

    def _drop(self, entry: Entry) -> int:
        rows, line = entry.waiting, entry.line
        entry.dropped = True
        # The heap may keep it for a while, its caller's data should not wait for that.
        entry.rows = b""
        entry.done = _nothing
        entry.waiting = 0
        self._count(entry, -rows)
        heap, live = self._heap, self.rows
        if line is not None:
            line.rows -= rows
            heap, live = line.heap, line.rows
        # Every live entry has a row at least.
        if len(heap) > _TIDY_LENGTH + 2 * live:
            heap[:] = [item for item in heap if not item[2].dropped]
            heapify(heap)
        return rows

    def _count(self, entry: Entry, rows: int) -> None:
        self.rows += rows
        self._backlog.rows += rows
        if entry.caller:
            self._backlog.hold(entry.caller, rows)
        if entry.call.deadline < FOREVER:
            self.urgent_rows += rows
