import dataclasses

import numpy as np
import pytest
import torch

from training.data import dataset
from training.data.split import Split
from training.errors import DataError
from training.evaluation import classifier, inference


def test_the_judge_of_digits_comes_with_the_package_and_is_right() -> None:
    digits = dataset.digits()
    found = classifier.find(digits)
    assert found is not None
    answers = np.concatenate([classifier.classify(found, images) for images in inference.batches(digits.test)])
    assert (answers == digits.test.labels).mean() >= 0.99


def test_other_data_have_no_judge() -> None:
    digits = dataset.digits()
    digits.test.images[0, 0, 0] ^= 1
    assert classifier.find(digits) is None


def test_the_frechet_distance_of_known_gaussians() -> None:
    draws = np.random.default_rng(0).standard_normal((100_000, 3))
    # Means 2 apart, standard deviations 1 and 3: 4 + 3 (3 - 1)^2.
    assert classifier.frechet_distance(draws, 3 * draws + [2, 0, 0]) == pytest.approx(16, rel=0.02)
    assert classifier.frechet_distance(draws, draws) == pytest.approx(0, abs=1e-6)


def test_the_distance_grows_with_noise_and_is_least_for_real_images() -> None:
    digits = dataset.digits()
    found = classifier.find(digits)
    assert found is not None
    real = classifier.features(found, list(inference.batches(digits.test)))
    train = next(inference.batches(digits.train.take(slice(300))))
    draws = torch.randn(train.shape, generator=torch.Generator().manual_seed(0))
    distances = [
        classifier.frechet_distance(classifier.features(found, [(train + sigma * draws).clamp(0, 1)]), real)
        for sigma in (0, 0.2, 0.5)
    ]
    assert distances == sorted(distances)
    assert distances[2] > 3 * distances[0]


def test_images_below_three_halvings_have_no_judge() -> None:
    digits = dataset.digits()
    small = dataclasses.replace(digits, train=Split(digits.train.images[:, :5, :9], digits.train.labels))
    with pytest.raises(DataError, match="at least 8x8 pixels, got 5x9"):
        classifier.train(small)
