"""Callers take turns where many rows wait: surplus round robin between them, earliest deadline first within each.

After surplus round robin (Adiseshu, Parulkar and Varghese 1996), with shorter turns for who floods.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappush
from typing import TYPE_CHECKING, TypeAlias

from server.calls.call import FOREVER

if TYPE_CHECKING:
    from server.batching.row_queue import Entry

# Entries by (deadline, arrival).
Item: TypeAlias = "tuple[float, int, Entry]"
Heap: TypeAlias = list[Item]
# Who has more than so many times as much waiting as the others have on average …
_GREEDY_RATIO = 2
# … has turns of this part of a turn.
_GREEDY_SHARE = 0.25


class Line:
    """What waits of one caller."""

    __slots__ = ("caller", "credit", "heap", "rows")

    def __init__(self, caller: str, credit: float) -> None:
        self.caller = caller
        self.credit = credit
        """Rows that it may still run in this turn; below zero it has run ahead and sits turns out."""
        self.heap: Heap = []
        self.rows = 0


class Turns:
    """The lines of all callers that have rows waiting.

    Whose turn it is runs rows until its credit is used up. A request that is not split may take more: that is owed,
    and each turn pays a `quantum` of it back. So callers that always have rows waiting run as many as each other,
    whatever their deadlines are, and who sends less waits for one turn of each other one. Who has many times more
    waiting than the others has shorter turns than they: a flood gains nothing, and loses a little.
    """

    def __init__(self, quantum: float) -> None:
        self._quantum = quantum
        self._lines: dict[str, Line] = {}
        self._ring: deque[Line] = deque()

    def __len__(self) -> int:
        """Entries, with those that have gone and are not yet tidied away."""
        return sum(len(line.heap) for line in self._ring)

    def items(self) -> list[Item]:
        """All entries, in no order."""
        return [item for line in self._ring for item in line.heap]

    def push(self, item: Item) -> None:
        """Add an entry to its caller's line."""
        entry = item[2]
        caller = entry.call.caller
        line = self._lines.get(caller)
        if line is None:
            line = self._lines[caller] = Line(caller, self._quantum)
            self._ring.append(line)
        entry.line = line
        line.rows += entry.waiting
        heappush(line.heap, item)

    def take(self, waiting: int, room: int, least: int, take_from: Callable[[Heap, int, float], int]) -> None:
        """Fill a run that has `room` until `least` is left; `take_from` does so from one line and says what is left.

        `waiting` is how many rows all callers have.
        """
        ring = self._ring
        while ring and room > least:
            line = ring[0]
            until = max(least, room - line.credit)
            left = take_from(line.heap, room, until)
            line.rows -= room - left
            line.credit -= room - left
            room = left
            if not line.heap:
                ring.popleft()
                del self._lines[line.caller]
            elif line.credit <= 0:
                line.credit += self._quantum * self._share(line.rows, waiting, len(ring))
                ring.rotate(-1)
            elif room > until:
                # The next request does not fit, and is the first of the next run.
                break

    def rows_before(self, waiting: int, caller: str, deadline: float, count: int) -> int:
        """Rows that will run before `count` of a caller do: its own more urgent ones, and those of others' turns."""
        own = held = 0
        line = self._lines.get(caller)
        if line is not None:
            held = line.rows
            own = sum(e.waiting for order, _, e in line.heap if order <= deadline and e.call.deadline < FOREVER)
        callers = len(self._ring) + (line is None)
        turns = (own + count) / self._share(held + count, waiting + count, callers)
        return own + sum(
            min(other.rows, int(turns * self._share(other.rows, waiting + count, callers) + self._quantum))
            for other in self._ring
            if other is not line
        )

    @staticmethod
    def _share(rows: int, waiting: int, callers: int) -> float:
        """How long the turns of a caller are that has so many of the waiting rows."""
        return _GREEDY_SHARE if rows * (callers - 1) > _GREEDY_RATIO * (waiting - rows) else 1
