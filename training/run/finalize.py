"""Finalize a run: evaluate the best weights on the test split, fit latent statistics, draw pictures, write a report."""

from pathlib import Path

from bundle.latents import LatentStatistics
from training import checkpoint
from training.checkpoint import Checkpoint
from training.config import Config
from training.data.dataset import Dataset
from training.errors import TrainingError
from training.evaluation import evaluate, latent_statistics
from training.figures import report, run


def finalize(config: Config, dataset: Dataset, workdir: Path) -> None:
    """Complete the checkpoint `best` with test figures and latent statistics; draw pictures, write report.md.

    Raises:
        TrainingError: nothing can be written.
    """
    best = checkpoint.load(workdir)
    statistics = _fit_statistics(best, dataset, config.run.seed) if best.model.latent_size else None
    figures = evaluate.measure(best.model, dataset, config, statistics)
    meta = {**best.meta, "metrics": {**best.meta["metrics"], **figures}}
    finished = Checkpoint(best.model, meta, best.reference, statistics)
    try:
        checkpoint.rewrite(workdir / "best", finished)
        run.draw(workdir, config, dataset, finished)
        report.write(workdir, config, finished)
    except OSError as error:
        raise TrainingError(f"cannot write {workdir}: {error}; --resume tries again") from error


def _fit_statistics(best: Checkpoint, dataset: Dataset, seed: int) -> LatentStatistics:
    """Statistics of the training codes, quantiles over the test split."""
    train, test = (evaluate.all_codes(best.model, split) for split in (dataset.train, dataset.test))
    return latent_statistics.fit(train, test, evaluate.squared_errors(best.model, dataset.test), seed)
