"""Tiled inference (overlap-tile strategy): a large image through a graph in parts, with the outputs of the whole.

Ronneberger et al., "U-Net" (2015), section 2. A window is what the graph gets: a tile and the halo around it, cut off
at the image's edge, where the network's own padding acts as for the whole image. Gate and server share this plan; the
client cuts bands of its own size from the same parts.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from numpy.typing import NDArray

from autoencoder.v1.model_pb2 import Tiling
from autoencoder.v1.shapes import Size


class Span(NamedTuple):
    """One axis of a window: cells that the graph gets, and those of them whose outputs are kept."""

    start: int
    stop: int
    kept_start: int
    kept_stop: int


class Window(NamedTuple):
    """A part of an image for one row of a graph run."""

    rows: Span
    columns: Span

    @property
    def size(self) -> Size:
        """Height and width of what the graph gets."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """(H, W, C) to the window's (h, w, C), a view."""
        return image[self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]

    def paste(self, output: NDArray[Any], whole: NDArray[Any], ratio: Fraction) -> None:
        """Copy the kept part of a window's (h', w', c) output into the whole one.

        `ratio`: output cells per input cell along an axis.
        """
        placed = tuple(_scaled(span.kept_start, span.kept_stop, ratio) for span in self)
        inside = tuple(_scaled(s.kept_start - s.start, s.kept_stop - s.start, ratio) for s in self)
        whole[placed] = output[inside]


def is_cut(size: Size, tiling: Tiling) -> bool:
    """Whether an input of this size is run in parts."""
    return max(size) > tiling.tile


def windows(size: Size, tiling: Tiling) -> Iterator[Window]:
    """Windows of an input, row by row: every cell is kept in one of them; few shapes, so that they can run together."""
    across = list(spans(size[1], tiling))
    for rows in spans(size[0], tiling):
        for columns in across:
            yield Window(rows, columns)


def spans(length: int, tiling: Tiling) -> Sequence[Span]:
    """Cut an axis: windows of `tile` cells that begin at multiples of `multiple`, the last shifted back to the edge."""
    if length <= tiling.tile:
        return [Span(0, length, 0, length)]
    step, halo, window = tiling.multiple, aligned_halo(tiling), _window(tiling)
    last = -(-(length - window) // step) * step
    starts = [*range(0, last, window - 2 * halo), last]
    kept = [0, *(start + halo for start in starts[1:]), length]
    return [
        Span(start, min(start + window, length), kept_start, kept_stop)
        for start, kept_start, kept_stop in zip(starts, kept, kept[1:], strict=False)
    ]


def aligned_halo(tiling: Tiling) -> int:
    """The halo, rounded up to where tiles may begin."""
    return -(-tiling.halo // tiling.multiple) * tiling.multiple


def has_room(tiling: Tiling) -> bool:
    """Whether a window keeps outputs of its own: a multiple beside the halos, both as tiles may begin."""
    return _window(tiling) - 2 * aligned_halo(tiling) >= tiling.multiple


def _window(tiling: Tiling) -> int:
    """Side of a window, rounded down to where tiles may begin."""
    return tiling.tile // tiling.multiple * tiling.multiple


def trials(tiling: Tiling) -> Iterator[tuple[Tiling, Size]]:
    """Images on which tiles are compared with the whole: tilings of the smallest tiles and of real ones, and sizes."""
    step = tiling.multiple
    small = Tiling(halo=tiling.halo, multiple=step, tile=2 * aligned_halo(tiling) + 2 * step)
    across = small.tile + 3 * step
    yield small, (across, across)
    yield tiling, (tiling.tile + step, small.tile)


def _scaled(start: int, stop: int, ratio: Fraction) -> slice:
    # In integers, as products of fractions take longer than the copy of a small part.
    up, down = ratio.as_integer_ratio()
    return slice(start * up // down, stop * up // down)
