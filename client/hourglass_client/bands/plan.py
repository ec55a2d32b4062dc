"""Where an image is cut into bands, and which part of each is kept.

Bands are cut as the server cuts tiles, so that a band holds whole tiles and no work is done twice: each begins at a
multiple of `Tiling.multiple` and overlaps its neighbours by the halo on each side.
"""

from collections.abc import Iterator
from math import isqrt
from typing import Any

from autoencoder.v1 import tiling as tiles
from autoencoder.v1.model_pb2 import Tiling
from autoencoder.v1.shapes import Size
from autoencoder.v1.tiling import Span, aligned_halo
from numpy.typing import NDArray


class Window(tiles.Window):
    """A band."""

    __slots__ = ()

    def kept(self, image: NDArray[Any]) -> NDArray[Any]:
        """(H, W, C) to what is kept, a view."""
        return image[self.rows.kept_start : self.rows.kept_stop, self.columns.kept_start : self.columns.kept_stop]

    def inside(self, output: NDArray[Any], up: int = 1, down: int = 1) -> NDArray[Any]:
        """What is kept of the output for this band, a view; `up` / `down` output cells for each of the input."""
        return output[tuple(_scaled(span, span.start, up, down) for span in self)]

    def place(self, output: NDArray[Any], whole: NDArray[Any], up: int = 1, down: int = 1) -> None:
        """Copy what `inside` gives into the output for the whole image."""
        whole[tuple(_scaled(span, 0, up, down) for span in self)] = output


def windows(size: Size, tiling: Tiling, cells: int, shortest: int = 1) -> Iterator[Window]:
    """Bands of at most `cells` cells, row by row; none is shorter or narrower than `shortest` unless the image is.

    Raises:
        ValueError: so few cells do not hold the halo.
    """
    height, width = size
    across = _side(isqrt(cells), tiling)
    if width <= across:
        down = _side(cells // width, tiling)
    else:
        down = across
        if height <= down:
            across = _side(cells // height, tiling)
    columns = list(spans(width, across, tiling, shortest))
    for rows in spans(height, down, tiling, shortest):
        for each in columns:
            yield Window(rows, each)


def spans(length: int, window: int, tiling: Tiling, shortest: int = 1) -> Iterator[Span]:
    """Cut an axis into windows of `window` cells, a multiple of `tiling.multiple`; the last holds what is left."""
    halo = aligned_halo(tiling)
    start = kept = 0
    while start + window < length:
        stop = start + window
        yield Span(start, stop, kept, stop - halo)
        start, kept = stop - 2 * halo, stop - halo
    earliest = max(0, length - shortest) // tiling.multiple * tiling.multiple
    yield Span(min(start, earliest), length, kept, length)


def _side(most: int, tiling: Tiling) -> int:
    """The longest side, up to `most`, of a window that the server cuts into whole tiles."""
    step, halo = tiling.multiple, aligned_halo(tiling)
    tile = tiling.tile // step * step
    side = most // step * step
    if side > tile > 2 * halo:
        stride = tile - 2 * halo
        side = tile + (side - tile) // stride * stride
    if side <= 2 * halo:
        raise ValueError(f"expected bands of more than {2 * halo} cells a side, got {most}")
    return side


def _scaled(span: Span, origin: int, up: int, down: int) -> slice:
    """The kept part in output cells, counted from `origin`; at the image's end all that there is."""
    start = (span.kept_start - origin) * up // down
    return slice(start, None if span.kept_stop == span.stop else (span.kept_stop - origin) * up // down)
