"""Latent statistics of a module on its reference images: drift is measured against them, `Sample` draws from them."""

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
from training.evaluation.latent_statistics import fit_references

LEAST_IMAGES = 100
_ROWS_AT_ONCE = 32


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
    size = codes[0].size if model.image_shape[0] else codes.shape[-1]
    return fit_references(codes, errors, size, classes, variational=model.variational)


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
