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
from training.errors import ConfigError, TrainingError
from training.evaluation import attributes, classifier, evaluate, inference, photographs
from training.evaluation.notes import Notes
from training.evaluation.photographs import Quality
from training.figures import run
from training.recipe import parse_config
from training.run import provenance


def _evaluate_parser() -> argparse.ArgumentParser:
    """Flags of `python -m training evaluate`."""
    flags = argparse.ArgumentParser(prog="python -m training evaluate", description="Measure a checkpoint again.")
    _add_source(flags)
    flags.add_argument("--nll-samples", type=int, help="importance samples an image, for the likelihood")
    flags.add_argument("--disentanglement", action="store_true", help="the mutual information gap (MIG) of the latents")
    whole = flags.add_mutually_exclusive_group()
    whole.add_argument("--images", type=Path, help="of a photo denoiser: a folder of photographs, taken whole")
    whole.add_argument("--pairs", type=Path, help="of a photo denoiser: a folder with noisy and clean in it")
    flags.add_argument(
        "--noise", type=float, nargs="+", metavar="N", help="with --images: standard deviations, of 255 (25)"
    )
    return flags


def _run_evaluate(flags: argparse.Namespace) -> str:
    """Every figure of a checkpoint on the test split, measured again; or those of a denoiser on whole photographs."""
    if flags.images or flags.pairs:
        return _evaluate_photographs(flags)
    trained, settings, dataset = _source(flags)
    asked = {"disentanglement": True} if flags.disentanglement else {}
    asked |= {"nll_samples": flags.nll_samples} if flags.nll_samples is not None else {}
    if asked:
        whole = settings.model_dump()
        settings = parse_config({**whole, "evaluation": {**whole["evaluation"], **asked}})
    figures = evaluate.measure(trained.model, dataset, settings, trained.latents, Notes(), trained.held_out_scores)
    return "\n".join(f"{name:40} {value:.6g}" for name, value in sorted(figures.items()))


def _evaluate_photographs(flags: argparse.Namespace) -> str:
    """A line for each noise level."""
    trained = checkpoint.load(flags.checkpoint)
    model, loss = trained.model, provenance.origin(trained.meta, checkpoint.find(flags.checkpoint)).config.loss
    if flags.pairs and (flags.noise or model.takes_noise_levels):
        raise ConfigError("--pairs have noise of their own: leave --noise out, and give a model without noise levels")
    levels = [] if flags.pairs else flags.noise or [25.0]
    photographs.check(model, loss.noise_range, levels)
    channels = model.image_shape[2]
    if flags.pairs:
        return _quality_line("pairs", *photographs.measure(model, photographs.of_pairs(flags.pairs, channels), 0.0))
    found = []
    for level in levels:
        scaled = level / photographs.GREY_LEVELS
        noisy = photographs.with_noise(flags.images, channels, scaled)
        found.append(_quality_line(f"noise {level:g}", *photographs.measure(model, noisy, scaled)))
    return "\n".join(found)


def _quality_line(what: str, count: int, noisy: Quality, denoised: Quality) -> str:
    gains = f"PSNR {noisy.psnr:.2f} to {denoised.psnr:.2f} dB, SSIM {noisy.ssim:.3f} to {denoised.ssim:.3f}"
    return f"{what:10} {gains}, {denoised.seconds:.2f} s of CPU time a megapixel, {count} images"


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
    checkpoint.refuse_other_data(flags.checkpoint, dataset, origin.sha256)
    return trained, origin.config, dataset


COMMANDS = {
    "evaluate": (_evaluate_parser, _run_evaluate),
    "attributes": (_attributes_parser, _run_attributes),
    "judge": (_judge_parser, run_judge),
}
