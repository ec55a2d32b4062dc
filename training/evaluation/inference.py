"""Inference of a trained model on the CPU: a split in batches, its codes and reconstructions, samples."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bundle.latents import LatentStatistics, standard
from training.config import Loss
from training.data.batches import InMemoryBatches
from training.data.split import Split
from training.errors import UnavailableError
from training.losses import objectives
from training.models.families import Network
from training.models.posterior import Posterior
from training.random_streams import Draws

_LARGEST_BATCH = 1_000
# Of 64x64x3 pixels a whole batch; of larger images fewer, because a network's features take many times their memory.
_NUMBERS_AT_ONCE = _LARGEST_BATCH * 64 * 64 * 3
PIXEL_AXES = (1, 2, 3)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Seen:
    """A batch and its reconstruction: targets, inputs and outputs (N, C, H, W) in 0 to 1, logits of the outputs."""

    targets: Tensor
    inputs: Tensor
    logits: Tensor

    @property
    def outputs(self) -> Tensor:
        """(N, C, H, W) in 0 to 1."""
        return self.logits.sigmoid()


@torch.no_grad()
def see(model: Network, images: Tensor, draws: Draws, loss: Loss) -> Seen:
    """Images (N, C, H, W) through the model, by the posterior mean where there is a posterior."""
    if hasattr(model, "denoise"):
        inputs = objectives.noisy(images, draws, loss.noise)
        return Seen(images, inputs, model.denoise(inputs))
    return Seen(images, images, model.decode(codes(model, images)))


@torch.no_grad()
def codes(model: Network, images: Tensor) -> Tensor:
    """(N, C, H, W) to (N, D): the code, or the mean of its posterior."""
    encoded: Tensor | Posterior = model.encode(images)
    return encoded.means if isinstance(encoded, Posterior) else encoded


def all_codes(model: Network, split: Split) -> np.ndarray:
    """Every code of a split, float32 (N, D)."""
    found, first = np.empty((len(split), model.latent_size), np.float32), 0
    for images in batches(split):
        found[first : first + len(images)] = codes(model, images).numpy()
        first += len(images)
    return found


@torch.no_grad()
def squared_errors(model: Network, split: Split) -> np.ndarray:
    """Squared error per pixel of every reconstruction of a split, (N,)."""
    outputs = ((model.decode(codes(model, images)).sigmoid(), images) for images in batches(split))
    return np.concatenate([(output - images).square().mean(PIXEL_AXES).numpy() for output, images in outputs])


def batches(split: Split) -> Iterator[Tensor]:
    """Images (N, C, H, W) of a split, in order."""
    everything = loaded(split)
    for rows in torch.arange(len(everything)).split(rows_at_once(split.images.shape[1:])):
        yield everything.batch(rows)[0]


def rows_at_once(image_shape: Sequence[int]) -> int:
    """How many images (H, W, C) are evaluated in one batch."""
    return max(1, min(_LARGEST_BATCH, _NUMBERS_AT_ONCE // math.prod(image_shape)))


def loaded(split: Split) -> InMemoryBatches:
    """A split on the CPU, where everything is evaluated."""
    return InMemoryBatches(split, CPU, torch.contiguous_format)


def sample(model: Network, latents: LatentStatistics | None, first: int, count: int) -> np.ndarray:
    """Codes (count, D) from the density that the model is sampled from, the rows of seed 0 from `first` on.

    Raises:
        UnavailableError: that is a mixture, and none was fitted.
    """
    if model.prior == "normal":
        return standard(0, first, count, model.latent_size)
    if latents is None:
        raise UnavailableError("samples need the mixture of the latent statistics")
    return latents.sample(0, first, count, 1.0, model.prior)


def spread(split: Split, count: int) -> np.ndarray:
    """Positions (n,) of up to `count` images that show a split: spaced evenly over its classes, else over its order."""
    order = np.arange(len(split)) if split.labels is None else np.argsort(split.labels, kind="stable")
    return order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.intp)]
