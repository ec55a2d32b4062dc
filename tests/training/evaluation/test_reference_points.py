import dataclasses

import numpy as np
import pytest

from bundle.density.latent_arrays import MAX_REFERENCE_POINTS
from bundle.latents import LatentStatistics
from training.evaluation import latent_statistics, reference_points


def codes(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, size)).astype(np.float32)


def fitted(values: np.ndarray) -> LatentStatistics:
    return latent_statistics.fit(values, values[:500], np.linspace(0, 1, 500), seed=0)


def test_they_are_spread_over_the_classes_and_named() -> None:
    values = codes(5000, 3)
    labels = np.repeat([0, 1], [1000, 4000])
    found = reference_points.add(fitted(values), values, labels, ("cat", "dog"))
    assert found.reference_points is not None
    assert found.reference_points.shape == (MAX_REFERENCE_POINTS, 3)
    assert found.reference_labels is not None
    assert np.bincount(found.reference_labels).tolist() == [400, 1600]
    assert found.reference_label_names is not None
    assert found.reference_label_names.tolist() == ["cat", "dog"]
    nearest = np.abs(values[:, None] - found.reference_points[None, :5].astype(np.float32)).max(-1).min(0)
    assert nearest.max() < 2e-3
    back = LatentStatistics.from_bytes(found.to_bytes())
    np.testing.assert_array_equal(back.reference_points, found.reference_points)


def test_wide_codes_leave_their_leading_coordinates() -> None:
    values = codes(600, 80)
    statistics = fitted(values)
    found = reference_points.add(statistics, values[:50], None, ())
    assert found.reference_points is not None
    assert found.reference_points.shape == (50, 16)
    assert found.reference_labels is None
    order = np.linalg.norm((values[:50] - statistics.mean) @ statistics.components[:16].T, axis=1)
    np.testing.assert_allclose(np.linalg.norm(found.reference_points.astype(np.float64), axis=1), order, rtol=1e-2)


def test_classes_without_names_are_numbers() -> None:
    values = codes(600, 2)
    found = reference_points.add(fitted(values), values[:4], np.array([0, 2, 2, 0]), ())
    assert found.reference_label_names is not None
    assert found.reference_label_names.tolist() == ["0", "1", "2"]


@pytest.mark.parametrize("size", [2, 70])
def test_codes_beyond_float16_have_none(size: int) -> None:
    values = 1e6 * codes(600, size)
    statistics = fitted(values)
    assert reference_points.add(statistics, values, None, ()) is statistics


def test_statistics_without_points_keep_their_bytes() -> None:
    statistics = fitted(codes(600, 3))
    assert dataclasses.replace(statistics, reference_points=None).to_bytes() == statistics.to_bytes()
    assert b"reference" not in statistics.to_bytes()


def test_classes_of_images_are_numbered_unless_one_has_none() -> None:
    labels, names = reference_points.numbered(["dog", "cat", "dog"])
    assert labels is not None
    assert (labels.tolist(), names) == ([1, 0, 1], ["cat", "dog"])
    assert reference_points.numbered(["dog", ""]) == (None, [])
    assert reference_points.numbered([]) == (None, [])
