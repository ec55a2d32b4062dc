"""Draws from a posterior by reparameterisation."""

import numpy as np
import pytest

from server.batching.output_check import NotFiniteError
from server.services.autoencoder import posterior


def test_a_row_depends_on_the_seed_and_its_place_alone() -> None:
    means = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    log_variances = np.full_like(means, -1.0)

    drawn = posterior.sample(means, log_variances, 5)

    np.testing.assert_array_equal(posterior.sample(means[:2], log_variances[:2], 5), drawn[:2])
    assert (posterior.sample(means, log_variances, 6) != drawn).any()


def test_spatial_codes_are_drawn_as_vectors_of_as_many_numbers() -> None:
    means, log_variances = np.zeros((2, 3, 4, 5), np.float32), np.zeros((2, 3, 4, 5), np.float32)

    drawn = posterior.sample(means, log_variances, 5)

    flat = posterior.sample(means.reshape(2, 60), log_variances.reshape(2, 60), 5)
    np.testing.assert_array_equal(drawn.reshape(2, 60), flat)


def test_no_variance_gives_the_mean() -> None:
    means = np.arange(4, dtype=np.float32).reshape(1, 4)

    np.testing.assert_array_equal(posterior.sample(means, np.full((1, 4), -np.inf, np.float32), 1), means)


def test_a_variance_beyond_all_numbers_is_no_answer() -> None:
    with pytest.raises(NotFiniteError):
        posterior.sample(np.zeros((1, 4), np.float32), np.full((1, 4), 200.0, np.float32), 1)


def test_seeds_are_exact_in_json() -> None:
    assert all(0 <= posterior.draw_seed() < 2**53 for _ in range(100))
