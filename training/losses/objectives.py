"""Training objectives: what each family minimises, and what it reports; per image, in nats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from training.config import Loss
from training.losses import terms
from training.losses.importance_sampling import Variational, log_densities
from training.losses.planted import plant
from training.models.posterior import Posterior
from training.models.priors import FlowPrior
from training.random_streams import Draws


@dataclass(frozen=True)
class Outcome:
    """`losses`: what each parameter group minimises, (N,); `measures`: what is logged and averaged, (N,) each."""

    losses: Mapping[str, Tensor]
    measures: Mapping[str, Tensor]


@dataclass(frozen=True)
class Inputs:
    """What an objective is computed from: images (N, C, H, W) in 0 to 1, labels (N,), random numbers, settings."""

    images: Tensor
    labels: Tensor | None
    draws: Draws
    settings: Loss
    kl_weight: float
    noisy: Tensor | None = None
    """Where data are pairs: what a denoiser is given, (N, C, H, W)."""


class Objective(Protocol):
    """A network that states what it minimises."""

    image_shape: tuple[int, int, int]

    def objective(self, given: Inputs, /) -> Outcome:
        """Losses and measures."""
        ...


class Denoising(Protocol):
    """A denoiser."""

    output: Literal["logits", "pixels"]
    clips_noise: bool
    takes_noise_levels: bool

    def denoise(self, images: Tensor, noise_levels: Tensor = ..., /) -> Tensor:
        """(N, C, H, W), and (N,) where it takes noise levels, to logits or pixels (N, C, H, W)."""
        ...


class VariationalClassifier(Variational, Protocol):
    """A variational autoencoder that reads classes off its latents."""

    def classify(self, latents: Tensor, /) -> Tensor:
        """(N, D) to class logits (N, K)."""
        ...


def evaluate(
    model: Objective, images: Tensor, labels: Tensor | None, draws: Draws, settings: Loss, kl_weight: float
) -> Outcome:
    """Images (N, C, H, W) in 0 to 1, or pairs (N, 2C, H, W), labels (N,) to the objective of the model's family."""
    images, noisy = apart(images, model.image_shape[2])
    if settings.binarise:
        images = binarised(images, draws)
    return model.objective(Inputs(images, labels, draws, settings, kl_weight, noisy))


def apart(images: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """(N, C, H, W) as they are; pairs (N, 2C, H, W) to the clean and the noisy images."""
    if images.shape[1] == channels:
        return images, None
    clean, noisy = images.chunk(2, 1)
    return clean, noisy


def reconstruction(outputs: Tensor, given: Inputs, output: str = "logits") -> Outcome:
    """Outputs (N, C, H, W), logits or pixels: reconstruction loss alone."""
    return _single(terms.nll(given.settings, outputs, given.images, output), {})


def denoising(model: Denoising, given: Inputs) -> Outcome:
    """Clean images from noisy ones, with fresh noise at every visit (Vincent et al. 2008)."""
    inputs = noisy(model, given.images, given.draws, given.settings) if given.noisy is None else (given.noisy,)
    return reconstruction(model.denoise(*inputs), given, model.output)


def segmentation(model: Callable[[Tensor], Tensor], given: Inputs) -> Outcome:
    """Binary cross-entropy, summed over pixels, of the masks of defects that are planted afresh at every visit."""
    planted = plant(given.images, given.draws)
    return _single(terms.bernoulli_nll(model(planted.images), planted.masks), {})


def variational(model: Variational, given: Inputs) -> Outcome:
    """The negative evidence lower bound (ELBO) with one sample (Kingma & Welling 2013, equation 10)."""
    posterior = model.encode(with_input_noise(given.images, given.draws, given.settings.encoder_noise))
    return _elbo(model, posterior, given)


def multitask(model: VariationalClassifier, given: Inputs, labels: Tensor) -> Outcome:
    """The negative bound, plus the weighted cross-entropy of the classes read off a sample of the posterior.

    The sampling noise keeps the classifier from memorising training images (Alemi et al. 2017), and noise on its
    images does more of that; the bound is of the images as they are. The classes are read off both kinds of images:
    an encoder can recognise noise and put clean images elsewhere, where the classifier would not know them.
    Where the classifier is used, it reads the posterior mean, and so does the accuracy here.
    """
    settings, draws = given.settings, given.draws
    posterior = model.encode(given.images)
    bound = _elbo(model, posterior, given).measures
    posteriors = [posterior]
    if settings.classifier_noise:
        posteriors.append(model.encode(with_input_noise(given.images, draws, settings.classifier_noise)))
    logits = [model.classify(each.sample(draws.normal((each.means.shape[1],)))) for each in posteriors]
    classification = torch.stack([functional.cross_entropy(each, labels, reduction="none") for each in logits]).mean(0)
    accuracy = (model.classify(posterior.means).argmax(1) == labels).float()
    total = bound["loss"] + settings.classification * classification
    return _single(total, {**bound, "classification": classification, "accuracy": accuracy, "loss": total})


def importance_weighted(model: Variational, given: Inputs) -> Outcome:
    """Minus the bound of K samples (Burda et al. 2015, equation 8); reported with the mean of their log-weights.

    Its doubly reparameterised gradient (Tucker et al. 2019, equation 8) is that of another sum: where the encoder is
    concerned, samples count by the squares of their weights, and only through the latents.
    """
    settings, posterior = given.settings, model.encode(given.images)
    normals = given.draws.normal((settings.importance_samples, *posterior.means.shape[1:]))
    latents = posterior.sample(normals)
    doubly = settings.doubly_reparameterised and latents.requires_grad
    density_of = Posterior(*(each.detach() for each in posterior)) if doubly else posterior
    likelihood, prior, density = log_densities(model, given.images, latents, density_of, settings)
    divergence = density - prior
    log_weights = likelihood - given.kl_weight * divergence
    total = -terms.log_mean_exp(log_weights.T)
    found = _single(total, {"reconstruction": -likelihood.mean(1), "kl": divergence.mean(1)})
    if not doubly:
        return found
    shares = log_weights.detach().softmax(1)
    of_latents = shares.reshape(*shares.shape, *[1] * (latents.ndim - shares.ndim))
    latents.register_hook(of_latents.mul)
    return Outcome({"model": -(shares * log_weights).sum(1)}, found.measures)


def with_input_noise(images: Tensor, draws: Draws, sigma: float) -> Tensor:
    """Images (N, C, H, W) plus N(0, sigma^2), not clipped, so that their mean stays the clean image."""
    return images + sigma * draws.normal(tuple(images.shape[1:])) if sigma else images


def noisy(model: Denoising, images: Tensor, draws: Draws, settings: Loss) -> tuple[Tensor, ...]:
    """What a denoiser is given: images (N, C, H, W) plus noise and, where it takes them, the noise levels (N,).

    Noise is clipped to 0 to 1 for networks that were made for that: it moves the mean of dark and light pixels.
    """
    low = settings.noise_low
    levels = None if low is None else low + (settings.noise - low) * draws.uniform(())
    noise = draws.normal(tuple(images.shape[1:]))
    seen = images + (settings.noise * noise if levels is None else levels.view(-1, 1, 1, 1) * noise)
    seen = seen.clamp(0, 1) if model.clips_noise else seen
    if not model.takes_noise_levels:
        return (seen,)
    return seen, images.new_full((len(images),), settings.noise) if levels is None else levels


def binarised(images: Tensor, draws: Draws) -> Tensor:
    """Images (N, C, H, W) in 0 to 1 to 0 or 1: each pixel a Bernoulli variable (Salakhutdinov & Murray 2008)."""
    return (draws.uniform(tuple(images.shape[1:])) < images).float()


def _elbo(model: Variational, posterior: Posterior, given: Inputs) -> Outcome:
    normals = given.draws.normal(tuple(posterior.means.shape[1:]))
    kl = model.prior.divergence(posterior, normals)
    latents = posterior.sample(normals)
    reconstruction_loss = terms.nll(given.settings, model.decode(latents), given.images, model.output)
    divergence = kl.flatten(1).sum(1)
    # An estimate from one sample may be below 0: bounded there, it would be biased.
    learned = isinstance(model.prior, FlowPrior)
    minimised = divergence if learned else terms.with_free_bits(kl, given.settings.free_bits)
    measures = {"reconstruction": reconstruction_loss, "kl": divergence}
    if given.settings.total_correlation != 1:
        correlation = terms.total_correlation(*(each.flatten(1) for each in (latents, *posterior)))
        minimised = minimised + (given.settings.total_correlation - 1) * correlation
        measures["total_correlation"] = correlation
    return _single(reconstruction_loss + given.kl_weight * minimised, measures)


def _single(total: Tensor, measures: Mapping[str, Tensor]) -> Outcome:
    return Outcome({"model": total}, {"loss": total, **measures})
