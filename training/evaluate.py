"""The figures of a trained model on held-out images."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from training import losses, objectives
from training.config import Loss
from training.feed import Feed
from training.models import Denoiser, Network, VariationalAutoencoder
from training.noise import Noise, Purpose, generator, whole

BATCH = 1_000
PIXEL_AXES = (1, 2, 3)


@dataclass(frozen=True)
class Seen:
    """What a model makes of a batch: targets, inputs and outputs (N, C, H, W) in 0 to 1, logits of the outputs."""

    targets: Tensor
    inputs: Tensor
    logits: Tensor

    @property
    def outputs(self) -> Tensor:
        """(N, C, H, W) in 0 to 1."""
        return self.logits.sigmoid()


def measure(model: Network, feed: Feed, loss: Loss) -> dict[str, float]:
    """Every figure of the model's family, means over the images.

    Noise comes from a stream of its own, so that the same model has the same figures every time.
    """
    sums: Counter[str] = Counter()
    source = generator(0, Purpose.TEST)
    for rows in torch.arange(len(feed)).split(BATCH):
        images, labels = feed.batch(rows)
        draws = whole(source, len(rows), images.device)
        figures = {
            **image_figures(see(model, images, draws, loss)),
            **bound_figures(model, images, labels, draws, loss),
        }
        sums.update({name: float(values.double().sum()) for name, values in figures.items()})
    return {name: value / len(feed) for name, value in sums.items()}


@torch.no_grad()
def see(model: Network, images: Tensor, draws: Noise, loss: Loss) -> Seen:
    """Images (N, C, H, W) through the model, by the posterior mean where there is a posterior."""
    if isinstance(model, Denoiser):
        inputs = objectives.noisy(images, draws, loss.noise)
        return Seen(images, inputs, model.denoise(inputs))
    return Seen(images, images, model.decode(codes(model, images)))


@torch.no_grad()
def codes(model: Network, images: Tensor) -> Tensor:
    """(N, C, H, W) to (N, D): the code, or the mean of its posterior."""
    encoded = model.encode(images)
    return encoded[0] if isinstance(encoded, tuple) else encoded


def image_figures(seen: Seen) -> dict[str, Tensor]:
    """(N,) each. SSIM: Gaussian window 11x11, sigma 1.5, borders dropped; PSNR: per image, then averaged."""
    outputs, pixels = seen.outputs, seen.targets[0].numel()
    bce = losses.bernoulli_nll(seen.logits, seen.targets) / pixels
    return {
        "bce_per_pixel": bce,
        "excess_bce_per_pixel": bce - entropy(seen.targets) / pixels,
        "mse": (outputs - seen.targets).square().mean(PIXEL_AXES),
        "psnr": peak_signal_noise_ratio(outputs, seen.targets, data_range=1.0, dim=PIXEL_AXES, reduction="none"),
        "ssim": structural_similarity_index_measure(outputs, seen.targets, data_range=1.0, reduction="none"),
    }


def entropy(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N,): the binary cross-entropy of images against themselves, which no model can beat."""
    return -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images)).flatten(1).sum(1)


@torch.no_grad()
def bound_figures(model: Network, images: Tensor, labels: Tensor | None, draws: Noise, loss: Loss) -> dict[str, Tensor]:
    """(N,) each: the negative evidence lower bound in nats and its two parts; nothing for a model without one."""
    if not isinstance(model, VariationalAutoencoder):
        return {}
    measures = objectives.evaluate(model, images, labels, draws, loss, kl_weight=1.0).measures
    return {
        "elbo_loss": measures["reconstruction"] + measures["kl"],
        **{k: measures[k] for k in ("reconstruction", "kl")},
    }


def all_codes(model: Network, feed: Feed) -> np.ndarray:
    """Every code of a split, float32 (N, D)."""
    batches = (feed.batch(rows)[0] for rows in torch.arange(len(feed)).split(BATCH))
    return np.concatenate([codes(model, images).cpu().numpy() for images in batches])


@torch.no_grad()
def squared_errors(model: Network, feed: Feed) -> np.ndarray:
    """Squared error per pixel of every reconstruction of a split, (N,)."""
    found = []
    for rows in torch.arange(len(feed)).split(BATCH):
        images, _ = feed.batch(rows)
        outputs = model.decode(codes(model, images)).sigmoid()
        found.append((outputs - images).square().mean(PIXEL_AXES).cpu().numpy())
    return np.concatenate(found)
