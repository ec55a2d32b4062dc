"""Gradual requests: of many rows a bounded part is queued at a time; a model's room bounds what they hold."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from server.batching.entry import Entry
from server.batching.shaped_batcher import ShapedBatcher, ShapedEntry
from server.calls.call import Call
from server.errors import InvalidArgumentError, OverloadedError
from server.types import Array

# Full runs of a graph for each that may run at a time: one runs, one waits.
_RUNS_AHEAD = 2
# When memory is free again depends on how large the requests are that hold it.
_RETRY_SECONDS = 1.0

Part = TypeVar("Part")


class Room:
    """Pixels of one model's gradual requests that wait or run, in all and of each caller.

    Bounds what requests hold: only a few parts of a large one are queued, so that rows in the queue do not bound it.

    When more than half is taken, a caller may have no more than is still free, as in `admission.py`; when nothing is
    taken, a request of any size gets in.
    """

    def __init__(self, limit_pixels: int, request_pixels: int, *, shared: bool) -> None:
        self.taken = 0
        self._limit = limit_pixels
        self._request_pixels = request_pixels
        self._shared = shared
        self._callers: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, caller: str, pixels: int, field: str) -> None:
        """Take room for a request, which gives it back; `field` has its images or latents.

        Raises:
            InvalidArgumentError: more than a request may have.
            OverloadedError: there is not enough for all callers, or for this one.
        """
        if pixels > self._request_pixels:
            raise InvalidArgumentError(
                field,
                f"expected at most {self._request_pixels} pixels in the images of a request, padded as the graph "
                f"needs, got {pixels}: send several requests",
            )
        with self._lock:
            held, taken = self._callers.get(caller, 0), self.taken + pixels
            free = self._limit - taken
            if self.taken and (free < 0 or (self._shared and 2 * taken > self._limit and held + pixels > free)):
                raise OverloadedError(
                    f"images of {self.taken} pixels wait or run for this model, {held} of them of this caller, and "
                    f"the limit of {self._limit} leaves no room for {pixels} more: try again later",
                    _RETRY_SECONDS,
                )
            self._callers[caller] = held + pixels
            self.taken = taken

    def give(self, caller: str, pixels: int) -> None:
        """Give back what a request has taken."""
        with self._lock:
            self.taken -= pixels
            self._callers[caller] -= pixels
            if not self._callers[caller]:
                del self._callers[caller]


class GradualRequest(ABC, Generic[Part]):
    """The rows of one call on their way through a graph: a bounded part of them is queued or runs at a time."""

    queued = 0.0
    _pixels = 0
    """For which it has taken room."""

    def __init__(self, call: Call, batcher: ShapedBatcher, room: Room, count: int) -> None:
        """Prepare to run `count` rows; `room` is of the model, for what its requests hold."""
        self.call = call
        self.count = count
        self._batcher = batcher
        self._room = room
        self._cells_ahead = _RUNS_AHEAD * batcher.policy.concurrent_runs * batcher.queue.full_cells
        """Height times width of what is queued or runs at a time."""
        self._made = 0
        self._left = self._entries()
        self._lock = threading.Lock()
        self._parts: dict[ShapedEntry, Part] = {}
        """What is queued or runs."""
        self._cells = 0
        self._all_queued = False
        self._finished = False
        self._caller = ""

    @abstractmethod
    def _entries(self) -> Iterator[tuple[ShapedEntry, Part]]:
        """Make the entries, each with what it is a part of; begun when there is room for the next."""

    @abstractmethod
    def _keep(self, part: Part, outputs: Sequence[Array], *, shared: bool) -> None:
        """Put the outputs of an entry where they belong; `shared`: they lie in larger ones of other callers too."""

    @abstractmethod
    def _finish(self) -> None:
        """Hand over what was kept of all entries; called once, on any thread."""

    def start(self, now: float, pixels: int, field: str) -> None:
        """Take room for the pixels of a request's field, and queue the first entries; the others follow as these end.

        Raises:
            InvalidArgumentError, OverloadedError: there is no room.
        """
        self._room.take(self.call.caller, pixels, field)
        self._pixels = pixels
        self.queued = now
        try:
            first = self._next()
            if first is not None:
                first.following = self.count - first.count
                self._submit(first, now)
                self._caller = first.caller
                self._follow(now)
        except BaseException:
            # The call may have no entry yet, such as when there is no memory for its rows.
            self._give_room()
            raise
        if not self.call.open:
            # It may have ended before it had an entry to discard.
            self._give_room()

    def discard(self, reason: str) -> None:
        """Queue nothing more, and take what waits out of the queue."""
        with self._lock:
            entries, self._parts, self._left = list(self._parts), {}, iter(())
        self._give_room()
        self._batcher.discard_all(entries, reason)

    def _entry(self, rows: Array, beside: Sequence[Any]) -> ShapedEntry:
        entry = ShapedEntry(self.call, rows, beside, self._take, self)
        entry.position = self._made
        self._made += entry.count
        return entry

    def _give_room(self) -> None:
        with self._lock:
            pixels, self._pixels = self._pixels, 0
        if pixels:
            self._room.give(self.call.caller, pixels)

    def _follow(self, now: float) -> None:
        """Queue what has room, behind rows that were admitted."""
        while (entry := self._next()) is not None:
            entry.caller = self._caller
            self._submit(entry, now)

    def _submit(self, entry: ShapedEntry, now: float) -> None:
        self._batcher.submit(entry, now)
        if self.call.entry is entry:
            self.call.entry = self

    def _next(self) -> ShapedEntry | None:
        """Make the next entry, unless as much is on its way as keeps the graph busy."""
        with self._lock:
            if self._parts and self._cells >= self._cells_ahead:
                return None
            entry, part = next(self._left, (None, None))
            if entry is None or part is None:
                self._all_queued = True
                return None
            self._parts[entry] = part
            self._cells += entry.cells
            return entry

    def _take(self, entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
        """Keep outputs, and queue as much as has ended."""
        ended = [entry for entry in entries if isinstance(entry, ShapedEntry)]
        for entry in ended:
            part = self._parts.get(entry)
            if part is not None:
                own = [output[entry.first : entry.first + entry.count] for output in outputs]
                self._keep(part, own, shared=entry.count < len(outputs[0]))
        with self._lock:
            for entry in ended:
                self._parts.pop(entry, None)
            self._cells -= sum(entry.cells for entry in ended)
        self._follow(time.monotonic())
        with self._lock:
            # Only the first thread to come here hands them over.
            last = self._all_queued and not self._parts and not self._finished
            self._finished |= last
        if last:
            self._give_room()
        if last and self.call.open:
            self._finish()
