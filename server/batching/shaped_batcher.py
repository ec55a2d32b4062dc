"""Batches of rows that differ in shape: one queue a graph, from which each run takes rows of equal shape.

What is kept is kept by waiting row, whatever the number of shapes that were ever seen.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Protocol, cast

import numpy as np

from server.batching.admission import Admission
from server.batching.batcher import Batcher
from server.batching.entry import Backlog, Done, Entry, Heap, Item, Slice
from server.batching.executor import Executor
from server.batching.output_check import NotFiniteError, non_finite_rows
from server.batching.policy import BatchPolicy
from server.batching.row_queue import DEFAULT_DEADLINE_SECONDS, RowQueue
from server.batching.run import GraphRunner, RunHooks
from server.calls.call import Call
from server.types import Array

# Entries of other shapes that a run passes over in search of rows of its own.
_MAX_PASSED = 64


class Owner(Protocol):
    """The request that an entry is a part of."""

    def discard(self, reason: str) -> None:
        """Take all its entries out of the queue."""
        ...


class ShapedEntry(Entry):
    """Rows (count, h, w, c) of one shape, with a row each of the graph's second input if it has one; never split.

    The rows may be a view of an image: they are copied when their run begins.
    """

    position = 0
    """Rows of its request that went before it; the first entry is admitted for all, and its wait is the request's."""
    following = 0
    """Rows of its request that will follow it, as the first entry knows."""

    def __init__(self, call: Call, rows: Array, beside: Sequence[Any], done: Done, owner: Owner) -> None:
        super().__init__(call, rows.data, len(rows), done)
        self.shape = rows.shape[1:]
        self.beside = beside
        """Noise levels, or arrays; none where the graph has one input."""
        self._owner = owner

    @property
    def cells(self) -> int:
        """Height times width, of all rows together."""
        return self.count * cells(self.shape)

    def discard(self, reason: str) -> None:
        """Take it out of its queue, with all other entries of its request."""
        self._owner.discard(reason)


class ShapedQueue(RowQueue):
    """Entries of any shape; a run takes the first, and others of its shape among those behind it.

    Rows here take long, and a large image is queued a few windows at a time: callers are served in turns as soon as
    anything waits, and windows queue as if their request had arrived when they do.
    """

    def __init__(self, backlog: Backlog, full_rows: int, full_cells: int, most_rows: int) -> None:
        """Limit runs.

        Args:
            backlog: of the model.
            full_rows: rows of a full run of the largest windows.
            full_cells: cells of such a run; a run of more than one row has no more than that.
            most_rows: most rows of a run, however small they are.
        """
        super().__init__(backlog, full_rows)
        self.full_cells = full_cells
        self._run_rows = most_rows
        # A run has one shape, and ends at a caller whose turn it is with another one: a turn fills a run by itself.
        self._turn_rows = full_rows
        # What a large image has waiting keeps the graph busy, and is no flood.
        self._greedy_share = 1.0

    def rows_together(self, shape: Sequence[int]) -> int:
        """Most rows of a shape in one run."""
        return max(min(self._run_rows, self.full_cells // cells(shape)), 1)

    def push(self, entry: Entry, now: float) -> None:
        """Add an entry with all its rows."""
        entry.queued = now
        entry.waiting = entry.count
        if self.rows and self._backlog.shared and not self.fair:
            self._switch_to_fair()
        order = now + min(entry.call.deadline - entry.call.arrival, DEFAULT_DEADLINE_SECONDS)
        self._order.push((order, next(self._sequence), entry))
        self._count(entry, entry.count)

    def _take_from(
        self, now: float, slices: list[Slice], expired: list[tuple[Entry, int]], heap: Heap, room: int, least: float
    ) -> int:
        passed: list[Item] = []
        while heap and room > least and len(passed) < _MAX_PASSED:
            entry = cast("ShapedEntry", heap[0][2])
            if entry.dropped:
                heappop(heap)
            elif entry.call.deadline <= now:
                expired.append((entry, self._drop(entry)))
            elif slices and entry.shape != cast("ShapedEntry", slices[0][0]).shape:
                passed.append(heappop(heap))
            elif slices and entry.count > self.rows_together(entry.shape) - (self._run_rows - room):
                break
            else:
                slices.append((entry, entry.rows, entry.position, entry.position + entry.count))
                room -= entry.count
                entry.waiting = 0
                self._count(entry, -entry.count)
                heappop(heap)
        for item in passed:
            heappush(heap, item)
        return room


class _RequestAdmission(Admission):
    """Admits a request with its first entry, by the time that all its rows will take."""

    def check(self, entry: Entry, now: float, running_rows: int, row_seconds: float) -> None:
        shaped = cast("ShapedEntry", entry)
        if not shaped.position:
            super().check(entry, now, running_rows + shaped.following, row_seconds)


class ShapedBatcher(Batcher):
    """The queue of a graph whose rows differ in shape, or that has a second input, and its runs."""

    queue: ShapedQueue

    def __init__(
        self,
        session: GraphRunner,
        policy: BatchPolicy,
        backlog: Backlog,
        executor: Executor,
        hooks: RunHooks,
        queue: ShapedQueue,
    ) -> None:
        super().__init__(session, policy, backlog, executor, hooks, queue)
        self._admission = _RequestAdmission(backlog, queue, hooks.listener)

    def discard_all(self, entries: Sequence[ShapedEntry], reason: str) -> None:
        """Take the entries of one request out of the queue."""
        with self._backlog.lock:
            rows = sum([self.queue.drop(entry) for entry in entries])
        if rows:
            self._listener.dropped(reason, rows)

    def count_tiles(self, tiles: int) -> None:
        """Note that so many of the rows that have run were tiles."""
        self._listener.tiled(tiles)

    def _compute(self, slices: list[Slice]) -> Sequence[Array]:
        parts = [np.asarray(data) for _, data, _, _ in slices]
        rows = np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)
        beside = [row for entry, *_ in slices for row in cast("ShapedEntry", entry).beside]
        return self._session.run(rows, *([np.array(beside, np.float32)] if beside else []))

    def _deliver(self, slices: list[Slice], outputs: Sequence[Array], started: float, seconds: float) -> None:
        bad = non_finite_rows(outputs)
        rows = 0
        waits: dict[Call, float] = {}
        together: dict[Done, list[Entry]] = {}
        for entry, _, position, _ in slices:
            entry.first, rows = rows, rows + entry.count
            if bad is not None and bad[entry.first : rows].any():
                entry.call.fail(NotFiniteError())
            elif entry.call.open:
                waits.setdefault(entry.call, 0.0 if position else started - entry.queued)
                together.setdefault(entry.done, []).append(entry)
        for call, waited in waits.items():
            call.note_run(waited, seconds, rows)
        for done, entries in together.items():
            self._finish(done, entries, outputs)


def cells(shape: Sequence[int]) -> int:
    """Height times width of a row (h, w, c)."""
    return shape[0] * shape[1]
