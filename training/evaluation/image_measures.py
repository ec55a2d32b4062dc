"""Measures of each test image: error, PSNR, SSIM, the evidence lower bound, likelihood, class; their means."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, cast

import torch
from torch import Tensor

from training.config import Config, Loss
from training.data.split import Split
from training.errors import UnavailableError
from training.evaluation import inference
from training.evaluation.inference import PIXEL_AXES, Seen
from training.evaluation.notes import Notes
from training.losses import objectives, terms
from training.losses.importance_sampling import negative_log_likelihood
from training.models.families import Network
from training.random_streams import Draws, Purpose, generator

# The window of 11x11 reaches so far beyond a pixel, into a mirror image of the picture.
_SSIM_BORDER = 5


@dataclass(frozen=True)
class _Batch:
    """Test images, their labels and reconstruction, and what the bound is of: the images or binary draws of them."""

    images: Tensor
    labels: Tensor | None
    draws: Draws
    seen: Seen
    judged: Tensor


_Measure: TypeAlias = Callable[[_Batch], dict[str, Tensor]]
"""Of a batch to values (N,) by name."""


def per_image(model: Network, split: Split, config: Config, notes: Notes) -> dict[str, float]:
    """Means over the images of a split, of what can be had."""
    loaded, source = inference.loaded(split), generator(0, Purpose.TEST)
    measures, sums = _image_measures(model, config), dict[str, Counter[str]]()
    for rows in torch.arange(len(loaded)).split(inference.rows_at_once(split.images.shape[1:])):
        images, labels = loaded.batch(rows)
        draws = Draws.whole_batch(source, len(rows), inference.CPU)
        seen = inference.see(model, images, draws, config.loss)
        judged = objectives.binarised(images, draws) if model.variational and config.loss.binarise else images
        batch = _Batch(images, labels, draws, seen, judged)
        for what, find in list(measures.items()):
            found = notes.attempt(what, partial(find, batch), None)
            if found is None:
                del measures[what]
            else:
                sums.setdefault(what, Counter()).update(
                    {name: float(each.double().sum()) for name, each in found.items()}
                )
    return {name: value / len(loaded) for what in measures for name, value in sums[what].items()}


def _image_measures(model: Network, config: Config) -> dict[str, _Measure]:
    """Functions of a batch to measures (N,) by name, in the order of their draws."""
    measures: dict[str, _Measure] = {"error": _errors, "ssim": _similarity}
    if model.variational:
        measures["bound"] = partial(_bound, model, config.loss)
        if config.evaluation.nll_samples:
            measures["nll"] = partial(_likelihood, model, config)
    if hasattr(model, "classify"):
        measures["accuracy"] = partial(_accuracy, model)
    return measures


def _errors(batch: _Batch) -> dict[str, Tensor]:
    """(N,) each. PSNR: per image, then averaged."""
    from torchmetrics.functional.image import peak_signal_noise_ratio as psnr  # noqa: PLC0415 (takes a second to load)

    outputs, targets, pixels = batch.seen.outputs, batch.seen.targets, batch.seen.targets[0].numel()
    entropies: dict[str, Tensor] = {}
    if batch.seen.logits is not None:
        bce = terms.bernoulli_nll(batch.seen.logits, targets) / pixels
        entropies = {"bce_per_pixel": bce, "excess_bce_per_pixel": bce - _entropy(targets) / pixels}
    return entropies | {
        "mse": (outputs - targets).square().mean(PIXEL_AXES),
        "psnr": psnr(outputs, targets, data_range=1.0, dim=PIXEL_AXES, reduction="none"),
    }


def _similarity(batch: _Batch) -> dict[str, Tensor]:
    """SSIM (N,): Gaussian window 11x11, sigma 1.5, borders dropped."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim  # noqa: PLC0415 (likewise)

    height, width = batch.images.shape[2:]
    if min(height, width) <= _SSIM_BORDER:
        raise UnavailableError(f"its window needs images of at least {_SSIM_BORDER + 1} pixels, got {height}x{width}")
    found = ssim(batch.seen.outputs, batch.seen.targets, data_range=1.0, reduction="none")
    return {"ssim": cast("Tensor", found).reshape(len(batch.images))}


def _entropy(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N,): the binary cross-entropy of images against themselves, which no model can beat."""
    return -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images)).flatten(1).sum(1)


@torch.no_grad()
def _bound(model: Network, loss: Loss, batch: _Batch) -> dict[str, Tensor]:
    """(N,) each: the negative evidence lower bound in nats and its two parts."""
    # The total correlation is no part of the bound, and its estimate takes memory by the square of a batch.
    plain = loss.judged.model_copy(update={"total_correlation": 1.0})
    given = objectives.Inputs(batch.judged, None, batch.draws, plain, kl_weight=1.0)
    found = objectives.variational(model, given).measures
    figures = {name: found[name] for name in ("reconstruction", "kl")}
    return {**figures, "elbo_loss": figures["reconstruction"] + figures["kl"]}


def _likelihood(model: Network, config: Config, batch: _Batch) -> dict[str, Tensor]:
    """The negative log-likelihood (N,). Grey values have none: it is that of binary images drawn from them."""
    drawn = batch.judged if config.loss.binarise else objectives.binarised(batch.images, batch.draws)
    return {"nll": negative_log_likelihood(model, drawn, batch.draws, config.evaluation.nll_samples)}


@torch.no_grad()
def _accuracy(model: Network, batch: _Batch) -> dict[str, Tensor]:
    """Whether each image is classified as its label (N,); nothing without labels."""
    if batch.labels is None:
        return {}
    return {"accuracy": (model.classify(inference.codes(model, batch.images)).argmax(1) == batch.labels).float()}
