"""The three losses of a VAE/GAN (Larsen et al. 2016, algorithm 1)."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

from training.config import Loss
from training.losses.importance_sampling import Variational
from training.models.layers import Discriminator
from training.random_streams import Draws


class AdversarialModel(Variational, Protocol):
    """A variational autoencoder with a discriminator."""

    discriminator: Discriminator


def losses(
    model: AdversarialModel, images: Tensor, draws: Draws, settings: Loss, kl_weight: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Images (N, C, H, W) to the losses of encoder, decoder and discriminator, and measures, (N,) each.

    The encoder minimises the KL divergence and the distance of features; its loss has no adversarial term. The decoder
    minimises the distance of features and the non-saturating adversarial loss (Goodfellow et al. 2014, section 3).
    The discriminator's features only measure: no loss moves them to shorten the distance, because each loss updates
    the parameters of its own part alone.
    """
    posterior = model.encode(images)
    kl = posterior.kl().sum(1)
    normals = draws.normal((2, posterior.means.shape[1]))
    reconstructions = model.decode(posterior.sample(normals[:, 0])).sigmoid()
    generated = model.decode(normals[:, 1]).sigmoid()
    targets, real_logits = model.discriminator(images)
    features, reconstructed_logits = model.discriminator(reconstructions)
    _, generated_logits = model.discriminator(generated)
    distance = 0.5 * (features - targets.detach()).square().sum(1)
    adversarial = softplus(-reconstructed_logits) + softplus(-generated_logits)
    discrimination = softplus(-real_logits) + softplus(reconstructed_logits) + softplus(generated_logits)
    minimised = {
        "encoder": kl_weight * kl + distance,
        "decoder": distance + settings.adversarial * adversarial,
        "discriminator": discrimination + _gradient_penalty(model, images, settings.gradient_penalty),
    }
    accuracy = ((real_logits > 0).float() + (reconstructed_logits < 0).float() + (generated_logits < 0).float()) / 3
    pixels = 0.5 * (reconstructions - images).square().flatten(1).sum(1)
    measures = {
        "loss": kl_weight * kl + distance,
        "kl": kl,
        "feature_distance": distance,
        "squared_error": pixels,
        "decoder_fooling": adversarial,
        "discriminator_loss": discrimination,
        "discriminator_accuracy": accuracy,
    }
    return minimised, measures


def _gradient_penalty(model: AdversarialModel, images: Tensor, weight: float) -> Tensor:
    """(N,): half the squared gradient of the logit at real images, weighted (R1, Mescheder et al. 2018)."""
    if not weight or not torch.is_grad_enabled():
        return images.new_zeros(len(images))
    inputs = images.detach().requires_grad_()
    _, logits = model.discriminator(inputs)
    (slopes,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return 0.5 * weight * slopes.square().flatten(1).sum(1)
