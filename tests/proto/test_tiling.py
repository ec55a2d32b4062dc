"""Windows of an image: each cell is kept once, with its halo around it."""

from fractions import Fraction

import numpy as np
import pytest
from autoencoder.v1 import tiling
from autoencoder.v1.model_pb2 import Tiling
from autoencoder.v1.tiling import Span


@pytest.mark.parametrize("halo", [0, 3, 8, 13])
@pytest.mark.parametrize("multiple", [1, 2, 8])
def test_every_cell_is_kept_once_and_has_its_halo(halo: int, multiple: int) -> None:
    about = Tiling(halo=halo, multiple=multiple, tile=64)
    for length in range(1, 400):
        position = 0
        for span in tiling.spans(length, about):
            assert span.start % multiple == 0
            assert span.stop - span.start <= 64
            assert span.start >= 0
            assert span.stop <= length
            assert span.kept_start == position < span.kept_stop
            assert span.start == 0 or span.kept_start - span.start >= halo
            assert span.stop == length or span.stop - span.kept_stop >= halo
            position = span.kept_stop
        assert position == length


@pytest.mark.parametrize(
    ("halo", "multiple", "tile", "room"), [(1, 8, 24, True), (1, 8, 23, False), (1, 8, 10, False), (4, 2, 10, True)]
)
def test_room_beside_the_halo_is_counted_in_multiples(halo: int, multiple: int, tile: int, *, room: bool) -> None:
    about = Tiling(halo=halo, multiple=multiple, tile=tile)

    assert tiling.has_room(about) == room
    if room:
        assert all(span.kept_start >= span.start for span in tiling.spans(200, about))


def test_windows_of_a_large_image_have_one_shape() -> None:
    about = Tiling(halo=9, multiple=4, tile=64)

    assert {window.size for window in tiling.windows((200, 332), about)} == {(64, 64)}


def test_an_image_of_a_tile_is_not_cut() -> None:
    about = Tiling(halo=9, multiple=4, tile=64)

    assert list(tiling.windows((64, 30), about)) == [(Span(0, 64, 0, 64), Span(0, 30, 0, 30))]
    assert not tiling.is_cut((64, 30), about)
    assert tiling.is_cut((64, 65), about)


@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(1, 4), Fraction(2)])
def test_parts_that_are_pasted_give_the_whole(ratio: Fraction) -> None:
    about = Tiling(halo=5, multiple=4, tile=32)
    height, width = 92, 68
    rows = np.arange(int(height * ratio))[:, None, None]
    whole = np.broadcast_to(
        rows + 1000 * np.arange(int(width * ratio))[:, None], (int(height * ratio), int(width * ratio), 1)
    )
    pasted = np.full_like(whole, -1)

    for window in tiling.windows((height, width), about):
        start, left = int(window.rows.start * ratio), int(window.columns.start * ratio)
        tall, wide = (int(size * ratio) for size in window.size)
        window.paste(whole[start : start + tall, left : left + wide], pasted, ratio)

    np.testing.assert_array_equal(pasted, whole)


def test_a_window_cuts_a_view() -> None:
    image = np.arange(70 * 70).reshape(70, 70, 1)
    windows = list(tiling.windows((70, 70), Tiling(halo=2, multiple=1, tile=40)))

    assert all(np.shares_memory(window.cut(image), image) for window in windows)
    assert windows[-1].cut(image)[-1, -1, 0] == image[-1, -1, 0]
