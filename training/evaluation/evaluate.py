"""Evaluation of a trained model on the test split, with random streams of its own: repeatable to the last digit."""

import logging
from collections.abc import Callable, Iterator, Mapping
from math import inf, isfinite, prod

import torch
from torch import Tensor

from bundle.detection import HeldOutScores
from bundle.latents import LatentStatistics
from training.config import Config, Loss
from training.data.dataset import Dataset
from training.data.split import Split
from training.errors import UnavailableError
from training.evaluation import classifier, detection, image_measures, inference, principal_components, probes
from training.evaluation.factors import disentanglement
from training.evaluation.notes import Notes
from training.models.families import Network
from training.models.posterior import Posterior
from training.models.priors import FlowPrior
from training.random_streams import Draws, Purpose, generator

_log = logging.getLogger(__name__)
# The denoiser of keras.io, whose published figure is 0.0837 nats per pixel at noise 0.4, is compared with models that
# were trained on 0.5, as the recipe is.
_PUBLISHED_NOISE, _COMPARED_NOISE, _COMPARED_ON = 0.4, 0.5, ("mnist", "digits")
# Channel vectors of spatial codes that are projected: more take minutes and say the same.
_PROJECTED = 20_000
# The KL divergence of a code that says something about an image, and the least share of its latents that must.
_COLLAPSED_NATS, _COLLAPSED_SHARE = 0.5, 0.05


def measure(
    model: Network,
    dataset: Dataset,
    config: Config,
    latents: LatentStatistics | None,
    notes: Notes,
    held_out: HeldOutScores | None = None,
) -> dict[str, float]:
    """Every figure of the model's family on the test split, but for those that cannot be had; `notes` say why."""
    measures: dict[str, Callable[[], dict[str, float]]] = {}
    if held_out is not None:
        measures["figures of detection"] = lambda: detection.measure(model, dataset, held_out, notes)
    if inference.draws_images(model):
        measures["test figures"] = lambda: image_measures.per_image(model, dataset.test, config, notes)
    if hasattr(model, "denoise") and config.loss.noise == _COMPARED_NOISE and dataset.name in _COMPARED_ON:
        measures["published noise"] = lambda: _at_published_noise(model, dataset.test, config, notes)
    if 0 < model.latent_size <= probes.WIDEST_PROBED:
        measures["linear_accuracy, knn_accuracy"] = lambda: probes.probes(
            inference.all_codes(model, dataset.train), inference.all_codes(model, dataset.test), dataset, notes
        )
    measures |= _measures_of_posteriors(model, dataset, config, notes)
    if model.latent_shape:
        measures["frechet_distance"] = lambda: _sample_figures(model, dataset, latents)
    if model.latent_shape and model.output == "pixels":
        measures["pca_psnr"] = lambda: principal_components.figures(
            dataset, prod(inference.code_shape(model, dataset.test)), notes
        )
    figures: dict[str, float] = {}
    for what, find in measures.items():
        _log.info("  %s", what)
        figures |= notes.attempt(what, find, {})
    numbers = prod(inference.code_shape(model, dataset.test)) if model.variational else 0
    if model.variational and (collapse := _collapse(model, numbers, figures, config.loss)):
        notes.add(collapse)
    return _finite(figures, notes)


def _measures_of_posteriors(
    model: Network, dataset: Dataset, config: Config, notes: Notes
) -> dict[str, Callable[[], dict[str, float]]]:
    """Those of variational models alone."""
    if not model.variational:
        if config.evaluation.disentanglement:
            # Of a family that is refused; of a network of the user's own only its answers say what it is.
            notes.add("mutual information gap: left out, because the model is not variational")
        return {}
    found = {"active_units, prior_distance": lambda: _posterior_figures(model, dataset.test)}
    if config.evaluation.disentanglement:
        found["mutual information gap"] = lambda: disentanglement.figures(model, dataset.test)
    return found


def _finite(figures: Mapping[str, float], notes: Notes) -> dict[str, float]:
    """The figures that are numbers; a note for each other one."""
    for name, value in figures.items():
        if not isfinite(value):
            notes.add(f"{name}: left out, because it is {value}")
    return {name: value for name, value in figures.items() if isfinite(value)}


def _collapse(model: Network, numbers: int, figures: Mapping[str, float], loss: Loss) -> str | None:
    """Posterior collapse (Bowman et al. 2016): a sentence where a code says next to nothing about the image."""
    kl, active = figures.get("kl", inf), figures.get("active_units", inf)
    if kl >= _COLLAPSED_NATS and active >= _COLLAPSED_SHARE * numbers:
        return None
    cures = {"beta": f"lower loss.beta (now {loss.beta:g})", "warm_up_epochs": "raise loss.warm_up_epochs"}
    known = [text for name, text in cures.items() if name in model.loss_settings]
    found = [f"{active:g} of {numbers} latents active"] if isfinite(active) else []
    found += [f"KL divergence {kl:.2g} nats per image"] if isfinite(kl) else []
    advice = ", ".join([*known, "or train for longer"])
    return f"posterior collapse ({', '.join(found)}): the decoder all but ignores the code; {advice}"


def _at_published_noise(model: Network, split: Split, config: Config, notes: Notes) -> dict[str, float]:
    other = config.model_copy(update={"loss": config.loss.model_copy(update={"noise": _PUBLISHED_NOISE})})
    found = image_measures.per_image(model, split, other, notes)
    return {f"{name}_at_noise_{_PUBLISHED_NOISE:g}": found[name] for name in ("bce_per_pixel", "psnr") if name in found}


@torch.no_grad()
def _posterior_figures(model: Network, split: Split) -> dict[str, float]:
    """Active units, and how far the aggregated posterior, or what a learned prior makes of it, is from N(0, I)."""
    split = inference.affordable(model, split)
    _need_spread(split)
    posteriors = [model.encode(images) for images in inference.batches(split)]
    posterior = Posterior(*(torch.cat(each) for each in zip(*posteriors, strict=True)))
    means = posterior.means
    draws = Draws.whole_batch(generator(1, Purpose.TEST), len(means), inference.CPU)
    latents = posterior.sample(draws.normal(tuple(means.shape[1:])))
    spatial = means.ndim > 2  # noqa: PLR2004 ((N, D))
    vectors = latents.movedim(1, -1).flatten(0, -2)[:_PROJECTED] if spatial else latents
    if isinstance(model.prior, FlowPrior):
        vectors, _ = model.prior.noise(vectors)
    return {
        "active_units": float(probes.active_units(means.flatten(1).numpy())),
        "prior_distance": probes.sliced_wasserstein(vectors.numpy()),
    }


def _sample_figures(model: Network, dataset: Dataset, latents: LatentStatistics | None) -> dict[str, float]:
    """Fréchet distance of as many samples as test images, with that of the training images as the zero level.

    Empty where no classifier was trained on these data.
    """
    network = classifier.find(dataset)
    if network is None:
        return {}
    _need_spread(dataset.test)
    real = classifier.features(network, list(inference.batches(dataset.test)))
    ours = classifier.features(network, list(_decoded(model, latents, dataset.test)))
    train = classifier.features(network, list(inference.batches(dataset.train.take(slice(len(dataset.test))))))
    return {
        "frechet_distance": classifier.frechet_distance(ours, real),
        "frechet_distance_of_training_images": classifier.frechet_distance(train, real),
    }


def _need_spread(split: Split) -> None:
    if len(split) < 2:  # noqa: PLR2004 (a spread)
        raise UnavailableError(f"a spread needs at least two test images, got {len(split)}")


def _decoded(model: Network, latents: LatentStatistics | None, test: Split) -> Iterator[Tensor]:
    """As many samples as test images, in batches (N, C, H, W): those that a server would draw for seed 0."""
    at_once, shape = inference.rows_at_once(test.images.shape[1:]), inference.code_shape(model, test)
    for first in range(0, len(test), at_once):
        yield inference.decode(model, inference.sample(model, latents, shape, first, min(at_once, len(test) - first)))
