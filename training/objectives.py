"""What each family minimises, and what it reports: per image, in nats."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from training import losses
from training.config import Loss
from training.models import Autoencoder, Denoiser, Network, VariationalAutoencoder
from training.noise import Noise


@dataclass(frozen=True)
class Outcome:
    """`losses`: what each player minimises, (N,); `measures`: what is logged and averaged, (N,) each."""

    losses: Mapping[str, Tensor]
    measures: Mapping[str, Tensor]


def evaluate(
    model: Network, images: Tensor, labels: Tensor | None, noise: Noise, loss: Loss, kl_weight: float
) -> Outcome:
    """Images (N, C, H, W) in 0 to 1 to the losses of the model's family."""
    del labels
    if loss.binarise:
        images = (noise.uniform(tuple(images.shape[1:])) < images).float()
    if isinstance(model, Denoiser):
        return denoising(model, images, noise, loss)
    if isinstance(model, VariationalAutoencoder):
        return variational(model, images, noise, loss, kl_weight)
    return plain(model, images, loss)


def plain(model: Autoencoder, images: Tensor, loss: Loss) -> Outcome:
    """Reconstruction alone."""
    reconstruction = nll(loss, model.decode(model.encode(images)), images)
    return _single(reconstruction, {})


def denoising(model: Denoiser, images: Tensor, noise: Noise, loss: Loss) -> Outcome:
    """Clean images from noisy ones, with fresh noise at every visit."""
    return _single(nll(loss, model.denoise(noisy(images, noise, loss.noise)), images), {})


def variational(model: VariationalAutoencoder, images: Tensor, noise: Noise, loss: Loss, kl_weight: float) -> Outcome:
    """The negative evidence lower bound with one sample (Kingma & Welling 2013, equation 10)."""
    means, log_variances = model.encode(images)
    kl = losses.kl_to_standard_normal(means, log_variances)
    latents = sampled(means, log_variances, noise)
    reconstruction = nll(loss, model.decode(latents), images)
    total = reconstruction + kl_weight * losses.with_free_bits(kl, loss.free_bits)
    return _single(total, {"reconstruction": reconstruction, "kl": kl.sum(1)})


def sampled(means: Tensor, log_variances: Tensor, noise: Noise) -> Tensor:
    """(N, D) twice to (N, D): a draw from the posterior, differentiable in both."""
    return means + torch.exp(0.5 * log_variances) * noise.normal((means.shape[1],))


def noisy(images: Tensor, noise: Noise, sigma: float) -> Tensor:
    """Images (N, C, H, W) plus N(0, sigma^2), clipped to 0 to 1."""
    return (images + sigma * noise.normal(tuple(images.shape[1:]))).clamp(0, 1)


def nll(loss: Loss, logits: Tensor, images: Tensor) -> Tensor:
    """(N,): minus the log-likelihood of the images."""
    if loss.likelihood == "gaussian":
        return losses.gaussian_nll(logits, images, loss.sigma)
    return losses.bernoulli_nll(logits, images)


def _single(total: Tensor, measures: dict[str, Tensor]) -> Outcome:
    return Outcome({"model": total}, {"loss": total, **measures})
