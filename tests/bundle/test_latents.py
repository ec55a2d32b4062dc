import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle import npz
from bundle.errors import BundleError
from bundle.latents import LatentStatistics, draw, prior, standard
from bundle.noise import Purpose, normals


def fitted(
    size: int, gaussians: int = 3, attributes: int = 2, seed: int = 0
) -> tuple[LatentStatistics, NDArray[np.float64]]:
    """Statistics of a random density; also the latents (4000, D) that they describe."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(4000, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)
    covariance = np.atleast_2d(np.cov(latents.T))
    variances, axes = np.linalg.eigh(covariance)
    leading = slice(None, -min(size, 64) - 1, -1)
    components = axes.T[leading]
    roots = rng.normal(size=(gaussians, len(components), len(components)))
    levels = np.array([0.5, 0.99, 0.999])
    return LatentStatistics(
        mean=latents.mean(axis=0),
        components=components,
        variances=variances[leading],
        total_variance=np.trace(covariance),
        covariance=covariance if size <= 64 else None,
        mixture_weights=np.ones(gaussians) / max(gaussians, 1),
        mixture_means=10 * rng.normal(size=(gaussians, len(components))),
        mixture_covariances=roots @ roots.transpose(0, 2, 1),
        quantile_levels=levels,
        reconstruction_error_quantiles=levels / 10,
        latent_distance_quantiles=levels * 2,
        attribute_names=np.array([f"a{index}" for index in range(attributes)], np.str_),
        attribute_directions=rng.normal(size=(attributes, size)),
        attribute_means=np.zeros(attributes),
        attribute_spreads=np.ones(attributes),
    ), latents


@pytest.mark.parametrize("size", [1, 3, 70])
def test_round_trip(size: int) -> None:
    statistics, _ = fitted(size)
    back = LatentStatistics.from_bytes(statistics.to_bytes())
    for field in dataclasses.fields(LatentStatistics):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(statistics, field.name))
    assert back.to_bytes() == statistics.to_bytes()
    assert back.latent_size == size


def mapped(size: int, amount: float = 0.1) -> LatentStatistics:
    """Statistics of which the last attribute's direction is the same everywhere."""
    maps = amount * np.random.default_rng(1).normal(size=(2, size, size))
    return dataclasses.replace(fitted(size)[0], attribute_maps=maps * np.array([1, 0])[:, None, None])


def test_directions_that_depend_on_the_place_come_back() -> None:
    statistics = mapped(3)
    back = LatentStatistics.from_bytes(statistics.to_bytes())
    np.testing.assert_array_equal(back.attribute_maps, statistics.attribute_maps)


def test_a_move_adds_up_directions_in_any_order() -> None:
    statistics, latents = mapped(3), fitted(3)[1][:5]
    move = statistics.move([(0, 1.5), (1, -1.0), (0, -0.5)])
    assert statistics.attribute_maps is not None
    np.testing.assert_allclose(move.matrix, statistics.attribute_maps[0])
    np.testing.assert_allclose(move.vector, statistics.attribute_directions[0] - statistics.attribute_directions[1])
    np.testing.assert_allclose(statistics.move([(1, -1.0), (0, 1.0)]).of(latents), move.of(latents), rtol=1e-9)


def test_a_direction_that_is_the_same_everywhere_is_a_shift() -> None:
    assert mapped(3).move([(1, 2.0)]).matrix is None
    assert fitted(3)[0].move([(0, 2.0)]).matrix is None


@pytest.mark.filterwarnings("error")
def test_a_move_that_overflows_leads_to_no_number() -> None:
    statistics = dataclasses.replace(mapped(3, 1e300), attribute_directions=np.full((2, 3), 1e300))
    for amounts in ([(0, 1e8)], [(0, 1e38), (0, -1e38)], [(1, 1e38), (1, -1e38)]):
        move = statistics.move(amounts)
        with np.errstate(over="ignore", invalid="ignore"):
            assert not np.isfinite(move.of(np.ones((1, 3)))).any()


def test_maps_of_wide_latents_are_refused() -> None:
    with pytest.raises(BundleError, match="attribute_maps of at most 64 axes, got 70"):
        LatentStatistics.from_bytes(mapped(70).to_bytes())


def pointed(size: int, width: int, count: int = 5) -> LatentStatistics:
    return dataclasses.replace(
        fitted(size)[0],
        reference_points=np.ones((count, width), np.float16),
        reference_labels=np.arange(count, dtype=np.int16) % 2,
        reference_label_names=np.array(["even", "odd"]),
    )


@pytest.mark.parametrize(("size", "width"), [(3, 3), (70, 16)])
def test_round_trip_of_reference_points(size: int, width: int) -> None:
    statistics = pointed(size, width)
    back = LatentStatistics.from_bytes(statistics.to_bytes())
    np.testing.assert_array_equal(back.reference_points, statistics.reference_points)
    np.testing.assert_array_equal(back.reference_labels, statistics.reference_labels)
    assert back.to_bytes() == statistics.to_bytes()


@pytest.mark.parametrize(
    ("statistics", "expected"),
    [
        (pointed(3, 2), "reference points of 3 numbers, got 5 of 2"),
        (pointed(70, 65), "reference points of 64 numbers, got 5 of 65"),
        (pointed(3, 3, 2001), "at most 2000 reference points"),
        (dataclasses.replace(pointed(3, 3), reference_labels=np.zeros(4, np.int16)), "reference_labels: expected"),
        (dataclasses.replace(pointed(3, 3), reference_labels=np.full(5, 2, np.int16)), "labels from 0 to 1"),
        (dataclasses.replace(pointed(3, 3), reference_points=np.full((5, 3), np.inf, np.float16)), "finite float16"),
    ],
)
def test_reference_points_that_contradict_the_rest(statistics: LatentStatistics, expected: str) -> None:
    with pytest.raises(BundleError, match=expected):
        LatentStatistics.from_bytes(statistics.to_bytes())


def test_nothing_fitted() -> None:
    statistics, latents = fitted(3, gaussians=0, attributes=0)
    empty = dataclasses.replace(statistics, attribute_directions=np.zeros(0), attribute_names=np.zeros(0))
    back = LatentStatistics.from_bytes(empty.to_bytes())
    assert back.attribute_directions.shape == (0, 3)
    assert back.sample(1, 0, 2, 1.0, "normal").shape == (2, 3)
    assert back.distance(latents).shape == (4000,)


def test_distance_is_mahalanobis_over_root_k() -> None:
    statistics, latents = fitted(5)
    raised = np.cov(latents.T) + 1e-4 * np.trace(np.cov(latents.T)) / 5 * np.eye(5)
    centred = latents - latents.mean(axis=0)
    expected = np.sqrt(np.einsum("nd,de,ne->n", centred, np.linalg.inv(raised), centred) / 5)
    np.testing.assert_allclose(statistics.distance(latents.astype(np.float32)), expected, rtol=1e-3)
    assert np.mean(statistics.distance(latents) ** 2) == pytest.approx(1, abs=0.05)


def test_distance_by_density_is_that_of_a_gaussian_where_latents_are_gaussian() -> None:
    statistics, _ = fitted(3)
    squares = np.array([3.0, 12.0, 27.0])
    energies = 1.5 * np.log(2 * np.pi) + squares / 2
    quantiles = np.array([energies[0], energies[1], energies[2]])
    known = dataclasses.replace(statistics, negative_log_density_quantiles=quantiles)
    np.testing.assert_allclose(known.density_distance(energies), np.sqrt(squares / 3))
    assert known.density_distance_quantile(0.999) == pytest.approx(3.0)
    np.testing.assert_array_equal(known.density_distance(np.array([-1e9])), [0.0])
    again = LatentStatistics.from_bytes(known.to_bytes())
    np.testing.assert_array_equal(again.negative_log_density_quantiles, quantiles)


def test_distance_sees_only_the_leading_components() -> None:
    statistics, latents = fitted(70)
    outside = np.linalg.svd(statistics.components)[2][-1]
    np.testing.assert_allclose(statistics.distance(latents[:5] + 100 * outside), statistics.distance(latents[:5]))


def test_distance_survives_dead_units() -> None:
    statistics, latents = fitted(4)
    dead = dataclasses.replace(statistics, variances=np.array([*statistics.variances[:3], 0.0]))
    assert np.isfinite(dead.distance(latents)).all()
    constant = dataclasses.replace(statistics, variances=np.zeros(4), total_variance=np.zeros(()))
    assert np.isfinite(constant.distance(latents[:3])).all()


def test_a_vae_samples_from_the_standard_normal() -> None:
    statistics, _ = fitted(3)
    drawn = statistics.sample(5, 2, 4, 0.5, prior("vae"))
    np.testing.assert_array_equal(drawn, normals(5, Purpose.SAMPLE, 2, 4, 3) * np.float32(0.5))
    np.testing.assert_array_equal(drawn, standard(5, 2, 4, 3, 0.5))


@pytest.mark.parametrize("size", [1, 3, 70])
def test_a_sample_depends_on_seed_and_index_alone(size: int) -> None:
    statistics, _ = fitted(size)
    whole = statistics.sample(7, 0, 40, 1.0, "mixture")
    assert whole.dtype == np.float32
    assert whole.shape == (40, size)
    for first, count in ((0, 1), (3, 2), (17, 23), (39, 1)):
        np.testing.assert_array_equal(statistics.sample(7, first, count, 1.0, "mixture"), whole[first : first + count])
    assert not np.array_equal(statistics.sample(8, 0, 40, 1.0, "mixture"), whole)


def test_the_mixture_is_the_one_that_was_fitted() -> None:
    statistics, _ = fitted(4, gaussians=2)
    uneven = dataclasses.replace(statistics, mixture_weights=np.array([0.25, 0.75]))
    drawn = (uneven.sample(1, 0, 40_000, 1.0, "mixture") - uneven.mean) @ uneven.components.T
    nearest = np.argmin([np.sum((drawn - mean) ** 2, axis=1) for mean in uneven.mixture_means], axis=0)
    assert np.mean(nearest == 1) == pytest.approx(0.75, abs=0.02)
    expected_mean = uneven.mixture_weights @ uneven.mixture_means
    np.testing.assert_allclose(drawn.mean(axis=0), expected_mean, atol=0.2)
    centred = uneven.mixture_means - expected_mean
    between = (uneven.mixture_weights[:, None] * centred).T @ centred
    within = np.tensordot(uneven.mixture_weights, uneven.mixture_covariances, 1)
    np.testing.assert_allclose(np.cov(drawn.T), between + within, atol=0.05 * np.abs(between + within).max())


def test_a_singular_gaussian_can_be_sampled() -> None:
    statistics, _ = fitted(3, gaussians=1)
    flat = dataclasses.replace(statistics, mixture_covariances=np.diag([4.0, 0.0, 1.0])[None])
    drawn = (flat.sample(1, 0, 5000, 1.0, "mixture") - flat.mean) @ flat.components.T - flat.mixture_means[0]
    np.testing.assert_allclose(drawn.std(axis=0), [2, 0, 1], atol=0.05)


def test_temperature_scales_the_spread_not_the_centre() -> None:
    statistics, _ = fitted(3, gaussians=1)
    cold = statistics.sample(1, 0, 3, 0.0, "mixture")
    np.testing.assert_array_equal(cold[0], cold[1])
    centre = statistics.mean + statistics.mixture_means[0] @ statistics.components
    np.testing.assert_allclose(cold[0], centre, rtol=1e-5)


def test_quantiles_interpolate() -> None:
    statistics, _ = fitted(3)
    assert statistics.reconstruction_error_quantile(0.999) == pytest.approx(0.0999)
    assert statistics.latent_distance_quantile(0.745) == pytest.approx(1.49)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", np.zeros(4)),
        ("components", np.zeros((2, 3))),
        ("variances", np.array([1.0, np.nan, 1.0])),
        ("mixture_means", np.zeros((3, 3), np.float32)),
        ("quantile_levels", np.zeros(2)),
        ("extra", np.zeros(2)),
        ("attribute_means", None),
        ("attribute_maps", np.zeros((2, 3, 4))),
        ("attribute_maps", np.full((2, 3, 3), np.inf)),
    ],
)
def test_contradictions_are_refused(name: str, value: NDArray[Any] | None) -> None:
    statistics, _ = fitted(3)
    arrays = npz.unpack(statistics.to_bytes(), "test") | {name: value}
    data = npz.pack({key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(BundleError, match=r"latents\.npz"):
        LatentStatistics.from_bytes(data)


def test_spatial_latents_are_flattened_where_the_statistics_are_of_the_whole() -> None:
    statistics, latents = fitted(12)
    expected = statistics.distance(latents[:7])
    np.testing.assert_array_equal(statistics.distance(latents[:7].reshape(7, 2, 2, 3)), expected)


def test_the_distance_over_free_sizes_is_the_root_mean_square_over_positions() -> None:
    statistics, latents = fitted(3)
    spatial = latents[:24].reshape(2, 4, 3, 3)
    each = statistics.distance(latents[:24]).reshape(2, 12)
    np.testing.assert_allclose(statistics.distance(spatial), np.sqrt((each**2).mean(1)), rtol=1e-12)
    assert statistics.distance(spatial[:0]).shape == (0,)


def test_spatial_samples_of_a_vae_are_normal_at_every_position() -> None:
    drawn = draw("vae", (2, 3, 4), None, 5, 1, 2, 0.5)
    assert drawn is not None
    np.testing.assert_array_equal(drawn, standard(5, 1, 2, 24, 0.5).reshape(2, 2, 3, 4))
    np.testing.assert_array_equal(drawn.reshape(2, 24), draw("vae", 24, None, 5, 1, 2, 0.5))


def test_a_plain_autoencoder_samples_a_code_of_fixed_size_and_none_of_a_free_one() -> None:
    statistics, _ = fitted(12)
    drawn = draw("ae", (2, 2, 3), statistics, 5, 0, 4, 1.0)
    assert drawn is not None
    np.testing.assert_array_equal(drawn.reshape(4, 12), statistics.sample(5, 0, 4, 1.0, "mixture"))
    assert draw("ae", (8, 8, 12), statistics, 5, 0, 4, 1.0) is None
