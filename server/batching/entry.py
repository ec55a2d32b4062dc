"""A queue entry: the rows of one request, its deadline, and the callback for its outputs."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from server.calls.call import Call
from server.types import Array, Buffer


class Backlog:
    """Rows queued for all graphs of one model, and the lock that guards them and the graphs' queues."""

    def __init__(self, limit_rows: int, *, shared: bool) -> None:
        self.limit_rows = limit_rows
        self.shared = shared
        """Whether callers are served fairly: round-robin, and each with a bounded share of the queue."""
        self.rows = 0
        self.held: dict[str, int] = {}
        """Rows by caller, of those admitted while the queue was crowded."""
        self.lock = threading.Lock()

    def crowded(self, rows: int) -> bool:
        """Whether the queue would be more than half full with `rows` more."""
        return 2 * (self.rows + rows) > self.limit_rows

    def hold(self, caller: str, rows: int) -> None:
        """Add rows to a caller's count, or subtract them; a caller without any is forgotten."""
        held = self.held.get(caller, 0) + rows
        if held:
            self.held[caller] = held
        else:
            self.held.pop(caller, None)


class EntryQueue(Protocol):
    """Where an entry is queued."""

    def discard(self, entry: "Entry", reason: str) -> None:
        """Take an entry out of the queue; its answer is no longer needed."""
        ...


class Entry:
    """Rows of one request, the call they belong to (and whose deadline they have), and the callback for their outputs.

    `rows` is any C-contiguous buffer of `count` rows of the graph's input. `done` gets entries whose rows have run
    and the (rows, …) outputs in which they lie: those of an entry begin at its `first`.
    """

    # Class-level defaults: an entry that does not need them does not pay for them.
    queue: EntryQueue
    caller = ""
    """The caller its rows are counted for, if they are."""
    intermediate = False
    """Whether its outputs are an intermediate step and not part of an answer; drift does not include them."""
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

    def discard(self, reason: str) -> None:
        """Take it out of its queue."""
        self.queue.discard(self, reason)

    def add_part(self, start: int, outputs: Sequence[Array]) -> bool:
        """Keep the outputs of the rows from `start` of a request that was split; true when all have arrived."""
        self._parts = self._parts or {}
        self._parts[start] = outputs
        return sum(len(part[0]) for part in self._parts.values()) == self.count

    def joined_parts(self) -> list[Array]:
        """(count, …) outputs of a request that was split."""
        parts = sorted((self._parts or {}).items())
        return [np.concatenate(column) for column in zip(*(outputs for _, outputs in parts), strict=True)]


Done: TypeAlias = Callable[[Sequence[Entry], Sequence[Array]], None]
# Rows start … stop - 1 of an entry's buffer; the entry itself may drop the buffer meanwhile.
Slice: TypeAlias = tuple[Entry, Buffer, int, int]
# Entries sort by (deadline, arrival).
Item: TypeAlias = tuple[float, int, Entry]
Heap: TypeAlias = list[Item]


class Each:
    """Hands over entries one by one, each with its own (count, …) outputs; one that fails ends only its own call."""

    def __init__(self, done: Callable[[Entry, Sequence[Array]], None]) -> None:
        self._done = done

    def __call__(self, entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
        """Hand over the entries of one run."""
        for entry in entries:
            try:
                self._done(entry, [output[entry.first : entry.first + entry.count] for output in outputs])
            except Exception as error:  # noqa: BLE001 (it becomes the call's status)
                entry.call.fail(error)


def join_rows(slices: Sequence[Slice], row_bytes: int) -> tuple[Buffer, int, int]:
    """Rows of one run: a buffer, the byte at which they begin, and how many they are."""
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


def outputs_of(entries: Sequence[Entry], outputs: Sequence[Array]) -> Sequence[Array]:
    """(rows, …) outputs of these entries alone: others may have run with them, or have ended since."""
    if sum([entry.count for entry in entries]) == len(outputs[0]):
        return outputs
    rows = np.concatenate([np.arange(entry.first, entry.first + entry.count) for entry in entries])
    return [output[rows] for output in outputs]
