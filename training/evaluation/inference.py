"""Inference of a trained model on the CPU: a split in batches, its codes and reconstructions, samples."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bundle.latents import LatentStatistics, draw
from training.config import Loss
from training.data.batches import InMemoryBatches
from training.data.split import Split
from training.errors import UnavailableError
from training.evaluation import reference_points
from training.losses import objectives
from training.models.families import Network
from training.models.posterior import Posterior
from training.models.priors import FlowPrior
from training.random_streams import Draws

_LARGEST_BATCH = 1_000
# Of 32x32x3 pixels a whole batch; of larger images fewer, because a network's features take many times their memory.
_NUMBERS_AT_ONCE = _LARGEST_BATCH * 32 * 32 * 3
# Fifty samples each of a whole batch of 28x28 images.
_DECODED_AT_ONCE = _LARGEST_BATCH * 50 * 28 * 28
# Codes of more than these are statistics of a part of the images.
_CODE_BYTES = 512 * 2**20
PIXEL_AXES = (1, 2, 3)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Seen:
    """A batch and its reconstruction: targets, inputs and outputs (N, C, H, W) in 0 to 1; logits, if it has them."""

    targets: Tensor
    inputs: Tensor
    outputs: Tensor
    logits: Tensor | None


def draws_images(model: Network) -> bool:
    """Whether a model makes images from images, and does not detect alone."""
    return hasattr(model, "denoise") or hasattr(model, "decode")


@torch.no_grad()
def see(model: Network, images: Tensor, draws: Draws, loss: Loss) -> Seen:
    """Images (N, C, H, W), or pairs (N, 2C, H, W), through the model, by the posterior mean where there is one."""
    images, noisy = objectives.apart(images, model.image_shape[2])
    if hasattr(model, "denoise"):
        inputs = objectives.noisy(model, images, draws, loss) if noisy is None else (noisy,)
        outputs = model.denoise(*inputs)
        shown = inputs[0]
    else:
        outputs, shown = model.decode(codes(model, images)), images
    return Seen(images, shown, model.images(outputs), outputs if model.output == "logits" else None)


@torch.no_grad()
def codes(model: Network, images: Tensor) -> Tensor:
    """(N, C, H, W) to (N, D) or (N, c, h, w): the code, or the mean of its posterior."""
    encoded: Tensor | Posterior = model.encode(images)
    return encoded.means if isinstance(encoded, Posterior) else encoded


def all_codes(model: Network, split: Split) -> np.ndarray:
    """Every code of a split, float32 (N, D), or (N, h, w, c) as on the wire."""
    found, first = np.empty((len(split), *code_shape(model, split)), np.float32), 0
    for images in batches(split):
        found[first : first + len(images)] = on_the_wire(codes(model, images)).numpy()
        first += len(images)
    return found


def vectors(model: Network, codes: np.ndarray) -> np.ndarray:
    """Codes to float64 (N, D), or of free sizes to (N, c), their mean over positions."""
    wide = codes.astype(np.float64)
    return wide.mean((1, 2)) if model.is_free else wide.reshape(len(wide), -1)


def code_shape(model: Network, split: Split) -> tuple[int, ...]:
    """(D,) or (h, w, c) of the codes of a split's images."""
    if not model.is_free:
        return model.latent_shape
    height, width, _ = split.images.shape[1:]
    return height // model.downsampling, width // model.downsampling, model.latent_shape[2]


def affordable(model: Network, split: Split) -> Split:
    """A split whose codes can be held: all of it, or a part that is spread evenly over it."""
    most = max(1, _CODE_BYTES // (4 * math.prod(code_shape(model, split))))
    return split if len(split) <= most else split.take(np.linspace(0, len(split) - 1, most).astype(np.intp))


def on_the_wire(codes: Tensor) -> Tensor:
    """(N, D) as it is, (N, c, h, w) to (N, h, w, c)."""
    return codes.permute(0, 2, 3, 1) if codes.ndim == 4 else codes  # noqa: PLR2004 (spatial)


@torch.no_grad()
def decode(model: Network, codes: np.ndarray) -> Tensor:
    """Codes (N, D) or (N, h, w, c) to images (N, C, H, W) in 0 to 1, a batch at a time."""
    latents = torch.from_numpy(np.ascontiguousarray(codes, np.float32))
    latents = latents.permute(0, 3, 1, 2).contiguous() if latents.ndim == 4 else latents  # noqa: PLR2004 (spatial)
    first = model.images(model.decode(latents[:1]))
    at_once = rows_at_once(first.shape[1:])
    return torch.cat([model.images(model.decode(part)) for part in latents.split(at_once)])


@torch.no_grad()
def squared_errors(model: Network, split: Split) -> np.ndarray:
    """Squared error per pixel of every reconstruction of a split, (N,)."""
    outputs = ((model.images(model.decode(codes(model, images))), images) for images in batches(split))
    return np.concatenate([(output - images).square().mean(PIXEL_AXES).numpy() for output, images in outputs])


def batches(split: Split) -> Iterator[Tensor]:
    """Images (N, C, H, W) of a split, in order."""
    everything = loaded(split)
    for rows in torch.arange(len(everything)).split(rows_at_once(split.images.shape[1:])):
        yield everything.batch(rows)[0]


def rows_at_once(image_shape: Sequence[int], samples: int = 1) -> int:
    """How many images (H, W, C), or (C, H, W), are evaluated in one batch, each with so many samples of its code."""
    pixels = math.prod(image_shape)
    decoded = _DECODED_AT_ONCE // (pixels * samples)
    return max(1, min(_LARGEST_BATCH, _NUMBERS_AT_ONCE // pixels, decoded))


def loaded(split: Split) -> InMemoryBatches:
    """A split on the CPU, where everything is evaluated."""
    return InMemoryBatches(split, CPU, torch.contiguous_format)


def sample(
    model: Network, latents: LatentStatistics | None, shape: Sequence[int], first: int, count: int
) -> np.ndarray:
    """Codes (count, *shape) from the density that the model is sampled from, the rows of seed 0 from `first` on.

    Raises:
        UnavailableError: that is a mixture, and none was fitted.
    """
    if model.sampling == "mixture" and latents is None:
        raise UnavailableError("samples need the mixture of the latent statistics")
    drawn = draw(model.family, shape, latents, 0, first, count, 1.0)
    if drawn is None:
        raise UnavailableError("a plain autoencoder of free sizes has no density to sample from")
    if isinstance(getattr(model, "prior", None), FlowPrior):
        with torch.no_grad():
            return model.prior.latents(torch.from_numpy(drawn)).numpy()
    return drawn


@torch.no_grad()
def log_densities(model: Network, codes: np.ndarray) -> np.ndarray | None:
    """Codes (N, D) to log p(z), (N,), under a learned prior; None without one."""
    if not isinstance(getattr(model, "prior", None), FlowPrior):
        return None
    return torch.cat([model.prior.log_density(part) for part in torch.from_numpy(codes).split(_LARGEST_BATCH)]).numpy()


def spread(split: Split, count: int) -> np.ndarray:
    """Positions (n,) of up to `count` images that show a split: spaced evenly over its classes, else over its order."""
    return reference_points.spread(len(split), split.labels, count)
