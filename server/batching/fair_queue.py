"""Fair queue, in place of a rate limit: surplus round robin between callers, earliest deadline first within each.

After surplus round robin (Adiseshu, Parulkar and Varghese 1996), with shorter turns for callers that flood the queue.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappush

from server.batching.deadline_queue import WaitingRows, compact, urgent_rows
from server.batching.entry import Entry, Heap, Item
from server.calls.call import Call

# A caller with more than this many times the average of the others' waiting rows …
_GREEDY_RATIO = 2
# … has turns of this fraction of a turn.
GREEDY_SHARE = 0.25


class CallerQueue:
    """The waiting entries of one caller."""

    __slots__ = ("caller", "deficit", "heap", "rows")

    def __init__(self, caller: str, deficit: float) -> None:
        self.caller = caller
        self.deficit = deficit
        """Rows that it may still run in this turn; below zero it has run ahead and skips turns."""
        self.heap: Heap = []
        self.rows = 0


class FairQueue:
    """One queue for each caller that has rows waiting.

    The caller at the head of the ring runs rows until its deficit counter is used up. A request that is not split may
    take more than that: it is owed, and each turn pays one `quantum` of it back. So callers that always have rows
    waiting run equally many, whatever their deadlines, and a caller that sends less waits for one turn of each other
    caller. A caller with many times more rows waiting than the others has shorter turns: a flood gains nothing, and
    loses a little.
    """

    def __init__(self, waiting: WaitingRows, quantum: float, greedy_share: float = GREEDY_SHARE) -> None:
        self._waiting = waiting
        self._quantum = quantum
        self._greedy_share = greedy_share
        self._queues: dict[str, CallerQueue] = {}
        self._ring: deque[CallerQueue] = deque()

    def __len__(self) -> int:
        """Entries, including dropped ones that are not yet compacted away."""
        return sum(len(queue.heap) for queue in self._ring)

    def items(self) -> Heap:
        """All entries, in no order."""
        return [item for queue in self._ring for item in queue.heap]

    def push(self, item: Item) -> None:
        """Add an entry to its caller's queue."""
        entry = item[2]
        caller = entry.call.caller
        queue = self._queues.get(caller)
        if queue is None:
            queue = self._queues[caller] = CallerQueue(caller, self._quantum)
            self._ring.append(queue)
        queue.rows += entry.waiting
        heappush(queue.heap, item)

    def take(self, room: int, least: int, take_from: Callable[[Heap, int, float], int]) -> None:
        """Fill a run that has `room` until `least` is left; `take_from` does so from one heap and returns the rest."""
        waiting, ring = self._waiting.rows, self._ring
        while ring and room > least:
            queue = ring[0]
            until = max(least, room - queue.deficit)
            left = take_from(queue.heap, room, until)
            queue.rows -= room - left
            queue.deficit -= room - left
            room = left
            if not queue.heap:
                ring.popleft()
                del self._queues[queue.caller]
            elif queue.deficit <= 0:
                queue.deficit += self._quantum * self._share(queue.rows, waiting, len(ring))
                ring.rotate(-1)
            elif room > until:
                # The next request does not fit; it will be the first of the next run.
                break

    def forget(self, entry: Entry, rows: int) -> None:
        """Note that an entry was dropped, with `rows` that it had waiting."""
        queue = self._queues.get(entry.call.caller)
        if queue is not None:
            queue.rows -= rows
            compact(queue.heap, queue.rows)

    def rows_before(self, call: Call, count: int) -> int:
        """Rows that will run before `count` of a call: its caller's more urgent ones, and those of others' turns."""
        waiting = self._waiting.rows
        own = held = 0
        queue = self._queues.get(call.caller)
        if queue is not None:
            held = queue.rows
            own = urgent_rows(queue.heap, call.deadline)
        callers = len(self._ring) + (queue is None)
        turns = (own + count) / self._share(held + count, waiting + count, callers)
        return own + sum(
            min(other.rows, int(turns * self._share(other.rows, waiting + count, callers) + self._quantum))
            for other in self._ring
            if other is not queue
        )

    def most_rows_before(self) -> int:
        """Upper bound of `rows_before` for any call, without counting."""
        return self._waiting.rows

    def _share(self, rows: int, waiting: int, callers: int) -> float:
        """Length of the turns of a caller that has `rows` of the `waiting` ones, as a fraction of a full turn."""
        return self._greedy_share if rows * (callers - 1) > _GREEDY_RATIO * (waiting - rows) else 1
