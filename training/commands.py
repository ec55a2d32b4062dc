"""Sub-commands other than training: `evaluate`, `attributes` and `judge` (trains the classifier)."""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from training import checkpoint, config
from training.checkpoint import Checkpoint
from training.config import Config
from training.data import dataset as data
from training.data import kinds
from training.data.dataset import Dataset
from training.errors import CheckpointError, TrainingError
from training.evaluation import attributes, classifier, evaluate, inference
from training.evaluation.notes import Notes
from training.figures import run
from training.recipe import parse_config
from training.run import provenance


def _evaluate_parser() -> argparse.ArgumentParser:
    """Flags of `python -m training evaluate`."""
    flags = argparse.ArgumentParser(prog="python -m training evaluate", description="Measure a checkpoint again.")
    _add_source(flags)
    flags.add_argument("--nll-samples", type=int, help="importance samples an image, for the likelihood")
    return flags


def _run_evaluate(flags: argparse.Namespace) -> str:
    """Every figure of a checkpoint on the test split, measured again."""
    trained, settings, dataset = _source(flags)
    if flags.nll_samples is not None:
        settings = parse_config({**settings.model_dump(), "evaluation": {"nll_samples": flags.nll_samples}})
    figures = evaluate.measure(trained.model, dataset, settings, trained.latents, Notes(), trained.held_out_scores)
    return "\n".join(f"{name:40} {value:.6g}" for name, value in sorted(figures.items()))


def _attributes_parser() -> argparse.ArgumentParser:
    """Flags of `python -m training attributes`."""
    flags = argparse.ArgumentParser(prog="python -m training attributes", description="Fit directions in latent space.")
    _add_source(flags)
    flags.add_argument("--csv", type=Path, help="more attributes: numbers, a row for each image of the source")
    return flags


def _run_attributes(flags: argparse.Namespace) -> str:
    """Fit directions and store them in the checkpoint; their scores."""
    trained, settings, dataset = _source(flags)
    fitted, scores = attributes.fit(trained, dataset, flags.csv)
    fitted = dataclasses.replace(fitted, meta={**fitted.meta, "attributes": scores})
    folder = checkpoint.find(flags.checkpoint)
    try:
        checkpoint.rewrite(folder, fitted)
        run.draw_sweeps(folder.parent if folder.name == "best" else folder, settings, dataset, fitted)
    except OSError as error:
        raise TrainingError(f"cannot write {folder}: {error}") from error
    return "\n".join(f"{name:16} " + _line(found) for name, found in scores.items())


def _judge_parser() -> argparse.ArgumentParser:
    """Flags of `python -m training judge`."""
    flags = argparse.ArgumentParser(
        prog="python -m training judge", description="Train the classifier that evaluates samples and edits."
    )
    flags.add_argument("--data", help="data set (default: what --data-dir holds; without it, digits)")
    flags.add_argument("--data-dir", type=Path, help="folder of the data set's files")
    return flags


def run_judge(flags: argparse.Namespace) -> str:
    """Train the classifier of a data set and save it where evaluation looks for it; its accuracy."""
    kind = kinds.resolve(flags.data, flags.data_dir) or "digits"
    dataset = data.load(config.Data(kind=kind, folder=str(flags.data_dir or "")))
    trained = classifier.train(dataset)
    path = classifier.FOLDER / f"{dataset.name}.safetensors"
    classifier.save(trained, dataset, path)
    correct = classifier.accuracy(trained, inference.batches(dataset.test), dataset.test.labels)
    return f"{path}: accuracy {correct:.4f} on test"


def _line(scores: Mapping[str, float]) -> str:
    return "  ".join(f"{score} {value:.3f}" for score, value in scores.items())


def _add_source(flags: argparse.ArgumentParser) -> None:
    flags.add_argument("checkpoint", type=Path, help="a run's folder (its best checkpoint) or a checkpoint's")
    flags.add_argument("--data-dir", type=Path, help="folder of the data set that it was trained on")


def _source(flags: argparse.Namespace) -> tuple[Checkpoint, Config, Dataset]:
    trained = checkpoint.load(flags.checkpoint)
    origin = provenance.origin(trained.meta, checkpoint.find(flags.checkpoint))
    dataset = data.load(origin.config.data.model_copy(update={"folder": str(flags.data_dir or "")}))
    if not checkpoint.is_data_of(dataset, origin.sha256):
        raise CheckpointError(f"{flags.checkpoint} was trained on other data than {dataset.name} in {flags.data_dir}")
    return trained, origin.config, dataset


COMMANDS = {
    "evaluate": (_evaluate_parser, _run_evaluate),
    "attributes": (_attributes_parser, _run_attributes),
    "judge": (_judge_parser, run_judge),
}
