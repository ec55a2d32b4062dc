"""Queue of rows for one graph: earliest deadline first, or fair between callers when many rows wait.

Plain data, guarded by the lock of the model's backlog.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop
from typing import Protocol

from server.batching.deadline_queue import DeadlineQueue
from server.batching.entry import Backlog, Entry, Heap, Item, Slice
from server.batching.fair_queue import GREEDY_SHARE, FairQueue
from server.calls.call import FOREVER, Call
from server.types import Array

# Calls without a deadline queue as if they had this much time, so that those with one cannot starve them.
DEFAULT_DEADLINE_SECONDS = 30.0
# Callers are served in turns once more than this many runs' rows wait: below, the order matters little and is free.
_FAIR_THRESHOLD_RUNS = 2
# A turn is this fraction of a run, so that several callers share a run.
_TURNS_PER_RUN = 4


class QueueOrder(Protocol):
    """The order in which entries leave: `DeadlineQueue` or `FairQueue`."""

    def __len__(self) -> int:
        """Entries, including dropped ones that are not yet compacted away."""
        ...

    def items(self) -> Heap:
        """All entries, in no order."""
        ...

    def push(self, item: Item) -> None:
        """Add an entry."""
        ...

    def take(self, room: int, least: int, take_from: Callable[[Heap, int, float], int]) -> None:
        """Fill a run that has `room` until `least` is left; `take_from` does so from one heap and returns the rest."""
        ...

    def forget(self, entry: Entry, rows: int) -> None:
        """Note that an entry was dropped, with `rows` that it had waiting."""
        ...

    def rows_before(self, call: Call, count: int) -> int:
        """Rows that will run before `count` of a call."""
        ...

    def most_rows_before(self) -> int:
        """Upper bound of `rows_before` for any call, without counting."""
        ...


def _nothing(entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
    """Replace the callback of a dropped entry."""


class RowQueue:
    """Entries in one of two orders; counts its rows here and in the model's backlog."""

    def __init__(self, backlog: Backlog, max_rows: int) -> None:
        self.rows = 0
        self.urgent_rows = 0
        """Those of calls that have a deadline."""
        self._backlog = backlog
        self._max_rows = self._run_rows = max_rows
        self._turn_rows = max(max_rows / _TURNS_PER_RUN, 1)
        self._greedy_share = GREEDY_SHARE
        self._fair_threshold_rows = _FAIR_THRESHOLD_RUNS * max_rows if backlog.shared else FOREVER
        self._by_deadline = DeadlineQueue(self)
        self._order: QueueOrder = self._by_deadline
        self._sequence = itertools.count()

    def __len__(self) -> int:
        """Entries, including dropped ones that are not yet compacted away."""
        return len(self._order)

    @property
    def fair(self) -> bool:
        """Whether callers are served in turns: from when many rows wait until none does."""
        return self._order is not self._by_deadline

    def push(self, entry: Entry, now: float) -> None:
        """Add an entry with all its rows."""
        entry.queued = now
        entry.waiting = entry.count
        if self.rows > self._fair_threshold_rows and self._order is self._by_deadline:
            self._switch_to_fair()
        deadline, latest = entry.call.deadline, now + DEFAULT_DEADLINE_SECONDS
        order = deadline if deadline < latest else latest  # noqa: FURB136 (a call of min() costs every request more)
        self._order.push((order, next(self._sequence), entry))
        self._count(entry, entry.count)

    def entries(self) -> list[Entry]:
        """Those that wait."""
        return [entry for _, _, entry in self._order.items() if not entry.dropped]

    def drop(self, entry: Entry) -> int:
        """Mark an entry as dropped and return the rows it had waiting; its heap drops it on reaching the top."""
        rows = self._drop(entry)
        self._reset_when_empty()
        return rows

    def rows_before(self, call: Call, count: int) -> int:
        """Rows that will run before `count` of a call."""
        return self._order.rows_before(call, count)

    def most_rows_before(self) -> int:
        """Upper bound of `rows_before` for any call, without counting."""
        return self._order.most_rows_before()

    def take(self, now: float, enough: int) -> tuple[list[Slice], list[tuple[Entry, int]]]:
        """Rows for one run, and the entries whose deadline has passed with the rows that they had waiting.

        The run has `enough` rows if that many wait, and a few more where a request should not be split.
        """
        slices: list[Slice] = []
        expired: list[tuple[Entry, int]] = []
        room = self._run_rows
        self._order.take(room, max(room - enough, 0), partial(self._take_from, now, slices, expired))
        self._reset_when_empty()
        return slices, expired

    def _take_from(
        self, now: float, slices: list[Slice], expired: list[tuple[Entry, int]], heap: Heap, room: int, least: float
    ) -> int:
        """Take rows of a heap until `least` of the room is left; return what is left."""
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
                rows = waiting if waiting < room else room  # noqa: FURB136 (as above)
                start = count - waiting
                slices.append((entry, entry.rows, start, start + rows))
                room -= rows
                entry.waiting -= rows
                self._count(entry, -rows)
                if rows == waiting:
                    heappop(heap)
        return room

    def _switch_to_fair(self) -> None:
        """Serve callers in turns from now on, in the order in which they would have been served."""
        fair = FairQueue(self, self._turn_rows, self._greedy_share)
        for item in sorted(self._by_deadline.items()):
            if not item[2].dropped:
                fair.push(item)
        self._by_deadline = DeadlineQueue(self)
        self._order = fair

    def _reset_when_empty(self) -> None:
        """Return to the order by deadline once nothing waits."""
        if not self.rows:
            self._order = self._by_deadline

    def _drop(self, entry: Entry) -> int:
        rows = entry.waiting
        entry.dropped = True
        # The heap may keep the entry for a while, which is no reason to keep the caller's data.
        entry.rows = b""
        entry.done = _nothing
        entry.waiting = 0
        self._count(entry, -rows)
        self._order.forget(entry, rows)
        return rows

    def _count(self, entry: Entry, rows: int) -> None:
        self.rows += rows
        self._backlog.rows += rows
        if entry.caller:
            self._backlog.hold(entry.caller, rows)
        if entry.call.deadline < FOREVER:
            self.urgent_rows += rows
