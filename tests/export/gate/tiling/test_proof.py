"""The proof of tiles on a graph written node by node."""

import dataclasses

import numpy as np
import pytest
from autoencoder.v1.model_pb2 import Tiling
from small_graphs import IMAGES, node, served, weights

from bundle import replay
from export.gate.tiling.halo import Halo, derive
from export.gate.tiling.proof import Proved, Trial, cuts, prove

CONV = node("Conv", "-", "w", pads=[1] * 4)


@pytest.fixture(scope="module")
def graph() -> bytes:
    return served([CONV, node("Relu", "-"), CONV], {"w": weights(2, 2, 3)})


def proved(graph: bytes, halo: Halo) -> Proved:
    tiling = Tiling(halo=halo.halo, multiple=halo.multiple, tile=24)
    trials = [Trial([replay.noise(IMAGES, size)], cut) for size, cut in cuts(tiling, 4)]
    return prove(graph, IMAGES, halo, trials)


def test_the_derived_halo_gives_the_bits_of_the_whole(graph: bytes) -> None:
    found = proved(graph, derive(graph, IMAGES, 1))
    assert found.difference == (0.0, 0.0)
    assert not found.sees_farther
    assert found.comparisons == 8 * 2 * 2


def test_a_halo_that_is_too_small_is_seen(graph: bytes) -> None:
    found = proved(graph, dataclasses.replace(derive(graph, IMAGES, 1), halo=1))
    assert found.difference.excess > 1
    assert found.sees_farther


def test_sizes_are_around_the_tile_and_below_the_halo() -> None:
    tiling = Tiling(halo=8, multiple=4, tile=64)
    sizes = [size for size, _ in cuts(tiling, 4)]
    assert all(side % 4 == 0 for size in sizes for side in size)
    assert min(min(size) for size in sizes) < tiling.halo
    assert (68, 68) in sizes
    assert any(max(size) <= cut.tile for size, cut in cuts(tiling, 4))
    assert any(max(size) > 3 * min(size) for size in sizes)
    assert np.unique([cut.tile for _, cut in cuts(tiling, 4)]).tolist() == [24, 28, 36, 64]
