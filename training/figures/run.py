"""Figures of a run, as PNG: reconstructions, samples, latent space, loss curves."""

import hashlib
import json
import logging
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training.checkpoint import Checkpoint
from training.config import Config
from training.data.dataset import Dataset
from training.evaluation import inference
from training.evaluation.inference import spread
from training.evaluation.notes import Notes
from training.figures import detection, latents
from training.figures.style import INK, STYLE, WARM, save, show, strip
from training.models.priors import FlowPrior
from training.random_streams import Draws, Purpose, generator

_log = logging.getLogger(__name__)
_COLUMNS = 12
_SAMPLE_ROWS = 6
_PLANE = 2
# In bytes, on any file system in use; without ".png".
_LONGEST_NAME = 255 - 4


def draw(workdir: Path, config: Config, dataset: Dataset, trained: Checkpoint, notes: Notes) -> None:
    """Every picture of the model's family that can be had, into the run's folder; `notes` name the others."""
    _log.info("  pictures")
    with mpl.rc_context(STYLE):
        for name, make in _figures(workdir, config, dataset, trained).items():
            path = workdir / f"{name}.png"
            path.unlink(missing_ok=True)
            notes.attempt(path.name, partial(_save, make, path), None)


def _save(make: Callable[[], Figure], path: Path) -> None:
    save(make(), path)


def _figures(workdir: Path, config: Config, dataset: Dataset, trained: Checkpoint) -> dict[str, Callable[[], Figure]]:
    """What makes each picture, by its name."""
    name, model = config.name, trained.model
    figures: dict[str, Callable[[], Figure]] = {
        "losses": lambda: _loss_curves(workdir, name),
    }
    if inference.draws_images(model):
        figures["reconstructions"] = lambda: _reconstructions(config, dataset, trained)
    if trained.held_out_scores is not None and dataset.inspection and dataset.inspection.test is not None:
        figures["defects"] = lambda: detection.found_defects(name, dataset, trained)
    if model.latent_shape and (model.sampling == "normal" or not model.is_free):
        figures["samples"] = lambda: _samples(config, dataset, trained)
    if model.latent_shape:
        figures["interpolations"] = lambda: latents.interpolations(name, dataset, trained)
    if prod(model.latent_shape[-1:] if model.is_free else model.latent_shape) >= _PLANE:
        figures["latents"] = lambda: latents.scatter(name, dataset, trained)
    if model.latent_size == _PLANE:
        figures["plane"] = lambda: latents.plane(name, dataset, model)
    # A learned prior has a divergence of the whole code alone.
    if model.variational and not isinstance(model.prior, FlowPrior):
        figures["kl"] = lambda: latents.divergences(name, dataset, model)
        if model.latent_size > _PLANE:
            figures["traversals"] = lambda: latents.traversals(name, dataset, model)
    return figures


def draw_sweeps(workdir: Path, config: Config, dataset: Dataset, trained: Checkpoint) -> None:
    """A picture for each attribute, `attribute-NAME.png`; a name that no file can have is cut."""
    if trained.latents is None:
        return
    with mpl.rc_context(STYLE):
        for place, name in enumerate(trained.latents.attribute_names):
            picture = latents.sweep(f"{config.name}: {name}", dataset, trained, place)
            save(picture, workdir / f"{_fitting(f'attribute-{name}')}.png")


def _fitting(name: str) -> str:
    """A name that a file can have: a long one is cut, with a hash of it so that distinct ones stay distinct."""
    whole = name.encode(errors="surrogateescape")
    if len(whole) <= _LONGEST_NAME:
        return name
    mark = "-" + hashlib.sha256(whole).hexdigest()[:16]
    return whole[: _LONGEST_NAME - len(mark)].decode(errors="ignore") + mark


def _reconstructions(config: Config, dataset: Dataset, trained: Checkpoint) -> Figure:
    """Test images above what the model makes of them, with the noisy input between for a denoiser."""
    images = next(inference.batches(dataset.test.take(spread(dataset.test, _COLUMNS))))
    draws = Draws.whole_batch(generator(0, Purpose.TEST), len(images), images.device)
    seen = inference.see(trained.model, images, draws, config.loss)
    rows = {"input": seen.targets, "reconstruction": seen.outputs}
    if hasattr(trained.model, "denoise"):
        levels = " to ".join(f"{level:g}" for level in sorted(set(config.loss.noise_range)))
        rows = {"clean": seen.targets, f"noise {levels}": seen.inputs.clamp(0, 1), "denoised": seen.outputs}
    figure = Figure(figsize=(_COLUMNS * 0.85 + 1.4, len(rows) * 0.95 + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 1)
    for axis, (label, pictures) in zip(axes, rows.items(), strict=True):
        show(axis, strip(pictures.numpy()))
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
    figure.suptitle(f"{config.name}: test images of {dataset.name}")
    return figure


def _samples(config: Config, dataset: Dataset, trained: Checkpoint) -> Figure:
    """Images decoded from draws of the prior, or of the mixture fitted to the codes of a plain autoencoder."""
    shape = inference.code_shape(trained.model, dataset.test)
    drawn = inference.sample(trained.model, trained.latents, shape, 0, _COLUMNS * _SAMPLE_ROWS)
    pictures = inference.decode(trained.model, drawn).numpy()
    figure = Figure(figsize=(_COLUMNS * 0.85, _SAMPLE_ROWS * 0.85 + 0.5), layout="constrained")
    show(figure.subplots(), np.concatenate([strip(row) for row in np.split(pictures, _SAMPLE_ROWS)]))
    name = "N(0, I)" if trained.model.sampling == "normal" else "the mixture fitted to the training codes"
    if isinstance(getattr(trained.model, "prior", None), FlowPrior):
        name = "the learned prior"
    figure.suptitle(f"{config.name}: samples from {name}")
    return figure


def _loss_curves(workdir: Path, name: str) -> Figure:
    """Training and validation loss by epoch, in nats per image."""
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for split, colour, style in (("train", INK, "-"), ("validation", WARM, "--")):
        axis.plot(epochs, [record[split]["loss"] for record in records], style, color=colour, label=split)
    axis.set(xlabel="epoch", ylabel="loss, nats per image", title=name)
    axis.legend(frameon=False)
    axis.grid(alpha=0.25)
    return figure
