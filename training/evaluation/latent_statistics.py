"""What is learnt about a latent space after training: where the codes lie, how they spread, a mixture to sample."""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from bundle.density.latent_arrays import MAX_COMPONENTS
from bundle.latents import LatentStatistics
from training.cpu import available_memory, one_blas_thread
from training.errors import UnavailableError
from training.evaluation import reference_points

_QUANTILE_LEVELS = np.array([0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999])
_MIXTURE_COMPONENTS = 30
_REFERENCE_SEED = 0
MIN_CODES_PER_COMPONENT = 50
MAX_ITERATIONS = 200
_ROWS_AT_ONCE = 5_000
# In a part that is centred at once; a covariance of wide codes would take gigabytes, and its eigenvectors minutes.
_NUMBERS_AT_ONCE = 2**23
# Subspace iteration (Halko et al. 2011): directions beyond those wanted, and passes over the codes.
_OVERSAMPLED, _PASSES = 16, 4
_MOST_VECTORS = 200_000


@one_blas_thread
def fit(
    codes: np.ndarray, held_out_codes: np.ndarray, held_out_errors: np.ndarray, seed: int, *, mixed: bool = True
) -> LatentStatistics:
    """Statistics of training codes (N, D), with quantiles over held-out codes (M, D) and squared errors (M,).

    Held-out codes may be spatial (M, h, w, c), where the statistics are of their channel vectors or, flattened, of the
    whole. Without `mixed` no mixture is fitted.

    Raises:
        UnavailableError: a code is not finite, or as `check`.
    """
    check(*codes.shape)
    if not all(np.isfinite(each).all() for each in (codes, held_out_codes, held_out_errors)):
        raise UnavailableError("not all codes are finite numbers")
    mean = codes.mean(0, dtype=np.float64)
    covariance = _scatter(codes, mean) / (len(codes) - 1) if len(mean) <= MAX_COMPONENTS else None
    if covariance is not None:
        components, variances = _principal_axes(covariance)
        total = float(np.trace(covariance))
    else:
        components, variances, total = _leading_axes(codes, mean)
    size = len(components)
    mixture = (np.zeros(0), np.zeros((0, size)), np.zeros((0, size, size)))
    if mixed:
        fitted: Any = _fit_mixture(np.concatenate([part @ components.T for part in _centred(codes, mean)]), seed)
        mixture = fitted.weights_, fitted.means_, fitted.covariances_
    statistics = LatentStatistics(
        mean=mean,
        components=components,
        variances=variances,
        total_variance=np.asarray(total),
        covariance=covariance,
        mixture_weights=mixture[0],
        mixture_means=mixture[1],
        mixture_covariances=mixture[2],
        quantile_levels=_QUANTILE_LEVELS,
        reconstruction_error_quantiles=np.quantile(held_out_errors.astype(np.float64), _QUANTILE_LEVELS),
        latent_distance_quantiles=np.zeros(len(_QUANTILE_LEVELS)),
        held_out_rows=np.array(len(held_out_errors), np.float64),
        attribute_names=np.array([], np.str_),
        attribute_directions=np.zeros((0, len(mean))),
        attribute_means=np.zeros(0),
        attribute_spreads=np.zeros(0),
    )
    return _with_distances(statistics, held_out_codes)


def fit_references(
    codes: np.ndarray, errors: np.ndarray, size: int, classes: Sequence[str], *, variational: bool
) -> LatentStatistics:
    """Statistics of codes (N, D) or (N, h, w, c) of reference images and squared errors (N,), every second held out.

    They are of vectors of `size` numbers: whole codes, or their positions. Of whole codes, held-out ones are kept as
    reference points, with the class of each image, if any; unless variational, which samples from N(0, I), they have a
    mixture. Draws from a mixture of positions would not belong together.

    Raises:
        UnavailableError: as `fit`.
    """
    fitted, held_out = codes[::2].reshape(-1, size), codes[1::2]
    whole = size == codes[0].size
    statistics = fit(fitted, held_out, errors[1::2], _REFERENCE_SEED, mixed=whole and not variational)
    if not whole:
        return statistics
    points = held_out.reshape(-1, size)
    return reference_points.add(statistics, points, *reference_points.numbered(classes[1::2]))


def with_densities(statistics: LatentStatistics, log_densities: np.ndarray) -> LatentStatistics:
    """The same, with the quantiles of the density (M,) of held-out codes under a learned prior."""
    quantiles = np.quantile(-log_densities.astype(np.float64), _QUANTILE_LEVELS)
    return dataclasses.replace(statistics, negative_log_density_quantiles=quantiles)


def channel_vectors(codes: np.ndarray) -> np.ndarray:
    """Spatial codes (N, h, w, c) to the vectors (M, c) at their positions, or at 200,000 spread evenly over them."""
    vectors = codes.reshape(-1, codes.shape[-1])
    return vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _MOST_VECTORS)).astype(np.intp)]


def check(count: int, size: int) -> None:
    """Refuse what cannot be fitted to `count` codes of `size` numbers, before anything is allocated.

    Raises:
        UnavailableError: a single code, or codes that do not fit into memory.
    """
    if count < 2:  # noqa: PLR2004 (a spread)
        raise UnavailableError(f"a spread needs two training images, got {count}")
    directions = MAX_COMPONENTS + _OVERSAMPLED
    needed, left = 4 * count * size + 8 * (3 * directions * size + 2 * _NUMBERS_AT_ONCE), available_memory()
    if needed > left:
        raise UnavailableError(
            f"statistics of {count:,} codes of {size:,} numbers take {needed / 2**30:.1f} GiB, {left / 2**30:.1f} GiB "
            "are free: make codes shorter with model.latent_size or more model.channels"
        )


def _scatter(codes: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Codes (N, D) and their mean (D,) to the sum of products of deviations, (D, D)."""
    total = np.zeros((len(mean), len(mean)))
    for part in _centred(codes, mean):
        total += part.T @ part
    return total


def _leading_axes(codes: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Wide codes (N, D) to their leading 64 axes (k, D), the variances (k,) along them, and the total variance.

    By randomised subspace iteration, in which no matrix is larger than (D, 80) and a part of the codes.
    """
    basis = np.random.default_rng(0).standard_normal((len(mean), MAX_COMPONENTS + _OVERSAMPLED))[:, : len(mean)]
    total = 0.0
    for _ in range(_PASSES):
        basis, _ = np.linalg.qr(basis)
        product, total = np.zeros_like(basis), 0.0
        for part in _centred(codes, mean):
            product += part.T @ (part @ basis)
            total += float(np.vdot(part, part))
        basis = product
    # The axes are the principal ones of the coordinates in the last basis (Rayleigh-Ritz).
    last, _ = np.linalg.qr(basis)
    coordinates = [part @ last for part in _centred(codes, mean)]
    within = sum((each.T @ each for each in coordinates), start=np.zeros((last.shape[1],) * 2)) / (len(codes) - 1)
    axes, variances = _principal_axes(within)
    return _pointing(axes @ last.T), variances, total / (len(codes) - 1)


def _centred(codes: np.ndarray, mean: np.ndarray) -> Iterator[np.ndarray]:
    """Codes (N, D) minus their mean (D,) in float64, in parts: all at once those of `conv-ae` take gigabytes."""
    rows = max(1, min(_ROWS_AT_ONCE, _NUMBERS_AT_ONCE // len(mean)))
    for first in range(0, len(codes), rows):
        yield codes[first : first + rows] - mean


def _with_distances(statistics: LatentStatistics, held_out_codes: np.ndarray) -> LatentStatistics:
    """The same, with the quantiles of the distance of held-out codes."""
    quantiles = np.quantile(statistics.distance(held_out_codes), _QUANTILE_LEVELS)
    return dataclasses.replace(statistics, latent_distance_quantiles=quantiles)


def _principal_axes(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(D, D) to the leading k = min(D, 64) axes (k, D) and the variances (k,) along them.

    Each axis points where its largest entry is positive: eigenvectors have no sign of their own.
    """
    variances, vectors = np.linalg.eigh(covariance)
    axes = vectors[:, ::-1][:, :MAX_COMPONENTS].T
    return _pointing(axes), np.maximum(variances[::-1][:MAX_COMPONENTS], 0)


def _pointing(axes: np.ndarray) -> np.ndarray:
    """Axes (k, D), each with its largest entry positive."""
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(1)]
    return axes * np.sign(largest)[:, np.newaxis]


def _fit_mixture(coordinates: np.ndarray, seed: int) -> Any:  # noqa: ANN401 (a GaussianMixture, whose fitted arrays have no types)
    """Fit a Gaussian mixture to codes (N, k); fewer components where codes are few.

    The ridge is relative to the spread of the codes, which has no unit of its own.
    """
    distinct = len(np.unique(coordinates.round(6), axis=0))
    count = max(1, min(_MIXTURE_COMPONENTS, len(coordinates) // MIN_CODES_PER_COMPONENT, distinct))
    ridge = 1e-4 * float(coordinates.var(0).mean()) + float(np.finfo(np.float32).tiny)
    mixture = GaussianMixture(count, reg_covar=ridge, random_state=seed, max_iter=MAX_ITERATIONS, tol=1e-2)
    with warnings.catch_warnings():
        # Collapsed codes make clusters coincide: the mixture is then simpler than asked for, and still right.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(coordinates)
