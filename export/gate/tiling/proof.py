"""Proof that tiles give what the whole image gives, with the server's own session options; runs in the sandbox.

Sizes around the multiples, smaller than a tile and than the halo, long and thin; several origins; one and two threads;
tiles alone and in batches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from autoencoder.v1.model_pb2 import Signature, Tiling
from autoencoder.v1.shapes import Size

from bundle import replay
from bundle.golden import Array
from bundle.replay import RowDifference, Run
from bundle.runtime_options import Device
from export.gate.session import open_session
from export.gate.tiling.control import smallest
from export.gate.tiling.halo import Halo

_THREADS = (1, 2)
_ROWS = (1, 3)


class Trial(NamedTuple):
    """One image (1, H, W, C) with one row of every further input, and how it is cut."""

    inputs: Sequence[Array]
    tiling: Tiling


@dataclass(frozen=True)
class Proved:
    """Largest difference between tiles and the whole, and whether a bit changed with cells beyond the halo."""

    difference: RowDifference
    comparisons: int
    sees_farther: bool


def prove(graph: bytes, signature: Signature, halo: Halo, trials: Sequence[Trial], device: Device = "cpu") -> Proved:
    """Compare tiles with the whole in every trial.

    Raises:
        BundleError: the runtime fails in the graph.
    """
    found: list[RowDifference] = []
    farther = False
    for threads in _THREADS:
        run = open_session(graph, device, threads).run_rows
        found += [replay.tile_difference(run, *trial, rows) for trial in trials for rows in _ROWS]
        farther |= _sees_farther(run, signature, halo, [each[:1] for each in trials[0].inputs[1:]])
    largest = RowDifference(max(each.largest for each in found), max(each.excess for each in found))
    return Proved(largest, len(found), farther)


def cuts(tiling: Tiling, least: int) -> Iterator[tuple[Size, Tiling]]:
    """Sizes of inputs, in cells from `least` on, each with the tiles that it is cut into."""
    step, small = tiling.multiple, smallest(tiling.halo, tiling.multiple)
    side = small.tile
    for more in (0, 1, 3):
        yield (side + 3 * step, side + step), Tiling(halo=tiling.halo, multiple=step, tile=side + more * step)
    yield (least, 3 * side), small
    yield (4 * side + step, side), small
    yield (side, side), small
    yield (side, tiling.tile + step), tiling
    yield (tiling.tile + step, tiling.tile + step), tiling


def _sees_farther(run: Run, signature: Signature, halo: Halo, others: Sequence[Array]) -> bool:
    """Whether cells beyond the halo change a bit of the outputs of a block; trained weights can only contradict it."""
    step, side = halo.multiple, 2 * halo.halo + 3 * halo.multiple
    start = halo.halo + step
    one, other = (replay.noise(signature, (side, side), seed=seed) for seed in (1, 2))
    seen = slice(start - halo.halo, start + step + halo.halo)
    other[:, seen, seen] = one[:, seen, seen]
    before, after = run(one, *others), run(other, *others)
    for name, array in before.items():
        ratio = array.shape[1] / side if array.ndim == one.ndim else 0
        block = slice(int(start * ratio), int((start + step) * ratio))
        if array[:, block, block].tobytes() != after[name][:, block, block].tobytes():
            return True
    return False
