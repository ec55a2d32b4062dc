"""Evaluation of a trained model on the test split, with random streams of its own: repeatable to the last digit."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from bundle.latents import LatentStatistics
from training.config import Config, Loss
from training.data.batches import InMemoryBatches
from training.data.dataset import Dataset
from training.data.split import Split
from training.evaluation import classifier, probes
from training.losses import objectives, terms
from training.losses.importance_sampling import negative_log_likelihood
from training.models.families import Network
from training.models.posterior import Posterior
from training.random_streams import Draws, Purpose, generator

_BATCH = 1_000
_PIXEL_AXES = (1, 2, 3)
_CPU = torch.device("cpu")
# The noise of the denoiser of keras.io, whose published figure is 0.0837 nats per pixel.
_PUBLISHED_NOISE = 0.4


@dataclass(frozen=True)
class Seen:
    """A batch and its reconstruction: targets, inputs and outputs (N, C, H, W) in 0 to 1, logits of the outputs."""

    targets: Tensor
    inputs: Tensor
    logits: Tensor

    @property
    def outputs(self) -> Tensor:
        """(N, C, H, W) in 0 to 1."""
        return self.logits.sigmoid()


def measure(model: Network, dataset: Dataset, config: Config, latents: LatentStatistics | None) -> dict[str, float]:
    """Every figure of the model's family on the test split."""
    figures = per_image(model, dataset.test, config)
    if hasattr(model, "denoise"):
        other = config.model_copy(update={"loss": config.loss.model_copy(update={"noise": _PUBLISHED_NOISE})})
        found = per_image(model, dataset.test, other)
        figures |= {f"{name}_at_noise_{_PUBLISHED_NOISE:g}": found[name] for name in ("bce_per_pixel", "psnr")}
    if latents is None:
        return figures
    figures |= probes.probes(all_codes(model, dataset.train), all_codes(model, dataset.test), dataset)
    if model.variational:
        figures |= _posterior_figures(model, dataset.test)
    return figures | _sample_figures(model, dataset, latents)


def per_image(model: Network, split: Split, config: Config) -> dict[str, float]:
    """Means over the images of a split."""
    loaded = _loaded(split)
    sums: Counter[str] = Counter()
    source = generator(0, Purpose.TEST)
    for rows in torch.arange(len(loaded)).split(_BATCH):
        images, labels = loaded.batch(rows)
        draws = Draws.whole_batch(source, len(rows), _CPU)
        figures = _image_figures(see(model, images, draws, config.loss))
        if model.variational:
            figures |= _bound_figures(model, images, draws, config)
        if hasattr(model, "classify") and labels is not None:
            figures["accuracy"] = (model.classify(_codes(model, images)).argmax(1) == labels).float()
        sums.update({name: float(values.double().sum()) for name, values in figures.items()})
    return {name: value / len(loaded) for name, value in sums.items()}


@torch.no_grad()
def see(model: Network, images: Tensor, draws: Draws, loss: Loss) -> Seen:
    """Images (N, C, H, W) through the model, by the posterior mean where there is a posterior."""
    if hasattr(model, "denoise"):
        inputs = objectives.noisy(images, draws, loss.noise)
        return Seen(images, inputs, model.denoise(inputs))
    return Seen(images, images, model.decode(_codes(model, images)))


@torch.no_grad()
def _codes(model: Network, images: Tensor) -> Tensor:
    """(N, C, H, W) to (N, D): the code, or the mean of its posterior."""
    encoded: Tensor | Posterior = model.encode(images)
    return encoded.means if isinstance(encoded, Posterior) else encoded


def _image_figures(seen: Seen) -> dict[str, Tensor]:
    """(N,) each. SSIM: Gaussian window 11x11, sigma 1.5, borders dropped; PSNR: per image, then averaged."""
    outputs, pixels = seen.outputs, seen.targets[0].numel()
    bce = terms.bernoulli_nll(seen.logits, seen.targets) / pixels
    similarity = structural_similarity_index_measure(outputs, seen.targets, data_range=1.0, reduction="none")
    return {
        "bce_per_pixel": bce,
        "excess_bce_per_pixel": bce - _entropy(seen.targets) / pixels,
        "mse": (outputs - seen.targets).square().mean(_PIXEL_AXES),
        "psnr": peak_signal_noise_ratio(outputs, seen.targets, data_range=1.0, dim=_PIXEL_AXES, reduction="none"),
        "ssim": cast("Tensor", similarity),
    }


def _entropy(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N,): the binary cross-entropy of images against themselves, which no model can beat."""
    return -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images)).flatten(1).sum(1)


@torch.no_grad()
def _bound_figures(model: Network, images: Tensor, draws: Draws, config: Config) -> dict[str, Tensor]:
    """(N,) each: the negative evidence lower bound in nats and its two parts; the NLL if requested."""
    if config.loss.binarise:
        images = objectives.binarised(images, draws)
    given = objectives.Inputs(images, None, draws, config.loss.judged, kl_weight=1.0)
    found = objectives.variational(model, given).measures
    figures = {name: found[name] for name in ("reconstruction", "kl")}
    figures["elbo_loss"] = figures["reconstruction"] + figures["kl"]
    if config.evaluation.nll_samples:
        # Grey values have no Bernoulli likelihood: measure that of binary images drawn from them.
        drawn = images if config.loss.binarise else objectives.binarised(images, draws)
        figures["nll"] = negative_log_likelihood(model, drawn, draws, config.evaluation.nll_samples)
    return figures


@torch.no_grad()
def _posterior_figures(model: Network, split: Split) -> dict[str, float]:
    """Active units, and how far the aggregated posterior is from N(0, I)."""
    posteriors = [model.encode(images) for images in batches(split)]
    posterior = Posterior(*(torch.cat(each) for each in zip(*posteriors, strict=True)))
    means = posterior.means
    draws = Draws.whole_batch(generator(1, Purpose.TEST), len(means), _CPU)
    latents = posterior.sample(draws.normal((means.shape[1],)))
    return {
        "active_units": float(probes.active_units(means.numpy())),
        "prior_distance": probes.sliced_wasserstein(latents.numpy()),
    }


def _sample_figures(model: Network, dataset: Dataset, latents: LatentStatistics) -> dict[str, float]:
    """Fréchet distance of as many samples as test images, with that of the training images as the zero level.

    Empty where no classifier was trained on these data.
    """
    network = classifier.find(dataset)
    if network is None:
        return {}
    real = classifier.features(network, list(batches(dataset.test)))
    ours = classifier.features(network, list(_decoded(model, latents, len(dataset.test))))
    train = classifier.features(network, list(batches(dataset.train.take(slice(len(dataset.test))))))
    return {
        "frechet_distance": classifier.frechet_distance(ours, real),
        "frechet_distance_of_training_images": classifier.frechet_distance(train, real),
    }


@torch.no_grad()
def _decoded(model: Network, latents: LatentStatistics, count: int) -> Iterator[Tensor]:
    """Samples in batches (N, C, H, W): those that a server would draw for seed 0."""
    for first in range(0, count, _BATCH):
        drawn = latents.sample(0, first, min(_BATCH, count - first), 1.0, model.prior)
        yield model.decode(torch.from_numpy(drawn)).sigmoid()


def all_codes(model: Network, split: Split) -> np.ndarray:
    """Every code of a split, float32 (N, D)."""
    found = np.empty((len(split), model.latent_size), np.float32)
    for first, images in zip(range(0, len(split), _BATCH), batches(split), strict=True):
        found[first : first + _BATCH] = _codes(model, images).numpy()
    return found


@torch.no_grad()
def squared_errors(model: Network, split: Split) -> np.ndarray:
    """Squared error per pixel of every reconstruction of a split, (N,)."""
    outputs = ((model.decode(_codes(model, images)).sigmoid(), images) for images in batches(split))
    return np.concatenate([(output - images).square().mean(_PIXEL_AXES).numpy() for output, images in outputs])


def batches(split: Split) -> Iterator[Tensor]:
    """Images (N, C, H, W) of a split, in order."""
    loaded = _loaded(split)
    for rows in torch.arange(len(loaded)).split(_BATCH):
        yield loaded.batch(rows)[0]


def _loaded(split: Split) -> InMemoryBatches:
    """A split on the CPU, where everything is evaluated."""
    return InMemoryBatches(split, _CPU, torch.contiguous_format)
