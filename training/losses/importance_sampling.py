"""How likely a VAE finds binary images: the importance-weighted estimate, encoded once, decoded in batches."""

import math

import torch
from torch import Tensor

from training.losses import terms
from training.models.autoencoders import VariationalAutoencoder
from training.random_streams import Noise

ROWS_PER_DECODE = 4_000


@torch.no_grad()
def negative_log_likelihood(model: VariationalAutoencoder, images: Tensor, noise: Noise, samples: int) -> Tensor:
    """Binary images (N, C, H, W) to (N,) nats: minus the bound of K samples (Burda et al. 2015, equation 8).

    The sum of the weights is kept as its logarithm, so that memory does not grow with K.
    """
    means, log_variances = model.encode(images)
    per_turn = max(1, ROWS_PER_DECODE // len(images))
    total = torch.full((len(images),), -math.inf, dtype=torch.float64)
    for done in range(0, samples, per_turn):
        turn = min(per_turn, samples - done)
        weights = log_weights(model, images, means, log_variances, noise.normal((turn, means.shape[1])))
        total = torch.logaddexp(total, weights.double().logsumexp(1).cpu())
    return math.log(samples) - total


def log_weights(
    model: VariationalAutoencoder, images: Tensor, means: Tensor, log_variances: Tensor, draws: Tensor
) -> Tensor:
    """Images (N, C, H, W), their posteriors (N, D), draws (N, K, D) to log p(x, z) - log q(z | x), (N, K)."""
    means, log_variances = means.unsqueeze(1), log_variances.unsqueeze(1)
    latents = means + torch.exp(0.5 * log_variances) * draws
    repeated = images.repeat_interleave(draws.shape[1], 0)
    likelihood = -terms.bernoulli_nll(model.decode(latents.flatten(0, 1)), repeated).unflatten(0, draws.shape[:2])
    zero = torch.zeros_like(latents)
    return likelihood + terms.log_normal(latents, zero, zero) - terms.log_normal(latents, means, log_variances)
