"""Statistics of a model's latent space: distribution of the training latents, distance of a new one, sampling."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bundle import npz
from bundle.density import latent_arrays
from bundle.density.moves import Move, ordered_sum
from bundle.noise import Purpose, normals, uniforms

Prior: TypeAlias = Literal["normal", "mixture"]
Floats: TypeAlias = NDArray[np.float64]

REFERENCE_COMPONENTS = 16
"""Coordinates of a reference point that are kept of a latent too wide to be kept whole."""
OWN_MODULE = "module"
"""Family of networks that export was given as PyTorch modules."""
_RIDGE = 1e-4
# Where all training latents are one point, any other is far from it, but at a finite distance.
_SMALLEST_VARIANCE = 1e-12


def prior(family: str, statistics: "LatentStatistics | None" = None) -> Prior:
    """The density that a family samples from: a VAE from N(0, I), a plain AE from the mixture fitted to its latents.

    A module of the user's own may be either: there is a mixture where it is a plain one.
    """
    fitted = statistics is not None and len(statistics.mixture_weights) > 0
    return "mixture" if family == "ae" or (family == OWN_MODULE and fitted) else "normal"


def standard(seed: int, first: int, count: int, size: int, temperature: float = 1.0) -> NDArray[np.float32]:
    """Draw (count, size) float32 from N(0, temperature^2 I), the rows first … first + count - 1 of a seed.

    Raises:
        ValueError: as `bundle.noise.uniforms`.
    """
    return normals(seed, Purpose.SAMPLE, first, count, size) * np.float32(temperature)


def draw(
    family: str,
    shape: int | Sequence[int],
    statistics: "LatentStatistics | None",
    seed: int,
    first: int,
    count: int,
    temperature: float,
) -> NDArray[np.float32] | None:
    """Draw (count, *shape) float32 as `Sample` does, rows of a seed from `first` on; None without a density.

    `shape` is D, or (h, w, c) of spatial latents. Where h and w are free, statistics are of channel vectors, and a
    mixture of these knows nothing of how positions belong together: there is no density.

    Raises:
        ValueError: as `bundle.noise.uniforms`.
    """
    axes = (shape,) if isinstance(shape, int) else tuple(shape)
    if prior(family, statistics) == "normal":
        return standard(seed, first, count, prod(axes), temperature).reshape(count, *axes)
    if statistics is None or not len(statistics.mixture_weights) or statistics.latent_size != prod(axes):
        return None
    return statistics.sample(seed, first, count, temperature, "mixture").reshape(count, *axes)


@dataclass(frozen=True, eq=False, kw_only=True)
class LatentStatistics:
    """The content of latents.npz: D numbers a latent, k = min(D, 64) components, K Gaussians, Q levels, A attributes.

    K and A are 0 where nothing was fitted.
    """

    mean: Floats
    """(D,) of the training latents."""
    components: Floats
    """(k, D) leading principal axes, orthonormal."""
    variances: Floats
    """(k,) along the axes."""
    total_variance: Floats
    """() trace of the covariance."""
    covariance: Floats | None = None
    """(D, D), where D <= 64."""
    mixture_weights: Floats
    """(K,) sum to 1."""
    mixture_means: Floats
    """(K, k) in component coordinates."""
    mixture_covariances: Floats
    """(K, k, k) in component coordinates."""
    quantile_levels: Floats
    """(Q,) ascending in 0 … 1, 0.999 among them."""
    reconstruction_error_quantiles: Floats
    """(Q,) of the squared error per pixel on held-out images."""
    latent_distance_quantiles: Floats
    """(Q,) of `distance` on held-out images."""
    negative_log_density_quantiles: Floats | None = None
    """(Q,) of -log p(z) on held-out images, where the prior p is learned."""
    held_out_rows: Floats | None = None
    """() images that the quantiles come from, where that is known."""
    attribute_names: NDArray[np.str_]
    """(A,)"""
    attribute_directions: Floats
    """(A, D) one standard deviation of the attribute per unit."""
    attribute_maps: Floats | None = None
    """(A, D, D) what the place of a latent adds to its direction: map @ latent; 0 where it is the same everywhere."""
    attribute_means: Floats
    """(A,) of the attribute on training images."""
    attribute_spreads: Floats
    """(A,) standard deviations of the attribute on training images."""
    reference_points: NDArray[np.float16] | None = None
    """(R, D) latents of held-out images; where D > 64 (R, r) coordinates along the leading components."""
    reference_labels: NDArray[np.int16] | None = None
    """(R,) classes of these images, as indices of their names."""
    reference_label_names: NDArray[np.str_] | None = None
    """(L,)"""

    def to_bytes(self) -> bytes:
        """Make latents.npz: equal content, equal bytes."""
        return npz.pack(self.to_arrays())

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name."""
        arrays: dict[str, NDArray[Any]] = {
            field.name: np.asarray(getattr(self, field.name), latent_arrays.TYPES.get(field.name, np.float64))
            for field in fields(self)
            if getattr(self, field.name) is not None
        }
        arrays["attribute_directions"] = arrays["attribute_directions"].reshape(-1, self.latent_size)
        return arrays

    @classmethod
    def from_bytes(cls, data: bytes) -> "LatentStatistics":
        """Read latents.npz.

        Raises:
            BundleError: not what `to_bytes` writes, shapes that contradict each other, or numbers that are not finite.
        """
        return cls.from_arrays(npz.unpack(data, "latents.npz"))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "LatentStatistics":
        """Take what `to_arrays` gives.

        Raises:
            BundleError: as `from_bytes`.
        """
        latent_arrays.check(arrays)
        return cls(**arrays)

    @property
    def latent_size(self) -> int:
        """D."""
        return self.mean.shape[0]

    def distance(self, latents: NDArray[Any]) -> Floats:
        """(N, D) to (N,): Mahalanobis distance to the training latents in the span of the components, over sqrt(k).

        The variance of every axis is raised by 1e-4 of the mean variance, so that dead units cause no division by zero.
        Spatial latents (N, h, w, c) are flattened where h * w * c is D. Where c is D, the statistics are of channel
        vectors, and it is the root of the mean square over positions.
        """
        if latents.ndim > 2:  # noqa: PLR2004 ((N, D))
            return self._distance_of_spatial(latents)
        coordinates = (latents - self.mean) @ self._whitening
        return np.sqrt(np.vecdot(coordinates, coordinates) / coordinates.shape[1])

    def _distance_of_spatial(self, latents: NDArray[Any]) -> Floats:
        """(N, h, w, c) to (N,)."""
        count, values = len(latents), prod(latents.shape[1:])
        if latents.shape[-1] != self.latent_size:
            return self.distance(latents.reshape(count, values))
        positions = self.distance(latents.reshape(-1, self.latent_size)).reshape(count, values // self.latent_size)
        return np.sqrt(np.vecdot(positions, positions) / positions.shape[1])

    def sample(self, seed: int, first: int, count: int, temperature: float, prior: Prior) -> NDArray[np.float32]:
        """Draw (count, D) float32, the rows first … first + count - 1 of a seed; row i depends on seed and i alone.

        Raises:
            ValueError: as `bundle.noise.uniforms`.
        """
        if prior == "normal":
            return standard(seed, first, count, self.latent_size, temperature)
        chosen = self._choose(uniforms(seed, Purpose.MIXTURE, first, count, 1)[:, 0])
        drawn = standard(seed, first, count, self.components.shape[0], temperature)
        factors = (row[chosen] for row in self._factor_columns)
        coordinates = self.mixture_means[chosen] + ordered_sum(drawn, factors)
        return (self.mean + ordered_sum(coordinates, self.components)).astype(np.float32)

    def move(self, amounts: Iterable[tuple[int, float]]) -> Move:
        """The move along several attributes at once, by their places and amounts; their order does not matter.

        What overflows makes a move to places that are not finite.
        """
        vector, maps = np.zeros(self.latent_size), self.attribute_maps
        matrix = None if maps is None else np.zeros(maps.shape[1:])
        with np.errstate(over="ignore", invalid="ignore"):
            for place, amount in amounts:
                vector += amount * self.attribute_directions[place]
                if maps is not None and matrix is not None:
                    matrix += amount * maps[place]
        return Move(vector, matrix if matrix is not None and matrix.any() else None)

    def reconstruction_error_quantile(self, level: float) -> float:
        """Quantile `level` of the squared error per pixel on held-out images."""
        return float(np.interp(level, self.quantile_levels, self.reconstruction_error_quantiles))

    def latent_distance_quantile(self, level: float) -> float:
        """Quantile `level` of the latent distance on held-out images."""
        return float(np.interp(level, self.quantile_levels, self.latent_distance_quantiles))

    def density_distance(self, negative_log_densities: NDArray[Any]) -> Floats:
        """(N,) of -log p(z) under a learned prior to (N,): a distance that tells rare latents from common ones.

        Its square is 1 for the median of held-out images and grows by 2 / D for each nat beyond it, as that of
        `distance` does where latents are Gaussian; 0 where they are likelier than any Gaussian's would be. For versions
        with `negative_log_density_quantiles`.
        """
        beyond = negative_log_densities - self._density_quantile(0.5)
        return np.sqrt(np.maximum(1.0 + 2.0 * beyond / self.latent_size, 0.0))

    def density_distance_quantile(self, level: float) -> float:
        """Quantile `level` of the density distance on held-out images."""
        return float(self.density_distance(np.array([self._density_quantile(level)]))[0])

    def _density_quantile(self, level: float) -> float:
        quantiles = self.negative_log_density_quantiles
        assert quantiles is not None  # noqa: S101 (as the callers say)
        return float(np.interp(level, self.quantile_levels, quantiles))

    def _choose(self, numbers: Floats) -> NDArray[np.intp]:
        edges = np.asarray(np.cumsum(self.mixture_weights), np.float64)
        targets: Floats = numbers * float(edges[-1])
        chosen = np.asarray(np.searchsorted(edges, targets, side="right"), np.intp)
        return np.minimum(chosen, len(edges) - 1)

    @cached_property
    def _whitening(self) -> Floats:
        ridge = _RIDGE * float(self.total_variance) / self.latent_size
        return self.components.T / np.sqrt(np.maximum(self.variances + ridge, _SMALLEST_VARIANCE))

    @cached_property
    def _factor_columns(self) -> Floats:
        """(k, K, k): what the i-th normal number adds to each coordinate, for each Gaussian."""
        return np.ascontiguousarray(_cholesky(self.mixture_covariances).transpose(2, 0, 1))


def _cholesky(covariances: Floats) -> Floats:
    """(K, k, k) positive semi-definite to lower triangular factors.

    With elementwise operations only, because the last bit of LAPACK's varies between processors.
    """
    rest = covariances.copy()
    factors = np.zeros_like(rest)
    for index in range(rest.shape[-1]):
        pivot = np.sqrt(np.maximum(rest[:, index, index], 0.0))
        column = np.divide(
            rest[:, index:, index], pivot[:, None], out=np.zeros_like(rest[:, index:, index]), where=pivot[:, None] > 0
        )
        factors[:, index:, index] = column
        rest[:, index:, index:] -= column[:, :, None] * column[:, None, :]
    return factors
