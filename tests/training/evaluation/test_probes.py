import numpy as np
import pytest

from training.data import dataset
from training.evaluation import probes
from training.evaluation.notes import Notes


def test_pca_codes_score_as_pca() -> None:
    digits = dataset.digits()
    pixels = [split.images.reshape(len(split), -1) / 255 for split in (digits.train, digits.test)]
    centre = pixels[0].mean(0)
    axes = np.linalg.svd(pixels[0] - centre, full_matrices=False)[2][:8]
    found = probes.probes((pixels[0] - centre) @ axes.T, (pixels[1] - centre) @ axes.T, digits, Notes())
    assert found["linear_accuracy"] == pytest.approx(found["pca_linear_accuracy"], abs=0.01)
    assert found["knn_accuracy"] == pytest.approx(found["pca_knn_accuracy"], abs=0.01)
    assert 0.8 < found["knn_accuracy"] < 1


def test_codes_without_a_trace_of_the_class_score_as_chance() -> None:
    digits, draws = dataset.digits(), np.random.default_rng(0)
    found = probes.probes(draws.standard_normal((1350, 2)), draws.standard_normal((297, 2)), digits, Notes())
    assert found["knn_accuracy"] < 0.2


def test_wide_codes_are_not_probed() -> None:
    assert probes.probes(np.zeros((1350, 65)), np.zeros((297, 65)), dataset.digits(), Notes()) == {}


def test_units_count_as_active_above_the_variance_of_a_hundredth() -> None:
    draws = np.random.default_rng(0).standard_normal((5000, 3))
    assert probes.active_units(draws * [1, 0.11, 0.09]) == 2


def test_the_prior_is_at_no_distance_and_others_are() -> None:
    draws = np.random.default_rng(0).standard_normal((5000, 4))
    assert probes.sliced_wasserstein(draws) < 0.03
    assert probes.sliced_wasserstein(draws + 1) > 0.2
    assert probes.sliced_wasserstein(draws * 2) > 0.5
