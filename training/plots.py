"""Pictures of a run, as PNG: what went in, what came out, what the model makes up, how the loss fell."""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bundle.latents import prior
from training import evaluate
from training.checkpoint import Checkpoint
from training.config import Config
from training.data import Dataset
from training.models import Denoiser
from training.noise import Purpose, generator, whole

COLUMNS = 12
SAMPLE_ROWS = 6
STYLE = {"font.family": "DejaVu Sans", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
# Okabe & Ito's palette: told apart by the colour-blind too.
BLUE, ORANGE = "#0072B2", "#D55E00"


def draw(workdir: Path, config: Config, dataset: Dataset, trained: Checkpoint) -> None:
    """Every picture of the model's family, into the run's folder."""
    with mpl.rc_context(STYLE):
        save(loss_curves(workdir, config.name), workdir / "losses.png")
        save(reconstructions(config, dataset, trained), workdir / "reconstructions.png")
        if trained.latents is not None:
            save(samples(config, trained), workdir / "samples.png")


def reconstructions(config: Config, dataset: Dataset, trained: Checkpoint) -> Figure:
    """Test images above what the model makes of them, with the noisy input between for a denoiser."""
    images = next(evaluate.batches(dataset.test.take(slice(COLUMNS))))
    draws = whole(generator(0, Purpose.TEST), len(images), images.device)
    seen = evaluate.see(trained.model, images, draws, config.loss)
    rows = {"input": seen.targets, "reconstruction": seen.outputs}
    if isinstance(trained.model, Denoiser):
        rows = {"clean": seen.targets, f"noise {config.loss.noise:g}": seen.inputs, "denoised": seen.outputs}
    figure = Figure(figsize=(COLUMNS * 0.85 + 1.4, len(rows) * 0.95 + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 1)
    for axis, (label, pictures) in zip(axes, rows.items(), strict=True):
        show(axis, strip(pictures.numpy()))
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
    figure.suptitle(f"{config.name}: test images of {dataset.name}")
    return figure


def samples(config: Config, trained: Checkpoint) -> Figure:
    """Images decoded from draws of the prior, or of the mixture fitted to the codes of a plain autoencoder."""
    source = prior(trained.model.family)
    latents = trained.latents.sample(0, 0, COLUMNS * SAMPLE_ROWS, 1.0, source)
    with torch.no_grad():
        pictures = trained.model.decode(torch.from_numpy(latents)).sigmoid().numpy()
    figure = Figure(figsize=(COLUMNS * 0.85, SAMPLE_ROWS * 0.85 + 0.5), layout="constrained")
    show(figure.subplots(), np.concatenate([strip(row) for row in np.split(pictures, SAMPLE_ROWS)]))
    name = "N(0, I)" if source == "normal" else "the mixture fitted to the training codes"
    figure.suptitle(f"{config.name}: samples from {name}")
    return figure


def loss_curves(workdir: Path, name: str) -> Figure:
    """Training and validation loss by epoch, in nats per image."""
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for split, colour, style in (("train", BLUE, "-"), ("validation", ORANGE, "--")):
        axis.plot(epochs, [record[split]["loss"] for record in records], style, color=colour, label=split)
    axis.set(xlabel="epoch", ylabel="loss, nats per image", title=name)
    axis.legend(frameon=False)
    axis.grid(alpha=0.25)
    return figure


def strip(pictures: np.ndarray) -> np.ndarray:
    """(N, C, H, W) side by side: (H, N W, C)."""
    return np.concatenate(list(pictures.transpose(0, 2, 3, 1)), axis=1)


def show(axis: mpl.axes.Axes, picture: np.ndarray) -> None:
    """(H, W, C) in 0 to 1, grey or colour, without ticks."""
    axis.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG; the same figure, the same bytes."""
    FigureCanvasAgg(figure).print_figure(path, dpi=120, metadata={"Software": None})
