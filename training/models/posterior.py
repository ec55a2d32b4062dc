"""The diagonal Gaussian posterior q(z | x): reparameterised samples, KL divergence, log-density."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from training.losses import terms


class Posterior(NamedTuple):
    """What a variational encoder returns: means and log-variances; a plain pair to the exporter.

    Below, (N, D) stands for spatial codes (N, c, h, w) too.
    """

    means: Tensor
    log_variances: Tensor

    def sample(self, normals: Tensor) -> Tensor:
        """Normals (N, D), or (N, K, D) for K samples an image, to latents of the same shape, differentiable.

        The reparameterisation (reparameterization) trick of Kingma & Welling 2013, section 2.4.
        """
        means, log_variances = self._broadcast_to(normals)
        return means + torch.exp(0.5 * log_variances) * normals

    def kl(self) -> Tensor:
        """(N, D): KL divergence of each latent from N(0, 1), in nats."""
        return terms.kl_to_standard_normal(self.means, self.log_variances)

    def entropy(self) -> Tensor:
        """(N,): the entropy, in nats."""
        return 0.5 * (self.log_variances + (1 + math.log(2 * math.pi))).flatten(1).sum(1)

    def log_prob(self, latents: Tensor) -> Tensor:
        """Latents (N, D) or (N, K, D) to their log-density (N,) or (N, K), in nats."""
        leading = latents.ndim - self.means.ndim + 1
        return terms.log_normal(*(each.flatten(leading) for each in (latents, *self._broadcast_to(latents))))

    def _broadcast_to(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        if latents.ndim == self.means.ndim:
            return self.means, self.log_variances
        return self.means.unsqueeze(1), self.log_variances.unsqueeze(1)
