"""Anomaly maps: their scores; as images linear from black to the threshold and beyond, whatever the thresholds are."""

import numpy as np
import pytest
from autoencoder.v1.anomaly_maps import drawn, scores_of

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


def grey(values: list[float], low: float, threshold: float) -> list[int]:
    found = drawn(np.array(values, np.float32).reshape(1, -1, 1), low, threshold)
    assert found.dtype == np.float32
    return np.rint(np.clip(found, 0, 1) * np.float32(255)).ravel().tolist()


def test_black_threshold_and_clipping() -> None:
    assert grey([-9, 0.125, 0.375, 0.625, 1.1, 9], 0.125, 0.625) == [0, 0, 64, 128, 250, 255]
    assert grey([-3, -2, -1], -3, -1) == [0, 64, 128]


@pytest.mark.parametrize("low", [0.0, 0.125, 1e30])
def test_thresholds_as_large_and_as_near_as_can_be(low: float) -> None:
    assert grey([low, 0.5 * LARGEST, LARGEST], low, LARGEST) == [0, 64, 128]
    nearest = float(np.nextafter(np.float32(low), np.float32(LARGEST)))
    assert grey([low, nearest, LARGEST], low, nearest) == [0, 128, 255]
    assert grey([-LARGEST, SMALLEST], 0, SMALLEST) == [0, 128]


def test_scores_are_the_largest_or_the_mean_value_of_a_map() -> None:
    maps = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    for each in (maps, maps[..., 0], [*maps]):
        assert scores_of(each, "max").tolist() == [11, 23]
        assert scores_of(each, "mean").tolist() == [5.5, 17.5]
    assert scores_of(maps, "mean").dtype == np.float32
