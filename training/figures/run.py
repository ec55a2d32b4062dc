"""Figures of a run, as PNG: reconstructions, samples, latent space, loss curves."""

import json
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from bundle.latents import LatentStatistics
from training.checkpoint import Checkpoint
from training.config import Config
from training.data.dataset import Dataset
from training.evaluation import evaluate
from training.figures import latents
from training.figures.style import INK, STYLE, WARM, save, show, strip
from training.random_streams import Draws, Purpose, generator

_COLUMNS = 12
_SAMPLE_ROWS = 6
_PLANE = 2


def draw(workdir: Path, config: Config, dataset: Dataset, trained: Checkpoint) -> None:
    """Every picture of the model's family, into the run's folder."""
    with mpl.rc_context(STYLE):
        for name, figure in _figures(workdir, config, dataset, trained):
            save(figure, workdir / f"{name}.png")


def _figures(workdir: Path, config: Config, dataset: Dataset, trained: Checkpoint) -> Iterator[tuple[str, Figure]]:
    """Names and pictures, one after the other."""
    yield "losses", _loss_curves(workdir, config.name)
    yield "reconstructions", _reconstructions(config, dataset, trained)
    if trained.latents is None:
        return
    yield "samples", _samples(config, trained, trained.latents)
    yield "interpolations", latents.interpolations(config.name, dataset, trained)
    if trained.model.latent_size >= _PLANE:
        yield "latents", latents.scatter(config.name, dataset, trained, trained.latents)
    if trained.model.latent_size == _PLANE:
        yield "plane", latents.plane(config.name, dataset, trained.model)
    if trained.model.variational:
        yield "kl", latents.divergences(config.name, dataset, trained.model)


def draw_sweeps(workdir: Path, config: Config, dataset: Dataset, trained: Checkpoint) -> None:
    """A picture for each attribute, `attribute-NAME.png`."""
    if trained.latents is None:
        return
    with mpl.rc_context(STYLE):
        pairs = zip(trained.latents.attribute_names, trained.latents.attribute_directions, strict=True)
        for name, vector in pairs:
            picture = latents.sweep(f"{config.name}: {name}", dataset, trained.model, vector)
            save(picture, workdir / f"attribute-{name}.png")


def _reconstructions(config: Config, dataset: Dataset, trained: Checkpoint) -> Figure:
    """Test images above what the model makes of them, with the noisy input between for a denoiser."""
    images = next(evaluate.batches(dataset.test.take(slice(_COLUMNS))))
    draws = Draws.whole_batch(generator(0, Purpose.TEST), len(images), images.device)
    seen = evaluate.see(trained.model, images, draws, config.loss)
    rows = {"input": seen.targets, "reconstruction": seen.outputs}
    if hasattr(trained.model, "denoise"):
        rows = {"clean": seen.targets, f"noise {config.loss.noise:g}": seen.inputs, "denoised": seen.outputs}
    figure = Figure(figsize=(_COLUMNS * 0.85 + 1.4, len(rows) * 0.95 + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 1)
    for axis, (label, pictures) in zip(axes, rows.items(), strict=True):
        show(axis, strip(pictures.numpy()))
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
    figure.suptitle(f"{config.name}: test images of {dataset.name}")
    return figure


def _samples(config: Config, trained: Checkpoint, statistics: LatentStatistics) -> Figure:
    """Images decoded from draws of the prior, or of the mixture fitted to the codes of a plain autoencoder."""
    source = trained.model.prior
    drawn = statistics.sample(0, 0, _COLUMNS * _SAMPLE_ROWS, 1.0, source)
    with torch.no_grad():
        pictures = trained.model.decode(torch.from_numpy(drawn)).sigmoid().numpy()
    figure = Figure(figsize=(_COLUMNS * 0.85, _SAMPLE_ROWS * 0.85 + 0.5), layout="constrained")
    show(figure.subplots(), np.concatenate([strip(row) for row in np.split(pictures, _SAMPLE_ROWS)]))
    name = "N(0, I)" if source == "normal" else "the mixture fitted to the training codes"
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
