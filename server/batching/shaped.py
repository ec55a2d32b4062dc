"""Graphs that run images of many sizes: padding, tiles, and what of a request is queued at a time."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple, TypeAlias

import numpy as np
from autoencoder.v1.model_pb2 import Signature
from autoencoder.v1.shapes import DTYPES, Shapes, Size, pad
from autoencoder.v1.tiling import Window, is_cut, spans, windows

from server.batching.entry import Entry
from server.batching.room import Room
from server.batching.shaped_batcher import ShapedBatcher, ShapedEntry
from server.calls.call import Call
from server.errors import InvalidArgumentError
from server.types import Array

# Full runs of a graph for each that may run at a time: one runs, one waits.
_RUNS_AHEAD = 2
_IMAGE_AXES = 3

Results: TypeAlias = list[list[Array]]
"""For each item, its outputs in the graph's order."""


class Part(NamedTuple):
    """What an entry's rows are: whole items from number `item` on, or one window of it."""

    item: int
    window: Window | None = None


class ShapedGraph:
    """A graph of a model with free sizes, or one that takes noise levels.

    Images are padded to the multiple that the graph needs, and cropped again. Those larger than a tile are run in
    windows; windows and whole images of all callers share runs.
    """

    def __init__(
        self,
        batcher: ShapedBatcher,
        signature: Signature,
        shapes: Shapes,
        *,
        exact: bool,
        untiled_pixels: int,
        room: Room,
    ) -> None:
        """Make it of its batcher.

        Args:
            batcher: runs the graph.
            signature: of the graph.
            shapes: of the model.
            exact: whether tiles have the bits of the whole here.
            untiled_pixels: most pixels of an image of free size, where the graph has no tiles.
            room: of the model, for what its requests hold.
        """
        self.batcher = batcher
        self.room = room
        self.exact = exact
        self.tiling = signature.tiling if signature.HasField("tiling") else None
        self.cells_ahead = _RUNS_AHEAD * batcher.policy.concurrent_runs * batcher.queue.full_cells
        """Height times width of what a request has queued or running at a time."""
        self._outputs = signature.outputs
        self._shapes = shapes
        self._untiled_pixels = untiled_pixels
        self.input = signature.inputs[0].name
        # A code is that of the padded image, and what it decodes to has no size but its own.
        self.crops = signature.name not in {"encode", "decode"}

    def submit(
        self,
        call: Call,
        items: Sequence[Array],
        done: Callable[[Results], None],
        levels: Sequence[float] = (),
        now: float | None = None,
    ) -> None:
        """Run items of any sizes; an error ends the call.

        Args:
            call: whose they are; its `tiles` and `exact` are set.
            items: images (H, W, C), or for `decode` latents (h, w, c), of the graph's input type.
            done: gets the outputs of all items, once, on any thread.
            levels: a noise level for each item, where the graph takes them.
            now: when they arrived, a time of time.monotonic().
        """
        try:
            pixels = self._check(items)
            request = _Request(self, call, items, done, levels)
            request.start(time.monotonic() if now is None else now, pixels)
        except Exception as error:  # noqa: BLE001 (it becomes the call's status)
            call.fail(error)

    def plan(self, item: Array) -> tuple[bool, Size]:
        """Whether an item is cut into windows, and its padded height and width."""
        size = self._size(item)
        return self.tiling is not None and is_cut(size, self.tiling), size

    def count(self, item: Array) -> int:
        """Rows that an item takes: its windows, or one."""
        cut, (height, width) = self.plan(item)
        return len(spans(height, self.tiling)) * len(spans(width, self.tiling)) if cut and self.tiling else 1

    def rows(self, items: Sequence[Array]) -> Array:
        """(count, h, w, c) of items that are equally large when padded; a view of one that needs no padding."""
        padded = [pad(item, self._size(item)) for item in items]
        return padded[0][None] if len(padded) == 1 else np.stack(padded)

    def windows(self, item: Array) -> Iterator[Window]:
        """Cut a padded item."""
        return iter(()) if self.tiling is None else windows((item.shape[0], item.shape[1]), self.tiling)

    def outputs(self, item: Array) -> list[Array]:
        """Make what the outputs of the windows of a padded item are pasted into."""
        image = item.shape if self.input == "images" else self._shapes.image_of(item.shape)
        sized = self._shapes.sized((image[0], image[1]))
        return [np.empty(sized.spec(spec.name)[1:], DTYPES[spec.data_type]) for spec in self._outputs]

    def _size(self, item: Array) -> Size:
        height, width = item.shape[:2]
        return self._shapes.padded(height, width) if self.input == "images" else (height, width)

    def _check(self, items: Sequence[Array]) -> int:
        """Refuse what can be run neither whole nor in tiles; return the pixels of all items."""
        scale = 1 if self.input == "images" else self._shapes.downsampling
        sizes = [(height * scale, width * scale) for height, width in map(self._size, items)]
        pixels = sum(height * width for height, width in sizes)
        for height, width in sizes if self._shapes.free and self.tiling is None else ():
            if height * width > self._untiled_pixels:
                raise InvalidArgumentError(
                    self.input,
                    f"expected images of at most {self._untiled_pixels} pixels, because the graph looks at the whole "
                    f"image and so cannot run it in tiles, got {height} x {width}: send a smaller one",
                )
        return pixels


class _Request:
    """The items of one call on their way through a graph: a bounded part of them is queued or runs at a time."""

    queued = 0.0
    _pixels = 0
    """For which it has taken room."""

    def __init__(
        self,
        graph: ShapedGraph,
        call: Call,
        items: Sequence[Array],
        done: Callable[[Results], None],
        levels: Sequence[float],
    ) -> None:
        self._graph = graph
        self._call = call
        self._done = done
        self._sizes = [item.shape[:2] for item in items]
        self.count = sum(graph.count(item) for item in items)
        self._made = 0
        self._results: Results = [[] for _ in items]
        self._left = self._entries(items, levels)
        self._lock = threading.Lock()
        self._parts: dict[ShapedEntry, Part] = {}
        """What is queued or runs."""
        self._cells = 0
        self._all_queued = False
        self._caller = ""

    def start(self, now: float, pixels: int) -> None:
        """Take room, and queue the first entries; the others follow as these end."""
        self._graph.room.take(self._call.caller, pixels, self._graph.input)
        self._pixels = pixels
        self.queued = now
        first = self._next()
        if first is not None:
            first.following = self.count - first.count
            self._submit(first, now)
            self._caller = first.caller
            self._follow(now)
        if not self._call.open:
            # It may have ended before it had an entry to discard.
            self._give_room()

    def discard(self, reason: str) -> None:
        """Queue nothing more, and take what waits out of the queue."""
        with self._lock:
            entries, self._parts, self._left = list(self._parts), {}, iter(())
        self._give_room()
        self._graph.batcher.discard_all(entries, reason)

    def _give_room(self) -> None:
        with self._lock:
            pixels, self._pixels = self._pixels, 0
        if pixels:
            self._graph.room.give(self._call.caller, pixels)

    def _follow(self, now: float) -> None:
        """Queue what has room, behind rows that were admitted."""
        while (entry := self._next()) is not None:
            entry.caller = self._caller
            self._submit(entry, now)

    def _submit(self, entry: ShapedEntry, now: float) -> None:
        self._graph.batcher.submit(entry, now)
        if self._call.entry is entry:
            self._call.entry = self

    def _next(self) -> ShapedEntry | None:
        """Make the next entry, unless as much is on its way as keeps the graph busy."""
        with self._lock:
            if self._parts and self._cells >= self._graph.cells_ahead:
                return None
            entry, part = next(self._left, (None, None))
            if entry is None or part is None:
                self._all_queued = True
                return None
            self._parts[entry] = part
            self._cells += entry.cells
            return entry

    def _entries(self, items: Sequence[Array], levels: Sequence[float]) -> Iterator[tuple[ShapedEntry, Part]]:
        graph = self._graph
        for (cut, size), group in groupby(range(len(items)), lambda index: graph.plan(items[index])):
            numbers = list(group)
            step = 1 if cut else graph.batcher.queue.rows_together(size)
            for first in range(0, len(numbers), step):
                chosen = numbers[first : first + step]
                rows = graph.rows([items[index] for index in chosen])
                own = [levels[index] for index in chosen] if levels else ()
                if cut:
                    yield from self._windows(chosen[0], rows, own)
                else:
                    yield self._entry(rows, own), Part(chosen[0])

    def _windows(self, item: int, rows: Array, levels: Sequence[float]) -> Iterator[tuple[ShapedEntry, Part]]:
        graph, call = self._graph, self._call
        call.exact = call.exact and graph.exact
        self._results[item] = graph.outputs(rows[0])
        for window in graph.windows(rows[0]):
            call.tiles += 1
            yield self._entry(window.cut(rows[0])[None], levels), Part(item, window)

    def _entry(self, rows: Array, levels: Sequence[float]) -> ShapedEntry:
        entry = ShapedEntry(self._call, rows, levels, self._take, self)
        entry.position = self._made
        self._made += entry.count
        return entry

    def _take(self, entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
        """Keep outputs, and queue as much as has ended."""
        ended = [entry for entry in entries if isinstance(entry, ShapedEntry)]
        for entry in ended:
            self._keep(entry, outputs)
        with self._lock:
            parts = [self._parts.pop(entry, None) for entry in ended]
            self._cells -= sum(entry.cells for entry in ended)
        if tiles := sum(part is not None and part.window is not None for part in parts):
            self._graph.batcher.count_tiles(tiles)
        self._follow(time.monotonic())
        with self._lock:
            results: Results = []
            if self._all_queued and not self._parts:
                # Only the first thread to come here hands them over.
                results, self._results = self._results, results
        if results:
            self._give_room()
        if results and self._call.open:
            self._done([self._cropped(each, size) for each, size in zip(results, self._sizes, strict=True)])

    def _keep(self, entry: ShapedEntry, outputs: Sequence[Array]) -> None:
        """Put the outputs of an entry where they belong."""
        part = self._parts.get(entry)
        if part is None:
            return
        own = [output[entry.first : entry.first + entry.count] for output in outputs]
        if part.window is None:
            if entry.count < len(outputs[0]):
                # Otherwise they would keep those of other callers.
                own = [output.copy() for output in own]
            for row in range(entry.count):
                self._results[part.item + row] = [output[row] for output in own]
            return
        for output, whole in zip(own, self._results[part.item], strict=True):
            part.window.paste(output[0], whole, Fraction(output.shape[1], entry.shape[0]))

    def _cropped(self, outputs: list[Array], size: Sequence[int]) -> list[Array]:
        height, width = size
        return [each[:height, :width] if self._graph.crops and each.ndim == _IMAGE_AXES else each for each in outputs]
