"""Thresholds come from whole images, padded and cropped as a server does."""

import numpy as np
import pytest
from autoencoder.v1.shapes import Shapes
from numpy.typing import NDArray

from export.errors import InputError
from export.publication.calibration import held_out_scores

FREE = Shapes((0, 0, 1), (0,), multiple=4)
RNG = np.random.default_rng(0)


def images(count: int, height: int = 6, width: int = 9) -> list[NDArray[np.uint8]]:
    return list(RNG.integers(0, 256, (count, height, width, 1), dtype=np.uint8))


def brightness(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    assert rows.shape[1:] == (8, 12, 1)
    assert len(rows) <= 32
    return rows.astype(np.float32)


def test_maps_are_of_padded_images_and_scores_of_what_is_left() -> None:
    given = images(70)
    found = held_out_scores(given, FREE, "mean", brightness)
    np.testing.assert_allclose(found.scores, [each.mean() for each in given], rtol=1e-6)
    np.testing.assert_array_equal(found.maxima, [each.max() for each in given])
    assert found.map_low == np.median([np.median(each) for each in given])
    assert found.size == (6, 9)


def test_a_model_of_one_size_is_not_padded() -> None:
    fixed = Shapes((6, 9, 1), (0,), multiple=4)
    found = held_out_scores(images(9), fixed, "max", lambda rows: rows.astype(np.float32))
    assert found.size == (6, 9)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (images(8), "at least 9 reference images .* got 8: give --reference more"),
        (images(9) + images(1, 7), "of one size to calibrate detect on, got 6 x 9, 7 x 9: resize or cut"),
    ],
)
def test_images_that_tell_no_rate_are_refused(given: list[NDArray[np.uint8]], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        held_out_scores(given, FREE, "max", brightness)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_maps_that_are_no_distances_are_refused(value: float) -> None:
    def detect(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full(rows.shape, value, np.float32)

    with pytest.raises(InputError, match="expected maps of finite numbers from 0"):
        held_out_scores(images(9), FREE, "max", detect)
