"""Regions of anomaly maps (connected-component labelling): the 8-connected parts above a threshold, with their boxes.

Runs of a row are joined to those of the row before by union-find, all at once in arrays. A map is worked off in blocks
of rows, of which only parts that touch the last row stay open: memory follows a block and the width, whatever the map.
Server and client use it; the client adds the rows of a picture band by band.

Wu, Otoo, Suzuki, "Optimizing two-pass connected-component labeling algorithms" (2009); Liu, Tarjan, "Simple concurrent
labeling algorithms for connected components" (2019), for the parallel union by the smaller label.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoencoder.v1.autoencoder_pb2 import Region

Integers: TypeAlias = NDArray[np.int64]

MOST_REGIONS = 100
"""Of an image, those with the largest scores."""
_BLOCK_PIXELS = 2**16
# Wider maps are turned: a row may have half as many parts as pixels, and the open ones are kept.
_WIDEST = 2**15


def find(maps: NDArray[np.float32], threshold: float, check_wanted: Callable[[], None] = lambda: None) -> list[Region]:
    """Regions of maps (N, H, W) above a threshold, which is compared as float32.

    By image, then by score, the largest first; equal ones from top to bottom and from left to right. `check_wanted` is
    called after every 65,536 pixels, and may raise.
    """
    _, height, width = maps.shape
    if width > max(height, _WIDEST):
        found = find(maps.swapaxes(1, 2), threshold, check_wanted)
        for region in found:
            region.top, region.left = region.left, region.top
            region.height, region.width = region.width, region.height
        return sorted(found, key=lambda region: (region.image, -region.score, region.top, region.left))
    found: list[Region] = []
    # A finder ranks all that it has found after each block: one for many images would rank the first again and again.
    step = max(_BLOCK_PIXELS // (height * width), 1)
    for first in range(0, len(maps), step):
        finder = RegionFinder(height, width, threshold, check_wanted)
        finder.add(maps[first : first + step].reshape(-1, width))
        for region in finder.regions():
            region.image += first
            found.append(region)
    return found


class RegionFinder:
    """Finds the regions of images of one size, whose rows are added from top to bottom, image after image."""

    def __init__(
        self, height: int, width: int, threshold: float, check_wanted: Callable[[], None] = lambda: None
    ) -> None:
        self._height = height
        self._width = width
        self._threshold = np.float32(threshold)
        self._check_wanted = check_wanted
        self._rows = 0
        self._last = -1
        """Number of the last row with an open part."""
        self._open = _Parts.none()
        """Parts that touch the last row, by run of that row; those of one part share a label."""
        self._labels: Integers = np.empty(0, np.int64)
        self._starts: Integers = np.empty(0, np.int64)
        self._ends: Integers = np.empty(0, np.int64)
        self._closed = _Parts.none()

    def add(self, rows: NDArray[np.float32]) -> None:
        """Add rows (n, W) of maps."""
        step = max(_BLOCK_PIXELS // self._width, 1)
        for first in range(0, len(rows), step):
            self._add(rows[first : first + step])
            self._check_wanted()

    def regions(self) -> list[Region]:
        """Regions of all images, at most `MOST_REGIONS` each, as `find` orders them."""
        kept = self._closed.joined(self._open.chosen(_firsts(self._labels))).best(self._height + 1)
        images, tops = np.divmod(kept.top, self._height + 1)
        sizes = (kept.bottom - kept.top + 1, kept.right - kept.left)
        columns = (images, tops, kept.left, *sizes, kept.score)
        return [
            Region(image=image, top=top, left=left, height=height, width=width, score=score)
            for image, top, left, height, width, score in zip(*(each.tolist() for each in columns), strict=True)
        ]

    def _add(self, rows: NDArray[np.float32]) -> None:
        """Add a block."""
        numbers = np.arange(self._rows, self._rows + len(rows))
        self._rows += len(rows)
        # An empty row between images keeps their parts apart.
        numbers += numbers // self._height
        above = rows > self._threshold
        if not above.any():
            self._close(self._open.chosen(_firsts(self._labels)))
            self._open, self._labels = _Parts.none(), self._labels[:0]
            self._starts, self._ends = self._labels, self._labels
            return
        lines, starts, ends = _runs(above)
        firsts = np.cumsum(ends - starts) - (ends - starts)
        score = np.maximum.reduceat(rows[above], firsts)
        own = _Parts(numbers[lines], numbers[lines], starts, ends, score)
        parts = self._open.joined(own)
        lines = np.concatenate([np.full(len(self._starts), self._last), numbers[lines]])
        starts, ends = np.concatenate([self._starts, starts]), np.concatenate([self._ends, ends])
        one, other = _touching(lines, starts, ends, self._width + 2)
        carried = np.arange(len(self._labels))
        roots = _united(len(lines), np.concatenate([one, self._labels]), np.concatenate([other, carried]))
        merged, labels = parts.merged(roots)
        self._last = numbers[-1]
        self._carry(merged, labels, lines == self._last, starts, ends)

    def _carry(
        self, parts: "_Parts", labels: Integers, is_last: NDArray[np.bool_], starts: Integers, ends: Integers
    ) -> None:
        """Keep open what has a run in the last row; the rest is complete."""
        touching = labels[is_last]
        is_open = np.zeros(len(parts.top), bool)
        is_open[touching] = True
        self._close(parts.chosen(~is_open))
        self._open = parts.chosen(touching)
        self._starts, self._ends = starts[is_last], ends[is_last]
        _, first, inverse = np.unique(touching, return_index=True, return_inverse=True)
        self._labels = first[inverse]

    def _close(self, parts: "_Parts") -> None:
        if len(parts.top):
            self._closed = self._closed.joined(parts).best(self._height + 1)


@dataclass(frozen=True)
class _Parts:
    """Parts of maps: (n,) each. Rows and columns from the first to the last one, of columns one beyond it."""

    top: Integers
    bottom: Integers
    left: Integers
    right: Integers
    score: NDArray[np.float32]

    @classmethod
    def none(cls) -> "_Parts":
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty, empty, np.empty(0, np.float32))

    def chosen(self, index: NDArray[Any]) -> "_Parts":
        return _Parts(*(getattr(self, field.name)[index] for field in fields(self)))

    def joined(self, other: "_Parts") -> "_Parts":
        return _Parts(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def merged(self, roots: Integers) -> tuple["_Parts", Integers]:
        """Parts with one root as one, and for each part before the index of the one it is in."""
        is_root = roots == np.arange(len(roots))
        labels = (np.cumsum(is_root) - 1)[roots]
        merged = self.chosen(is_root)
        np.minimum.at(merged.top, labels, self.top)
        np.maximum.at(merged.bottom, labels, self.bottom)
        np.minimum.at(merged.left, labels, self.left)
        np.maximum.at(merged.right, labels, self.right)
        np.maximum.at(merged.score, labels, self.score)
        return merged, labels

    def best(self, image_rows: int) -> "_Parts":
        """The parts of each image, of so many rows, with the largest scores, in order."""
        images = self.top // image_rows
        order = np.lexsort((self.right, self.bottom, self.left, self.top, -self.score, images))
        images = images[order]
        rank = np.arange(len(order)) - np.searchsorted(images, images)
        return self.chosen(order[rank < MOST_REGIONS])


def _firsts(labels: Integers) -> NDArray[np.bool_]:
    """Which of some runs stand for their parts."""
    return labels == np.arange(len(labels))


def _runs(above: NDArray[np.bool_]) -> tuple[Integers, Integers, Integers]:
    """Row, first column and the column after the last one of each run of a mask (h, w), in raster order."""
    height, width = above.shape
    padded = np.zeros((height, width + 1), bool)
    padded[:, :width] = above
    flat = padded.ravel()
    starts = np.flatnonzero(flat[1:] & ~flat[:-1]) + 1
    if flat[0]:
        starts = np.concatenate([[0], starts])
    ends = np.flatnonzero(flat[:-1] & ~flat[1:]) + 1
    lines = starts // (width + 1)
    return lines, starts - lines * (width + 1), ends - lines * (width + 1)


def _touching(lines: Integers, starts: Integers, ends: Integers, stride: int) -> tuple[Integers, Integers]:
    """Indexes of runs that touch, at corners too, one of them in the row after the other's; runs in raster order."""
    below = (lines + 1) * stride
    first = np.searchsorted(lines * stride + ends, below + starts, "left")
    count = np.searchsorted(lines * stride + starts, below + ends, "right") - first
    one = np.repeat(np.arange(len(lines)), count)
    before = np.cumsum(count) - count
    return one, np.arange(len(one)) + np.repeat(first - before, count)


def _united(count: int, one: Integers, other: Integers) -> Integers:
    """Root of each of `count` nodes: the smallest of those that pairs connect it with."""
    roots = np.arange(count)
    while len(one):
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other))
        while True:
            further = roots[roots]
            if np.array_equal(further, roots):
                break
            roots = further
        one, other = roots[one], roots[other]
        apart = one != other
        one, other = one[apart], other[apart]
    return roots
