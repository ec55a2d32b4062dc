"""What each family minimises, and what it reports: per image, in nats."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.config import Loss
from training.losses import terms as losses
from training.losses import vae_gan
from training.models.autoencoders import Autoencoder, Denoiser, MultitaskVae, Network, VaeGan, VariationalAutoencoder
from training.random_streams import Noise


@dataclass(frozen=True)
class Outcome:
    """`losses`: what each player minimises, (N,); `measures`: what is logged and averaged, (N,) each."""

    losses: Mapping[str, Tensor]
    measures: Mapping[str, Tensor]


def evaluate(
    model: Network, images: Tensor, labels: Tensor | None, noise: Noise, loss: Loss, kl_weight: float
) -> Outcome:
    """Images (N, C, H, W) in 0 to 1, labels (N,) to the losses of the model's family."""
    if loss.binarise:
        images = binarised(images, noise)
    if isinstance(model, Denoiser):
        return denoising(model, images, noise, loss)
    if isinstance(model, VaeGan):
        return Outcome(*vae_gan.three_players(model, images, noise, loss, kl_weight))
    if isinstance(model, MultitaskVae) and labels is not None:
        return multitask(model, images, labels, noise, loss, kl_weight)
    if isinstance(model, VariationalAutoencoder):
        bound = importance_weighted if loss.importance_samples > 1 else variational
        return bound(model, images, noise, loss, kl_weight)
    return plain(model, images, loss)


def plain(model: Autoencoder, images: Tensor, loss: Loss) -> Outcome:
    """Reconstruction alone."""
    return _single(nll(loss, model.decode(model.encode(images)), images), {})


def denoising(model: Denoiser, images: Tensor, noise: Noise, loss: Loss) -> Outcome:
    """Clean images from noisy ones, with fresh noise at every visit (Vincent et al. 2008)."""
    return _single(nll(loss, model.denoise(noisy(images, noise, loss.noise)), images), {})


def variational(model: VariationalAutoencoder, images: Tensor, noise: Noise, loss: Loss, kl_weight: float) -> Outcome:
    """The negative evidence lower bound with one sample (Kingma & Welling 2013, equation 10)."""
    return _elbo(model, *model.encode(blurred(images, noise, loss.encoder_noise)), images, noise, loss, kl_weight)


def multitask(
    model: MultitaskVae, images: Tensor, labels: Tensor, noise: Noise, loss: Loss, kl_weight: float
) -> Outcome:
    """The negative bound, plus the weighted cross-entropy of the classes read off a draw from the posterior.

    The draw is the noise that keeps the classifier from learning training images by heart (Alemi et al. 2017), and
    noise on its images does more of that; the bound is of the images as they are. The classes are read off both kinds
    of images: an encoder can tell noise and put clean ones elsewhere, where the classifier would not know them.
    Where the classifier is used, it reads the posterior mean, and so does the accuracy here.
    """
    means, log_variances = model.encode(images)
    bound = _elbo(model, means, log_variances, images, noise, loss, kl_weight).measures
    seen = [(means, log_variances)]
    if loss.classifier_noise:
        seen.append(model.encode(blurred(images, noise, loss.classifier_noise)))
    logits = [model.classify(sampled(*posterior, noise)) for posterior in seen]
    classification = torch.stack([functional.cross_entropy(each, labels, reduction="none") for each in logits]).mean(0)
    accuracy = (model.classify(means).argmax(1) == labels).float()
    total = bound["loss"] + loss.classification * classification
    return _single(total, {**bound, "classification": classification, "accuracy": accuracy, "loss": total})


def importance_weighted(
    model: VariationalAutoencoder, images: Tensor, noise: Noise, loss: Loss, kl_weight: float
) -> Outcome:
    """Minus the bound of K samples (Burda et al. 2015, equation 8); reported beside the mean of their log-weights."""
    means, log_variances = (each.unsqueeze(1) for each in model.encode(images))
    latents = means + torch.exp(0.5 * log_variances) * noise.normal((loss.importance_samples, means.shape[2]))
    logits = model.decode(latents.flatten(0, 1))
    repeated = images.repeat_interleave(loss.importance_samples, 0)
    likelihood = -nll(loss, logits, repeated).unflatten(0, latents.shape[:2])
    zero = torch.zeros_like(latents)
    divergence = losses.log_normal(latents, means, log_variances) - losses.log_normal(latents, zero, zero)
    total = -losses.log_mean_exp((likelihood - kl_weight * divergence).T)
    return _single(total, {"reconstruction": -likelihood.mean(1), "kl": divergence.mean(1)})


def sampled(means: Tensor, log_variances: Tensor, noise: Noise) -> Tensor:
    """(N, D) twice to (N, D): a draw from the posterior, differentiable in both."""
    return means + torch.exp(0.5 * log_variances) * noise.normal((means.shape[1],))


def blurred(images: Tensor, noise: Noise, sigma: float) -> Tensor:
    """Images (N, C, H, W) plus N(0, sigma^2), not clipped: the mean of what is seen stays the image, which is used."""
    return images + sigma * noise.normal(tuple(images.shape[1:])) if sigma else images


def noisy(images: Tensor, noise: Noise, sigma: float) -> Tensor:
    """Images (N, C, H, W) plus N(0, sigma^2), clipped to 0 to 1."""
    return (images + sigma * noise.normal(tuple(images.shape[1:]))).clamp(0, 1)


def binarised(images: Tensor, noise: Noise) -> Tensor:
    """Images (N, C, H, W) in 0 to 1 to 0 or 1: each pixel a Bernoulli variable (Salakhutdinov & Murray 2008)."""
    return (noise.uniform(tuple(images.shape[1:])) < images).float()


def nll(loss: Loss, logits: Tensor, images: Tensor) -> Tensor:
    """(N,): minus the log-likelihood of the images."""
    if loss.likelihood == "gaussian":
        return losses.gaussian_nll(logits, images, loss.sigma)
    return losses.bernoulli_nll(logits, images)


def _elbo(
    model: VariationalAutoencoder,
    means: Tensor,
    log_variances: Tensor,
    images: Tensor,
    noise: Noise,
    loss: Loss,
    kl_weight: float,
) -> Outcome:
    kl = losses.kl_to_standard_normal(means, log_variances)
    reconstruction = nll(loss, model.decode(sampled(means, log_variances, noise)), images)
    total = reconstruction + kl_weight * losses.with_free_bits(kl, loss.free_bits)
    return _single(total, {"reconstruction": reconstruction, "kl": kl.sum(1)})


def _single(total: Tensor, measures: Mapping[str, Tensor]) -> Outcome:
    return Outcome({"model": total}, {"loss": total, **measures})
