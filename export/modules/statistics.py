"""Latent statistics of a module on its reference images: drift is measured against them, `Sample` draws from them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.golden import Array
from bundle.images import element_types
from bundle.latents import LatentStatistics
from export.modules.adapter import AdaptedModule
from training.errors import UnavailableError
from training.evaluation import latent_statistics, reference_points
from training.evaluation.reference_points import numbered

LEAST_IMAGES = 100
_ROWS_AT_ONCE = 32
_SEED = 0


class TooFewError(UnavailableError):
    """Statistics of so few images would say nothing."""


def fit(model: AdaptedModule, images: Array, classes: Sequence[str]) -> LatentStatistics | None:
    """Statistics of the latents of images (N, H, W, C), every second one held out; None without an encoder.

    Where a latent is of one size, held-out ones are kept as reference points, with the class of each image, if any.

    Raises:
        UnavailableError: too few images, or latents too wide.
    """
    if "encode" not in model.methods:
        return None
    if len(images) < LEAST_IMAGES:
        raise TooFewError(f"they take at least {LEAST_IMAGES} reference images, got {len(images)}")
    found = [_codes_and_errors(model, images[start : start + _ROWS_AT_ONCE]) for start in _starts(images)]
    codes = np.concatenate([codes for codes, _ in found])
    errors = np.concatenate([errors for _, errors in found])
    size = codes.shape[-1] if not model.image_shape[0] else int(np.prod(codes.shape[1:]))
    fitted, held_out = codes[::2].reshape(-1, size), codes[1::2]
    statistics = latent_statistics.fit(fitted, held_out.reshape(-1, size), errors[1::2], _SEED)
    # Of an image, not of its positions.
    distances = np.quantile(statistics.distance(held_out), statistics.quantile_levels)
    statistics = dataclasses.replace(statistics, latent_distance_quantiles=distances)
    if size == codes[0].size:
        statistics = reference_points.add(statistics, held_out.reshape(-1, size), *numbered(classes[1::2]))
    return _without_mixture(statistics) if model.variational or size != codes[0].size else statistics


def _without_mixture(statistics: LatentStatistics) -> LatentStatistics:
    """For samples from N(0, I), or, of single positions, for none: those of a mixture would not belong together."""
    empty = np.zeros((0, *statistics.mixture_covariances.shape[1:]))
    return dataclasses.replace(
        statistics, mixture_weights=empty[:, 0, 0], mixture_means=empty[:, 0], mixture_covariances=empty
    )


def _starts(images: Array) -> range:
    return range(0, len(images), _ROWS_AT_ONCE)


@torch.no_grad()
def _codes_and_errors(model: AdaptedModule, images: Array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, D) or (N, h, w, c), and the squared error per pixel of each reconstruction, 0 where there is none."""
    pixels = as_pixels(images)
    latents = model.encode(pixels)[0]
    errors = torch.zeros(len(pixels))
    if "reconstruct" in model.methods:
        errors = (model.reconstruct(pixels).clamp(0, 1) - pixels).square().mean((1, 2, 3))
    codes = latents.movedim(1, -1) if latents.ndim > 2 else latents  # noqa: PLR2004 ((N, D))
    return codes.contiguous().numpy(), errors.numpy()


def as_pixels(images: Array) -> Tensor:
    """(N, H, W, C) to float32 (N, C, H, W) in 0 … 1."""
    return torch.tensor(element_types.floats(images)).permute(0, 3, 1, 2).contiguous()
