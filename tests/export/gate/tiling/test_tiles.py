"""The choice of tiles, and what the check says of them."""

import pytest
from autoencoder.v1.model_pb2 import Tiling

from bundle.replay import RowDifference
from export.gate.tiling.axes import UntileableError
from export.gate.tiling.halo import Halo
from export.gate.tiling.proof import Proved
from export.gate.tiling.tiles import Tiled, tile_side

TILING = Tiling(halo=8, multiple=4, tile=256, exact=True)


@pytest.mark.parametrize(
    ("halo", "multiple", "side"),
    [(0, 1, 256), (30, 2, 256), (37, 1, 256), (38, 1, 512), (60, 12, 504), (160, 16, 1024)],
)
def test_half_of_a_tile_is_kept(halo: int, multiple: int, side: int) -> None:
    assert tile_side(Halo(halo, multiple, ((halo, halo), (halo, halo))), 256, 1024) == side


def test_a_halo_that_leaves_nothing_is_none() -> None:
    with pytest.raises(UntileableError, match="at most 256 cells on each side, got 400"):
        tile_side(Halo(400, 1, ((400, 400), (400, 400))), 256, 1024)


def proved(difference: float, excess: float, *, sees_farther: bool = False) -> Proved:
    return Proved(RowDifference(difference, excess), 60, sees_farther)


@pytest.mark.parametrize(
    ("tiled", "problem"),
    [
        (Tiled({}, [1], TILING, proved=proved(0, 0)), ""),
        (Tiled({}, [1], TILING, proved=proved(1e-7, 0.01)), ""),
        (Tiled({}, [1], untileable="node 'norm'"), ""),
        (Tiled({}, [1], TILING, proved=proved(0.5, 9.0)), "tiles are off by 0.5"),
        (Tiled({}, [1], TILING, proved=proved(0, 0, sees_farther=True)), "beyond the halo of 8"),
        (Tiled({}, [1], TILING, proved=proved(0, 0), control="inconclusive: nothing"), "inconclusive"),
    ],
)
def test_what_is_refused(tiled: Tiled, problem: str) -> None:
    assert problem in tiled.problem
    assert bool(tiled.problem) == bool(problem)


def test_what_was_found_is_said() -> None:
    exact, close = Tiled({}, [1], TILING, proved=proved(0, 0)), Tiled({}, [1], TILING, proved=proved(6e-8, 0.01))
    assert exact.seen == "halo 8, tiles of 256 in multiples of 4: the bits of the whole image"
    assert close.seen.endswith("off by 6e-08 from the whole image")
    assert Tiled({}, [1], untileable="node 'norm'").seen == "no tiles: node 'norm'"
