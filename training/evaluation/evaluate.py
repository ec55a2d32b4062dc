"""The figures of a trained model on the test split, from streams of noise of their own: measured again, the same."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from bundle.latents import LatentStatistics, prior
from training.config import Config, Loss
from training.data.batches import Feed
from training.data.dataset import Dataset
from training.data.split import Split
from training.evaluation import classifier as judging
from training.evaluation import probes
from training.losses import objectives, terms
from training.losses.importance_sampling import negative_log_likelihood
from training.models.autoencoders import Denoiser, MultitaskVae, Network, VariationalAutoencoder
from training.random_streams import Noise, Purpose, generator, whole

BATCH = 1_000
PIXEL_AXES = (1, 2, 3)
CPU = torch.device("cpu")
# That of the denoiser of keras.io, whose figure is published: 0.0837 nats per pixel.
PUBLISHED_NOISE = 0.4


@dataclass(frozen=True)
class Seen:
    """What a model makes of a batch: targets, inputs and outputs (N, C, H, W) in 0 to 1, logits of the outputs."""

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
    if isinstance(model, Denoiser):
        other = config.model_copy(update={"loss": config.loss.model_copy(update={"noise": PUBLISHED_NOISE})})
        found = per_image(model, dataset.test, other)
        figures |= {f"{name}_at_noise_{PUBLISHED_NOISE:g}": found[name] for name in ("bce_per_pixel", "psnr")}
    if latents is None:
        return figures
    figures |= probes.probes(all_codes(model, dataset.train), all_codes(model, dataset.test), dataset)
    if isinstance(model, VariationalAutoencoder):
        figures |= posterior_figures(model, dataset.test)
    return figures | sample_figures(model, dataset, latents)


def per_image(model: Network, split: Split, config: Config) -> dict[str, float]:
    """Means over the images of a split."""
    feed = feed_of(split)
    sums: Counter[str] = Counter()
    source = generator(0, Purpose.TEST)
    for rows in torch.arange(len(feed)).split(BATCH):
        images, labels = feed.batch(rows)
        draws = whole(source, len(rows), CPU)
        figures = image_figures(see(model, images, draws, config.loss))
        if isinstance(model, VariationalAutoencoder):
            figures |= bound_figures(model, images, draws, config)
        if isinstance(model, MultitaskVae) and labels is not None:
            figures["accuracy"] = (model.classify(codes(model, images)).argmax(1) == labels).float()
        sums.update({name: float(values.double().sum()) for name, values in figures.items()})
    return {name: value / len(feed) for name, value in sums.items()}


@torch.no_grad()
def see(model: Network, images: Tensor, draws: Noise, loss: Loss) -> Seen:
    """Images (N, C, H, W) through the model, by the posterior mean where there is a posterior."""
    if isinstance(model, Denoiser):
        inputs = objectives.noisy(images, draws, loss.noise)
        return Seen(images, inputs, model.denoise(inputs))
    return Seen(images, images, model.decode(codes(model, images)))


@torch.no_grad()
def codes(model: Network, images: Tensor) -> Tensor:
    """(N, C, H, W) to (N, D): the code, or the mean of its posterior."""
    encoded = model.encode(images)
    return encoded[0] if isinstance(encoded, tuple) else encoded


def image_figures(seen: Seen) -> dict[str, Tensor]:
    """(N,) each. SSIM: Gaussian window 11x11, sigma 1.5, borders dropped; PSNR: per image, then averaged."""
    outputs, pixels = seen.outputs, seen.targets[0].numel()
    bce = terms.bernoulli_nll(seen.logits, seen.targets) / pixels
    return {
        "bce_per_pixel": bce,
        "excess_bce_per_pixel": bce - entropy(seen.targets) / pixels,
        "mse": (outputs - seen.targets).square().mean(PIXEL_AXES),
        "psnr": peak_signal_noise_ratio(outputs, seen.targets, data_range=1.0, dim=PIXEL_AXES, reduction="none"),
        "ssim": structural_similarity_index_measure(outputs, seen.targets, data_range=1.0, reduction="none"),
    }


def entropy(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N,): the binary cross-entropy of images against themselves, which no model can beat."""
    return -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images)).flatten(1).sum(1)


@torch.no_grad()
def bound_figures(model: VariationalAutoencoder, images: Tensor, draws: Noise, config: Config) -> dict[str, Tensor]:
    """(N,) each: the negative evidence lower bound in nats and its two parts; the NLL where it is asked for."""
    if config.loss.binarise:
        images = objectives.binarised(images, draws)
    found = objectives.variational(model, images, draws, config.loss.judged, kl_weight=1.0).measures
    figures = {name: found[name] for name in ("reconstruction", "kl")}
    figures["elbo_loss"] = figures["reconstruction"] + figures["kl"]
    if config.evaluation.nll_samples:
        # Grey values have no likelihood: what is measured then is that of black and white drawn from them.
        drawn = images if config.loss.binarise else objectives.binarised(images, draws)
        figures["nll"] = negative_log_likelihood(model, drawn, draws, config.evaluation.nll_samples)
    return figures


@torch.no_grad()
def posterior_figures(model: VariationalAutoencoder, split: Split) -> dict[str, float]:
    """Units in use, and how far the aggregated posterior is from N(0, I)."""
    posteriors = [model.encode(images) for images in batches(split)]
    means, log_variances = (torch.cat(each) for each in zip(*posteriors, strict=True))
    draws = objectives.sampled(means, log_variances, whole(generator(1, Purpose.TEST), len(means), CPU))
    return {
        "active_units": float(probes.active_units(means.numpy())),
        "prior_distance": probes.sliced_wasserstein(draws.numpy()),
    }


def sample_figures(model: Network, dataset: Dataset, latents: LatentStatistics) -> dict[str, float]:
    """Frechet distance of as many samples as test images, with that of the training images as the zero level.

    Empty where no judge was trained on these data.
    """
    judge = judging.find(dataset)
    if judge is None:
        return {}
    real = judging.features(judge, list(batches(dataset.test)))
    ours = judging.features(judge, list(decoded(model, latents, len(dataset.test))))
    train = judging.features(judge, list(batches(dataset.train.take(slice(len(dataset.test))))))
    return {
        "frechet_distance": judging.frechet_distance(ours, real),
        "frechet_distance_of_training_images": judging.frechet_distance(train, real),
    }


@torch.no_grad()
def decoded(model: Network, latents: LatentStatistics, count: int) -> Iterator[Tensor]:
    """Samples in batches (N, C, H, W): those that a server would draw for seed 0."""
    for first in range(0, count, BATCH):
        drawn = latents.sample(0, first, min(BATCH, count - first), 1.0, prior(model.family))
        yield model.decode(torch.from_numpy(drawn)).sigmoid()


def all_codes(model: Network, split: Split) -> np.ndarray:
    """Every code of a split, float32 (N, D)."""
    found = np.empty((len(split), model.latent_size), np.float32)
    for first, images in zip(range(0, len(split), BATCH), batches(split), strict=True):
        found[first : first + BATCH] = codes(model, images).numpy()
    return found


@torch.no_grad()
def squared_errors(model: Network, split: Split) -> np.ndarray:
    """Squared error per pixel of every reconstruction of a split, (N,)."""
    outputs = ((model.decode(codes(model, images)).sigmoid(), images) for images in batches(split))
    return np.concatenate([(output - images).square().mean(PIXEL_AXES).numpy() for output, images in outputs])


def batches(split: Split) -> Iterator[Tensor]:
    """Images (N, C, H, W) of a split, in order."""
    feed = feed_of(split)
    for rows in torch.arange(len(feed)).split(BATCH):
        yield feed.batch(rows)[0]


def feed_of(split: Split) -> Feed:
    """A split on the CPU, where every figure is taken."""
    return Feed(split, CPU, torch.contiguous_format)
