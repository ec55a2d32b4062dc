"""Loss terms, one formula per function, in nats per image: sums over pixels and latents, never means."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from training.config import Loss

# Of a fitted Gaussian: about what rounding to bytes leaves, 1 / (12 * 255**2).
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Likelihood:
    """p(x | z) of a pixel. The images that it is of are 0 or 1 where it is Bernoulli's, else grey."""

    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    sigma: float = 0.1

    @property
    def is_binary(self) -> bool:
        """Whether it is of binary images: grey ones have none."""
        return self.likelihood == "bernoulli"


def bernoulli_nll(logits: Tensor, images: Tensor) -> Tensor:
    """(N, C, H, W) twice to (N,): binary cross-entropy; images in 0 to 1, grey or binary."""
    return functional.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(1)


def gaussian_nll(logits: Tensor, images: Tensor, sigma: float) -> Tensor:
    """(N, C, H, W) twice to (N,): negative log-density of images around sigmoid(logits) with fixed sigma."""
    return gaussian_nll_of_pixels(logits.sigmoid(), images, sigma)


def gaussian_nll_of_pixels(pixels: Tensor, images: Tensor, sigma: float) -> Tensor:
    """(N, C, H, W) twice to (N,): negative log-density of images around pixels with fixed sigma.

    For a sigma of 0 it is fitted to each image: that maximises the likelihood (Rybkin, Daniilidis & Levine 2021), and
    the loss is linear in PSNR.
    """
    if not sigma:
        variances = (pixels - images).square().flatten(1).mean(1) + _LEAST_VARIANCE
        return images[0].numel() / 2 * (variances.log() + 1 + math.log(2 * math.pi))
    squares = (pixels - images).square() / (2 * sigma**2)
    return (squares + math.log(sigma * math.sqrt(2 * math.pi))).flatten(1).sum(1)


def nll(settings: Loss | Likelihood, outputs: Tensor, images: Tensor, output: str = "logits") -> Tensor:
    """(N, C, H, W) twice to (N,): negative log-likelihood of the images under the likelihood of the settings.

    Outputs are logits, or pixels, for which the likelihood is Gaussian.
    """
    if output == "pixels":
        return gaussian_nll_of_pixels(outputs, images, settings.sigma)
    if settings.likelihood == "gaussian":
        return gaussian_nll(outputs, images, settings.sigma)
    return bernoulli_nll(outputs, images)


def log_likelihood(settings: Loss | Likelihood, outputs: Tensor, images: Tensor, output: str = "logits") -> Tensor:
    """(N, C, H, W) twice to (N,): minus `nll`, in operations that are as exact in an ONNX graph.

    The exporter makes the logarithm of a sigmoid of PyTorch's cross-entropy: -infinity where the sigmoid is 0.
    """
    if output == "pixels" or settings.likelihood == "gaussian":
        return -nll(settings, outputs, images, output)
    losses = outputs.relu() - outputs * images + functional.softplus(-outputs.abs())
    return -losses.flatten(1).sum(1)


def kl_to_standard_normal(means: Tensor, log_variances: Tensor) -> Tensor:
    """(N, …) twice to (N, …): KL of each latent's Gaussian from N(0, 1) (Kingma & Welling 2013, appendix B)."""
    return 0.5 * (means.square() + log_variances.exp() - 1 - log_variances)


def with_free_bits(kl: Tensor, free_nats: float) -> Tensor:
    """(N, …) to (N,): each latent costs at least `free_nats` (after Kingma et al. 2016, per image)."""
    return kl.clamp(min=free_nats).flatten(1).sum(1)


def total_correlation(latents: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    """Samples (N, D) of N posteriors, in whose average q(z) they are, to (N,): log q(z) - sum of log q(z_d).

    Its mean tends to the total correlation, how far latents are from independent, as N grows; with the N of a batch it
    is a penalty, not a measurement. The estimate of log q(z) is never below log q(z | x) - log N, so it cannot see more
    than log N nats of what codes say about their images, and the mean is too high by about the rest: 27 nats at N = 128
    for 20 independent latents, means spread by 1 and posteriors by 0.2. It falls as N grows: compare values of equal N.

    It is the minibatch-weighted estimator of Chen et al. 2018 but for a constant: they divide each average by the
    number of training images too, which adds D - 1 times its logarithm, and nothing to the gradient.
    """
    squares = (latents.unsqueeze(1) - means).square() * torch.exp(-log_variances)
    densities = -0.5 * (squares + log_variances + math.log(2 * math.pi))
    joint, marginals = densities.sum(2).logsumexp(1), densities.logsumexp(1)
    count = math.log(len(means))
    return joint - count - (marginals - count).sum(1)


def log_normal(values: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    """(..., D) thrice to (...): log-density of a diagonal Gaussian."""
    squares = (values - means).square() * torch.exp(-log_variances)
    return -0.5 * (squares + log_variances + math.log(2 * math.pi)).sum(-1)


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """(K, N) to (N,): the importance-weighted bound on log p(x) (Burda et al. 2015, equation 8)."""
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))
