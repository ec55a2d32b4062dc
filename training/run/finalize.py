"""The end of a run: the best weights measured on the test split, statistics of their codes, pictures, a report."""

from pathlib import Path

from training import checkpoint
from training.checkpoint import Checkpoint
from training.config import Config
from training.data.dataset import Dataset
from training.errors import TrainingError
from training.evaluation import evaluate
from training.evaluation import latent_statistics as latents
from training.figures import report, run


def finish(config: Config, dataset: Dataset, workdir: Path) -> None:
    """Completes the checkpoint `best` with test figures and latent statistics; draws pictures, writes report.md.

    Raises:
        TrainingError: nothing can be written.
    """
    best = checkpoint.load(workdir)
    statistics = latent_statistics(best, dataset, config.run.seed) if best.model.latent_size else None
    figures = evaluate.measure(best.model, dataset, config, statistics)
    meta = {**best.meta, "metrics": {**best.meta["metrics"], **figures}}
    finished = Checkpoint(best.model, meta, best.reference, statistics)
    try:
        checkpoint.rewrite(workdir / "best", finished)
        run.draw(workdir, config, dataset, finished)
        report.write(workdir, config, finished)
    except OSError as error:
        raise TrainingError(f"cannot write {workdir}: {error}; --resume tries again") from error


def latent_statistics(best: Checkpoint, dataset: Dataset, seed: int) -> latents.LatentStatistics:
    """Statistics of the training codes, quantiles over the test split."""
    train, test = (evaluate.all_codes(best.model, split) for split in (dataset.train, dataset.test))
    return latents.fit(train, test, evaluate.squared_errors(best.model, dataset.test), seed)
