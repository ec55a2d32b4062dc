"""What is learnt about a latent space after training: where the codes lie, how they spread, a mixture to sample."""

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from bundle.latents import MAX_COMPONENTS, LatentStatistics
from training.cpu import available_memory, one_blas_thread
from training.errors import UnavailableError

_QUANTILE_LEVELS = np.array([0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999])
_MIXTURE_COMPONENTS = 30
MIN_CODES_PER_COMPONENT = 50
MAX_ITERATIONS = 200
_ROWS_AT_ONCE = 5_000
# Of 16,384 numbers a covariance has 2 GiB, and its eigenvectors take 20 minutes of a core.
_WIDEST = 16_384
# Covariances in memory at once: itself, its eigenvectors, and LAPACK's copy and workspace.
_COVARIANCES = 5


@one_blas_thread
def fit(codes: np.ndarray, held_out_codes: np.ndarray, held_out_errors: np.ndarray, seed: int) -> LatentStatistics:
    """Statistics of training codes (N, D), with quantiles over held-out codes (M, D) and squared errors (M,).

    Raises:
        UnavailableError: a code is not finite, or as `check`.
    """
    check(*codes.shape)
    if not all(np.isfinite(each).all() for each in (codes, held_out_codes, held_out_errors)):
        raise UnavailableError("not all codes are finite numbers")
    mean = codes.mean(0, dtype=np.float64)
    covariance = _scatter(codes, mean) / (len(codes) - 1)
    components, variances = _principal_axes(covariance)
    mixture: Any = _fit_mixture(np.concatenate([part @ components.T for part in _centred(codes, mean)]), seed)
    statistics = LatentStatistics(
        mean=mean,
        components=components,
        variances=variances,
        total_variance=np.trace(covariance),
        covariance=covariance if len(mean) <= MAX_COMPONENTS else None,
        mixture_weights=mixture.weights_,
        mixture_means=mixture.means_,
        mixture_covariances=mixture.covariances_,
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


def check(count: int, size: int) -> None:
    """Refuse what cannot be fitted to `count` codes of `size` numbers, before anything is allocated.

    Raises:
        UnavailableError: a single code, or codes whose covariance does not fit into memory.
    """
    if count < 2:  # noqa: PLR2004 (a spread)
        raise UnavailableError(f"a spread needs two training images, got {count}")
    needed, left = _COVARIANCES * 8 * size**2, available_memory()
    if size > _WIDEST or needed > left:
        raise UnavailableError(
            f"the covariance of codes of {size:,} numbers takes {needed / 2**30:.1f} GiB; expected at most {_WIDEST:,} "
            f"numbers and {left / 2**30:.1f} GiB: set model.latent_size to make codes shorter"
        )


def _scatter(codes: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Codes (N, D) and their mean (D,) to the sum of products of deviations, (D, D)."""
    total = np.zeros((len(mean), len(mean)))
    for part in _centred(codes, mean):
        total += part.T @ part
    return total


def _centred(codes: np.ndarray, mean: np.ndarray) -> Iterator[np.ndarray]:
    """Codes (N, D) minus their mean (D,) in float64, in parts: all at once those of `conv-ae` take gigabytes."""
    for first in range(0, len(codes), _ROWS_AT_ONCE):
        yield codes[first : first + _ROWS_AT_ONCE] - mean


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
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(1)]
    return axes * np.sign(largest)[:, np.newaxis], np.maximum(variances[::-1][:MAX_COMPONENTS], 0)


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
