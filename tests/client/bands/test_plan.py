"""Bands: every cell is kept once, what they hold is whole tiles, and none is larger than allowed."""

import numpy as np
import pytest
from autoencoder.v1 import tiling as tiles
from autoencoder.v1.model_pb2 import Tiling
from hourglass_client.bands.plan import Window, spans, windows

TILING = Tiling(halo=5, multiple=4, tile=64, exact=True)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (1000, 999), (7, 50_000), (50_000, 7), (333, 200)])
@pytest.mark.parametrize("cells", [32 * 32, 64 * 64, 20_000])
def test_every_cell_is_kept_once(size: tuple[int, int], cells: int) -> None:
    kept = np.zeros(size, np.uint8)
    for window in windows(size, TILING, cells, shortest=20):
        window.kept(kept)[...] += 1
        rows, columns = window
        assert (rows.stop - rows.start) * (columns.stop - columns.start) <= cells
        for span, length in zip(window, size, strict=True):
            assert span.start % 4 == 0
            assert span.kept_start == 0 or span.kept_start - span.start >= 5
            assert span.stop == length or span.stop - span.kept_stop >= 5
            assert span.stop - span.start >= min(20, length)
    assert kept.all()
    assert kept.max() == 1


def test_bands_hold_the_tiles_of_the_whole_image() -> None:
    length = 1000
    bands = spans(length, 208, TILING)
    of_bands = [band.start + tile.start for band in bands for tile in tiles.spans(band.stop - band.start, TILING)]
    of_whole = [tile.start for tile in tiles.spans(length, TILING)]
    assert len(of_bands) == len(of_whole)


@pytest.mark.parametrize("scale", [(1, 1), (2, 1), (1, 2)])
def test_outputs_are_put_together(scale: tuple[int, int]) -> None:
    up, down = scale
    image = np.random.default_rng(0).random((100, 90, 2))
    expected = image.repeat(up, 0).repeat(up, 1)[::down, ::down]
    whole = np.full_like(expected, np.nan)
    for window in windows(image.shape[:2], TILING, 2500):
        output = window.cut(image).repeat(up, 0).repeat(up, 1)[::down, ::down]
        window.place(window.inside(output, up, down), whole, up, down)
    np.testing.assert_array_equal(whole, expected)


def test_too_few_cells_for_the_halo() -> None:
    with pytest.raises(ValueError, match="expected bands of more than 16 cells a side, got 10"):
        list(windows((100, 100), TILING, 100))


def test_a_small_image_is_one_band() -> None:
    (window,) = windows((3, 4), TILING, 10_000)
    assert window == Window((0, 3, 0, 3), (0, 4, 0, 4))
