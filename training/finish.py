"""The end of a run: the best weights measured on the test split, statistics of their codes, pictures, a report."""

from pathlib import Path

import torch

from training import checkpoint, evaluate, latents, plots
from training.checkpoint import Checkpoint
from training.config import Config
from training.data import Dataset
from training.feed import Feed


def finish(config: Config, dataset: Dataset, workdir: Path) -> dict[str, float]:
    """Completes the checkpoint `best` with test figures and latent statistics, and draws the pictures."""
    best = checkpoint.load(workdir)
    test = Feed(dataset.test, torch.device("cpu"), torch.contiguous_format)
    figures = evaluate.measure(best.model, test, config.loss)
    statistics = latent_statistics(best, dataset, test, config.run.seed) if best.model.latent_size else None
    meta = {**best.meta, "metrics": {**best.meta["metrics"], **figures}}
    weights = best.model.state_dict()
    checkpoint.write(workdir / "best", checkpoint.files(weights, meta, best.reference, statistics))
    plots.draw(workdir, config, dataset, Checkpoint(best.model, meta, best.reference, statistics))
    return figures


def latent_statistics(best: Checkpoint, dataset: Dataset, test: Feed, seed: int) -> latents.LatentStatistics:
    """Statistics of the training codes, quantiles over the test split."""
    train = Feed(dataset.train, torch.device("cpu"), torch.contiguous_format)
    errors = evaluate.squared_errors(best.model, test)
    return latents.fit(evaluate.all_codes(best.model, train), evaluate.all_codes(best.model, test), errors, seed)
