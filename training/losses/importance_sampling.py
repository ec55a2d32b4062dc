"""Importance sampling of the likelihood of a VAE: weights, and the estimate of log p(x), decoded in batches."""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

from training.config import Loss
from training.losses import terms
from training.losses.terms import Likelihood
from training.models.posterior import Posterior
from training.models.priors import Prior
from training.random_streams import Draws

ROWS_PER_DECODE = 4_000
# Pixels in them: those of MNIST. Of larger images fewer are decoded at once.
_NUMBERS_PER_DECODE = ROWS_PER_DECODE * 28 * 28


class Variational(Protocol):
    """An encoder to a posterior and a decoder to logits or pixels."""

    output: Literal["logits", "pixels"]
    prior: Prior
    likelihood: Likelihood

    def encode(self, images: Tensor, /) -> Posterior:
        """(N, C, H, W) to the posterior of (N, D)."""
        ...

    def decode(self, latents: Tensor, /) -> Tensor:
        """(N, D) to logits (N, C, H, W)."""
        ...


@torch.no_grad()
def negative_log_likelihood(model: Variational, images: Tensor, draws: Draws, samples: int) -> Tensor:
    """Binary images (N, C, H, W) to (N,) nats: minus the bound of K samples (Burda et al. 2015, equation 8).

    Images are encoded once. Only the logarithm of the sum of the weights is kept, so memory does not grow with K.
    """
    posterior = model.encode(images)
    rows = min(ROWS_PER_DECODE, _NUMBERS_PER_DECODE // images[0].numel())
    samples_at_once = max(1, rows // len(images))
    total = torch.full((len(images),), -math.inf, dtype=torch.float64)
    for done in range(0, samples, samples_at_once):
        count = min(samples_at_once, samples - done)
        normals = draws.normal((count, *posterior.means.shape[1:]))
        latents = posterior.sample(normals)
        likelihood, prior, density = log_densities(model, images, latents, posterior, model.likelihood)
        total = torch.logaddexp(total, (likelihood + prior - density).double().logsumexp(1).cpu())
    return math.log(samples) - total


def log_densities(
    model: Variational, images: Tensor, latents: Tensor, posterior: Posterior, settings: Loss | Likelihood
) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, C, H, W), samples (N, K, D) and their posteriors to log p(x|z), log p(z), log q(z|x), (N, K) each.

    The importance weight of a sample is p(x|z) p(z) / q(z|x).
    """
    logits = model.decode(latents.flatten(0, 1))
    repeated = images.repeat_interleave(latents.shape[1], 0)
    reconstruction = terms.nll(settings, logits, repeated, model.output).unflatten(0, latents.shape[:2])
    return -reconstruction, model.prior.log_density(latents.flatten(2)), posterior.log_prob(latents)
