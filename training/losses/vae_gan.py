"""The three losses of a VAE/GAN (Larsen et al. 2016, algorithm 1)."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from training.config import Loss
from training.losses import terms
from training.models.autoencoders import VaeGan
from training.random_streams import Noise


def three_players(
    model: VaeGan, images: Tensor, noise: Noise, loss: Loss, kl_weight: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Images (N, C, H, W) to the loss of each player, (N,), and measures, (N,).

    The encoder pays for the KL divergence and for features that differ, never for being found out: its loss holds no
    verdict. The decoder pays for features that differ and for being found out, in the form that does not saturate
    (Goodfellow et al. 2014, section 3). The discriminator's features are a yardstick: no player moves them to
    shorten the distance, because each loss moves its own player's parameters alone.
    """
    means, log_variances = model.encode(images)
    kl = terms.kl_to_standard_normal(means, log_variances).sum(1)
    draws = noise.normal((2, means.shape[1]))
    reconstructions = model.decode(means + torch.exp(0.5 * log_variances) * draws[:, 0]).sigmoid()
    made_up = model.decode(draws[:, 1]).sigmoid()
    targets, real = model.discriminator(images)
    features, reconstructed = model.discriminator(reconstructions)
    _, invented = model.discriminator(made_up)
    distance = 0.5 * (features - targets.detach()).square().sum(1)
    fooling = softplus(-reconstructed) + softplus(-invented)
    judging = softplus(-real) + softplus(reconstructed) + softplus(invented)
    players = {
        "encoder": kl_weight * kl + distance,
        "decoder": distance + loss.adversarial * fooling,
        "discriminator": judging + penalty(model, images, loss.gradient_penalty),
    }
    right = ((real > 0).float() + (reconstructed < 0).float() + (invented < 0).float()) / 3
    pixels = 0.5 * (reconstructions - images).square().flatten(1).sum(1)
    measures = {
        "loss": kl_weight * kl + distance,
        "kl": kl,
        "feature_distance": distance,
        "squared_error": pixels,
        "decoder_fooling": fooling,
        "discriminator_loss": judging,
        "discriminator_accuracy": right,
    }
    return players, measures


def penalty(model: VaeGan, images: Tensor, weight: float) -> Tensor:
    """(N,): half the squared gradient of the verdict at real images (R1, Mescheder et al. 2018), weighted."""
    if not weight or not torch.is_grad_enabled():
        return images.new_zeros(len(images))
    inputs = images.detach().requires_grad_()
    _, verdicts = model.discriminator(inputs)
    (slopes,) = torch.autograd.grad(verdicts.sum(), inputs, create_graph=True)
    return 0.5 * weight * slopes.square().flatten(1).sum(1)
