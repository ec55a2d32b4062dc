"""Priors p(z) of variational autoencoders: N(0, I), and a RealNVP normalizing flow that is trained with the network."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from training.errors import ConfigError
from training.losses import terms
from training.models.posterior import Posterior

# Largest logarithm of the factor by which a coupling scales a value.
_LARGEST_LOG_SCALE = 2.0
_PARTS = 2


class StandardNormalPrior(nn.Module):
    """N(0, I)."""

    def latents(self, noise: Tensor) -> Tensor:
        """Noise (N, D) from N(0, I) is a draw already."""
        return noise

    def log_density(self, latents: Tensor) -> Tensor:
        """(..., D) to (...): log p(z) in nats."""
        zero = torch.zeros_like(latents)
        return terms.log_normal(latents, zero, zero)

    def divergence(self, posterior: Posterior, normals: Tensor) -> Tensor:  # noqa: ARG002 (a learned prior needs a sample)
        """(N, D) or (N, c, h, w): the KL divergence of each latent, in nats, exactly."""
        return posterior.kl()


class FlowPrior(nn.Module):
    """A RealNVP flow (Dinh et al. 2017): affine couplings from latents to noise that is N(0, I).

    It starts as N(0, I): its couplings change nothing yet.
    """

    def __init__(self, size: int, couplings: int, hidden: Sequence[int]) -> None:
        super().__init__()
        if size < _PARTS:
            raise ConfigError(f'model.prior "flow" needs model.latent_size of at least {_PARTS}, got {size}')
        # The parts change places in each coupling.
        larger, smaller = size - size // 2, size // 2
        self.couplings = nn.ModuleList(
            Coupling(smaller, larger, hidden) if position % 2 else Coupling(larger, smaller, hidden)
            for position in range(couplings)
        )

    def latents(self, noise: Tensor) -> Tensor:
        """Noise (N, D) from N(0, I) to draws of the prior (N, D)."""
        values = noise
        for coupling in reversed(self.couplings):
            values = cast("Coupling", coupling).inverse(values)
        return values

    def noise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) to the noise (..., D) that gives these latents, and the log-determinant (...)."""
        values, total = latents, torch.zeros_like(latents[..., 0])
        for coupling in self.couplings:
            values, log_scales = coupling(values)
            total = total + log_scales.sum(-1)
        return values, total

    def log_density(self, latents: Tensor) -> Tensor:
        """(..., D) to (...): log p(z) in nats, exactly."""
        noise, log_determinant = self.noise(latents)
        zero = torch.zeros_like(noise)
        return terms.log_normal(noise, zero, zero) + log_determinant

    def divergence(self, posterior: Posterior, normals: Tensor) -> Tensor:
        """(N, 1): the KL divergence in nats, estimated without bias by the posterior's sample for normals (N, D)."""
        return (-posterior.entropy() - self.log_density(posterior.sample(normals))).unsqueeze(1)


Prior = StandardNormalPrior | FlowPrior


class Coupling(nn.Module):
    """(..., D) to the same: the second part scaled and shifted by what a network reads off the first, then in front."""

    def __init__(self, kept: int, changed: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.kept, self.changed = kept, changed
        widths = [kept, *hidden]
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 2 * changed))

    def start(self) -> None:
        """Change nothing: the last layer becomes zero."""
        last = self.layers[-1]
        if isinstance(last, nn.Linear):
            nn.init.zeros_(last.weight)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Towards noise: (..., D), and the logarithms of the factors (..., changed)."""
        kept, changed = values[..., : self.kept], values[..., self.kept :]
        log_scales, shifts = self._affine(kept)
        return torch.cat([changed * log_scales.exp() + shifts, kept], -1), log_scales

    def inverse(self, values: Tensor) -> Tensor:
        """Back: (..., D)."""
        changed, kept = values[..., : self.changed], values[..., self.changed :]
        log_scales, shifts = self._affine(kept)
        return torch.cat([kept, (changed - shifts) * (-log_scales).exp()], -1)

    def _affine(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shifts = self.layers(kept).chunk(2, -1)
        return _LARGEST_LOG_SCALE * raw.tanh(), shifts
