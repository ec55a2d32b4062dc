"""Graphs that run images of many sizes: padding, tiles, and what of a request is queued at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from autoencoder.v1.model_pb2 import Signature
from autoencoder.v1.shapes import DTYPES, Shapes, Size, pad
from autoencoder.v1.tiling import Window, is_cut, spans, windows

from server.batching.gradual import GradualRequest, Room
from server.batching.shaped_batcher import ShapedBatcher, ShapedEntry
from server.calls.call import Call
from server.errors import InvalidArgumentError
from server.types import Array

_IMAGE_AXES = 3

Results: TypeAlias = list[list[Array]]
"""For each item, its outputs in the graph's order."""


class Part(NamedTuple):
    """What an entry's rows are: whole items from number `item` on, or one window of it."""

    item: int
    window: Window | None = None


class ShapedGraph:
    """A graph of a model with free sizes, or one with a second input: noise levels, or noise.

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
        beside: Sequence[Any] = (),
        now: float | None = None,
    ) -> None:
        """Run items of any sizes; an error ends the call.

        Args:
            call: whose they are; its `tiles` and `exact` are set.
            items: images (H, W, C), or for `decode` latents (h, w, c), of the graph's input type.
            done: gets the outputs of all items, once, on any thread.
            beside: a noise level, or a row of noise, for each item, where the graph takes it.
            now: when they arrived, a time of time.monotonic().
        """
        try:
            pixels = self._check(items)
            request = _Request(self, call, items, done, beside)
            request.start(time.monotonic() if now is None else now, pixels, self.input)
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


class _Request(GradualRequest[Part]):
    """The items of one call: whole ones of equal size together, large ones in windows."""

    def __init__(
        self,
        graph: ShapedGraph,
        call: Call,
        items: Sequence[Array],
        done: Callable[[Results], None],
        beside: Sequence[Any],
    ) -> None:
        self._graph = graph
        self._items = items
        self._beside = beside
        self._done = done
        self._sizes = [item.shape[:2] for item in items]
        self._results: Results = [[] for _ in items]
        super().__init__(call, graph.batcher, graph.room, sum(graph.count(item) for item in items))

    def _entries(self) -> Iterator[tuple[ShapedEntry, Part]]:
        graph, items = self._graph, self._items
        for (cut, size), group in groupby(range(len(items)), lambda index: graph.plan(items[index])):
            numbers = list(group)
            step = 1 if cut else graph.batcher.queue.rows_together(size)
            for first in range(0, len(numbers), step):
                chosen = numbers[first : first + step]
                rows = graph.rows([items[index] for index in chosen])
                own = [self._beside[index] for index in chosen] if len(self._beside) else ()
                if cut:
                    yield from self._windows(chosen[0], rows, own)
                else:
                    yield self._entry(rows, own), Part(chosen[0])

    def _windows(self, item: int, rows: Array, beside: Sequence[Any]) -> Iterator[tuple[ShapedEntry, Part]]:
        graph, call = self._graph, self.call
        call.exact = call.exact and graph.exact
        self._results[item] = graph.outputs(rows[0])
        for window in graph.windows(rows[0]):
            call.tiles += 1
            yield self._entry(window.cut(rows[0])[None], beside), Part(item, window)

    def _keep(self, part: Part, outputs: Sequence[Array], *, shared: bool) -> None:
        if part.window is None:
            # Views would keep the outputs of other callers.
            own = [output.copy() for output in outputs] if shared else outputs
            for row in range(len(own[0])):
                self._results[part.item + row] = [output[row] for output in own]
            return
        for output, whole in zip(outputs, self._results[part.item], strict=True):
            part.window.paste(output[0], whole, Fraction(output.shape[1], part.window.size[0]))
        self._graph.batcher.count_tiles(1)

    def _finish(self) -> None:
        self._done([self._cropped(each, size) for each, size in zip(self._results, self._sizes, strict=True)])

    def _cropped(self, outputs: list[Array], size: Sequence[int]) -> list[Array]:
        height, width = size
        return [each[:height, :width] if self._graph.crops and each.ndim == _IMAGE_AXES else each for each in outputs]
