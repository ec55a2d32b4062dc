"""Heat maps and boxes over images."""

from pathlib import Path

import numpy as np
import pytest
from hourglass_client.answers import Region
from hourglass_client.cli import overlays
from hourglass_client.cli.inputs import ImageBatch, UsageError
from hourglass_client.cli.overlays import overlay

GREY = np.full((600, 500, 3), 100, np.uint8)
CYAN = (0, 225, 255)


def test_what_is_normal_stays_as_it_is() -> None:
    np.testing.assert_array_equal(overlay(GREY, np.full((600, 500), 64, np.uint8), []), GREY)


def test_the_stranger_the_redder() -> None:
    heat = np.broadcast_to(np.arange(256, dtype=np.uint8).repeat(2), (600, 512))
    drawn = overlay(np.full((600, 512, 3), 100, np.uint8), heat, []).astype(int)
    redness = drawn[0, :, 0] - drawn[0, :, 1]
    assert (np.diff(redness[2 * 64 :]) >= -1).all()
    assert redness[-1] > 80


def test_a_box_lies_outside_its_region() -> None:
    heat = np.zeros((600, 500), np.uint8)
    region = Region(0, top=100, left=50, height=20, width=30, score=1.0)
    drawn = overlay(GREY, heat, [region])
    np.testing.assert_array_equal(drawn[100:120, 50:80], GREY[:20, :30])
    for row, column in ((97, 60), (122, 60), (110, 47), (110, 82)):
        assert tuple(drawn[row, column]) == CYAN
    np.testing.assert_array_equal(drawn[130:], GREY[130:])


@pytest.mark.parametrize("size", [(600, 500), (1, 1), (7, 40)])
def test_a_box_around_the_whole_picture(size: tuple[int, int]) -> None:
    height, width = size
    scale = max(1, 384 // max(size))
    image = np.full((height, width, 3), 100, np.uint8)
    drawn = overlay(image, np.zeros(size, np.uint8), [Region(0, 0, 0, height, width, 1.0)])
    np.testing.assert_array_equal(drawn, image.repeat(scale, 0).repeat(scale, 1))


def test_small_pictures_are_enlarged() -> None:
    heat = np.zeros((8, 8), np.uint8)
    drawn = overlay(GREY[:8, :8], heat, [Region(0, 2, 3, 1, 1, 1.0)])
    assert drawn.shape == (384, 384, 3)
    np.testing.assert_array_equal(drawn[96:144, 144:192], GREY[:48, :48])
    assert (drawn[90:96, 150] == CYAN).any()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((2, 3), 7, np.uint8), 7),
        (np.full((2, 3, 1), 7 * 257, np.uint16), 7),
        (np.full((2, 3, 3), 7 / 255), 7),
        (np.full((2, 3), 1.7, np.float32), 255),
        (np.full((2, 3), -0.3, np.float32), 0),
    ],
)
def test_arrays_are_shown_in_eight_bits(array: np.ndarray, expected: int, tmp_path: Path) -> None:
    batch = ImageBatch(["x"], array[None], tmp_path / "x.npy")
    np.testing.assert_array_equal(overlays.picture(batch, 0, (2, 3)), np.full((2, 3, 3), expected, np.uint8))


def test_a_file_that_has_gone_meanwhile(tmp_path: Path) -> None:
    batch = ImageBatch(["x"], [tmp_path / "x.png"])
    with pytest.raises(UsageError, match="No such file"):
        overlays.picture(batch, 0, (2, 3))
