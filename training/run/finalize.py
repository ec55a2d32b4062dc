"""Finalize a run: evaluate the best weights on the test split, fit latent statistics, draw pictures, write a report.

What cannot be had is left out and noted: by now the training is done, and must not be lost.
"""

import logging
import time
from math import prod
from pathlib import Path

from bundle.detection import HeldOutScores
from bundle.latents import LatentStatistics
from training import checkpoint
from training.checkpoint import Checkpoint
from training.config import Config
from training.data.dataset import Dataset
from training.errors import TrainingError
from training.evaluation import detection, evaluate, inference, latent_statistics, reference_points
from training.evaluation.journal import Journal
from training.evaluation.notes import Notes
from training.figures import report, run
from training.models.families import Network
from training.run import provenance

_log = logging.getLogger(__name__)


def finalize(config: Config, dataset: Dataset, workdir: Path) -> None:
    """Complete the checkpoint `best` with test figures and latent statistics; draw pictures, write report.md.

    Raises:
        CheckpointError: the checkpoint `best` is missing or damaged.
        TrainingError: nothing can be written.
    """
    started, journal = time.monotonic(), Journal(workdir)
    notes = Notes(journal)
    best = checkpoint.load(workdir)
    provenance.origin(best.meta, checkpoint.find(workdir))
    _log.info("evaluating epoch %s on %s test images", best.meta["epoch"], f"{len(dataset.test):,}")
    try:
        statistics = _fit_statistics(best.model, dataset, config.run.seed, notes)
        held_out = _score_held_out(best.model, dataset, notes)
        figures = evaluate.measure(best.model, dataset, config, statistics, notes, held_out)
        meta = {**best.meta, "metrics": {**best.meta["metrics"], **figures}, "notes": list(notes.sentences)}
        finished = Checkpoint(best.model, meta, best.reference, statistics, held_out)
        checkpoint.rewrite(workdir / "best", finished)
        run.draw(workdir, config, dataset, finished, notes)
        report.write(workdir, config, finished, notes.sentences)
        journal.close()
    except OSError as error:
        raise TrainingError(f"cannot write {workdir}: {error}; --resume tries again") from error
    _log.info("evaluation and pictures took %.1f s; read %s", time.monotonic() - started, workdir / "report.md")


def _score_held_out(model: Network, dataset: Dataset, notes: Notes) -> HeldOutScores | None:
    """What detection is calibrated on; None of a network that detects nothing."""
    if not hasattr(model, "detect"):
        return None
    _log.info("  calibration of detection")
    what = "scores of held-out images, which Detect needs"
    return notes.attempt(what, lambda: detection.held_out_scores(model, dataset), None)


def _fit_statistics(model: Network, dataset: Dataset, seed: int, notes: Notes) -> LatentStatistics | None:
    """Statistics of the training codes, quantiles over the test split; None without a code."""
    if not model.latent_shape:
        return None

    def fit() -> LatentStatistics:
        known = inference.affordable(model, dataset.train)
        latent_statistics.check(len(known), prod(inference.code_shape(model, known)))
        train, test = inference.all_codes(model, known), inference.all_codes(model, dataset.test)
        errors = inference.squared_errors(model, dataset.test)
        if model.is_free:
            vectors = latent_statistics.channel_vectors(train)
            return latent_statistics.fit(vectors, test, errors, seed, mixed=False)
        fitted = latent_statistics.fit(train.reshape(len(train), -1), test, errors, seed)
        densities = inference.log_densities(model, test)
        if densities is not None:
            fitted = latent_statistics.with_densities(fitted, densities)
        return reference_points.add(fitted, test.reshape(len(test), -1), dataset.test.labels, dataset.classes)

    sampled = model.sampling == "mixture" and not model.is_free
    needing = "Sample, drift metrics and attributes" if sampled else "drift metrics and attributes"
    _log.info("  latent statistics")
    return notes.attempt(f"latent statistics, which {needing} need", fit, None)
