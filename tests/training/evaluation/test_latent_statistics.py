import numpy as np
import pytest
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_info

from bundle.latents import LatentStatistics
from training.evaluation import latent_statistics


def codes(count: int = 2000, size: int = 3) -> np.ndarray:
    draws = np.random.default_rng(0)
    return (draws.standard_normal((count, size)) * np.arange(1, size + 1) + 5).astype(np.float32)


def fitted(values: np.ndarray) -> LatentStatistics:
    return latent_statistics.fit(values, values[:500], np.linspace(0, 1, 500), seed=0)


def test_axes_are_orthonormal_and_ordered_by_variance() -> None:
    statistics = fitted(codes())
    np.testing.assert_allclose(statistics.components @ statistics.components.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(statistics.variances, [9, 4, 1], rtol=0.1)
    assert statistics.total_variance == pytest.approx(statistics.variances.sum())


def test_the_distance_of_the_training_codes_is_about_one() -> None:
    statistics = fitted(codes())
    assert np.sqrt(np.mean(statistics.distance(codes()) ** 2)) == pytest.approx(1, abs=0.02)
    assert statistics.latent_distance_quantile(0.999) == pytest.approx(2.3, abs=0.3)


def test_wide_codes_keep_the_leading_64_components_and_no_covariance() -> None:
    statistics = fitted(codes(size=70))
    assert statistics.components.shape == (64, 70)
    assert statistics.covariance is None
    assert LatentStatistics.from_bytes(statistics.to_bytes()).mean.shape == (70,)


def test_the_axes_of_wide_codes_are_those_of_the_whole_covariance() -> None:
    draws = np.random.default_rng(0)
    values = (
        draws.standard_normal((700, 300)) * np.geomspace(10, 0.1, 300) @ np.linalg.qr(draws.normal(size=(300, 300)))[0]
    )
    found = fitted(values.astype(np.float32))
    variances, axes = np.linalg.eigh(np.cov(values.T))
    np.testing.assert_allclose(found.variances[:32], variances[::-1][:32], rtol=1e-3)
    np.testing.assert_allclose(found.variances, variances[::-1][:64], rtol=0.05)
    np.testing.assert_allclose(np.abs(np.vecdot(found.components[:8], axes.T[::-1][:8])), 1, atol=1e-3)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(64), atol=1e-10)
    assert found.total_variance == pytest.approx(variances.sum(), rel=1e-5)


def test_wide_codes_of_few_images_need_no_square_matrix() -> None:
    # A covariance of these would take 3.2 GB.
    values = np.random.default_rng(0).standard_normal((20, 20_000)).astype(np.float32)
    found = latent_statistics.fit(values, values, np.ones(20), 0)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(64), atol=1e-8)
    assert found.variances[20:].max() < 1e-3 * found.variances[0]


def test_spatial_codes_of_free_sizes_have_statistics_of_their_channel_vectors_and_no_mixture() -> None:
    spatial = codes(400).reshape(25, 4, 4, 3)
    vectors = latent_statistics.channel_vectors(spatial)
    assert vectors.shape == (400, 3)
    found = latent_statistics.fit(vectors, spatial, np.linspace(0, 1, 25), 0, mixed=False)
    back = LatentStatistics.from_bytes(found.to_bytes())
    assert (back.latent_size, len(back.mixture_weights)) == (3, 0)
    assert back.latent_distance_quantile(0.5) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("size", "variational"), [(3, False), (48, False), (48, True)])
def test_references_have_distances_of_images_and_a_mixture_where_it_is_drawn_from(size: int, variational: bool) -> None:
    spatial, errors = codes(3200).reshape(200, 4, 4, 3), np.linspace(0, 1, 200)
    found = latent_statistics.fit_references(spatial, errors, size, ["a", "b"] * 100, variational=variational)
    expected = np.quantile(found.distance(spatial[1::2]), found.quantile_levels)
    np.testing.assert_array_equal(found.latent_distance_quantiles, expected)
    assert (found.latent_size, len(found.mixture_weights) > 0) == (size, size == 48 and not variational)
    assert (found.reference_points is None) == (size == 3)


def test_samples_of_the_mixture_are_distributed_as_the_codes() -> None:
    centres = np.array([[-10.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    draws = np.random.default_rng(1)
    values = centres[draws.integers(0, 3, 3000)] + draws.standard_normal((3000, 2))
    samples = fitted(values.astype(np.float32)).sample(0, 0, 1000, 1.0, "mixture")
    nearest = np.linalg.norm(samples[:, np.newaxis] - centres, axis=2).min(1)
    assert (nearest < 4).mean() > 0.99
    np.testing.assert_allclose(samples.mean(0), values.mean(0), atol=0.7)


@pytest.mark.parametrize("values", [np.zeros((300, 4), np.float32), np.eye(4, dtype=np.float32)[np.arange(300) % 2]])
def test_collapsed_codes_are_no_error(values: np.ndarray) -> None:
    statistics = LatentStatistics.from_bytes(fitted(values).to_bytes())
    assert np.isfinite(statistics.sample(0, 0, 10, 1.0, "mixture")).all()
    assert np.isfinite(statistics.distance(values)).all()


def test_products_of_matrices_wait_for_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine OpenBLAS' threads made of 0.4 s of work 22 s, and of minutes a quarter of an hour.
    seen: list[set[int]] = []

    class Watched(GaussianMixture):
        def fit(self, X: np.ndarray, y: None = None) -> GaussianMixture:  # noqa: N803  scikit-learn's name
            seen.append({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
            return super().fit(X, y)

    monkeypatch.setattr(latent_statistics, "GaussianMixture", Watched)
    fitted(codes(size=32))
    assert seen == [{1}]


def test_the_work_on_codes_of_dead_units_is_bounded() -> None:
    # As a barely trained network gives them: some units never fire, others carry next to nothing.
    draws = np.random.default_rng(0)
    values = draws.standard_normal((1350, 32)) * np.geomspace(1, 1e-30, 32) * (np.arange(32) % 3 > 0)
    found = latent_statistics._fit_mixture(values, 0)
    assert len(found.weights_) == 1350 // latent_statistics.MIN_CODES_PER_COMPONENT
    assert found.n_iter_ <= latent_statistics.MAX_ITERATIONS
    assert np.isfinite(found.covariances_).all()


def test_the_same_codes_give_the_same_bytes() -> None:
    assert fitted(codes()).to_bytes() == fitted(codes()).to_bytes()
