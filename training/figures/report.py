"""report.md: what a run was, what it reached, how to do it again."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from training.checkpoint import Checkpoint
from training.config import Config, Expected
from training.models.families import Network

PICTURES = ("defects", "reconstructions", "samples", "latents", "plane", "interpolations", "traversals", "kl", "losses")


def write(workdir: Path, config: Config, trained: Checkpoint, notes: Sequence[str]) -> None:
    """Write report.md next to the images that it shows."""
    data, model = trained.meta["data"], trained.model
    height, width, channels = trained.reference.images.shape[1:]
    counts = f"{data['train']} train, {data['validation']} validation, {data['test']} test images"
    lines = [
        f"# {config.name}",
        "",
        f"{config.summary}.",
        "",
        f"Data: {data['name']}, SHA-256 {data['sha256'][:16]};",
        f"{counts} of {height}x{width}x{channels}{_code(model, height, width)}.",
        f"Seed {config.run.seed}, epoch {trained.meta['epoch']} {_length(config)}.",
        "",
        *_table(config, trained),
        "",
        *(f"- {note}" for note in notes),
        "",
        *(f"![{name}]({name}.png)" for name in PICTURES if (workdir / f"{name}.png").exists()),
    ]
    (workdir / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _length(config: Config) -> str:
    """How long the run was to be, as the end of a sentence."""
    run = config.run
    return f"with a budget of {run.minutes:g} minutes" if run.minutes else f"of {run.epochs}"


def _code(model: Network, height: int, width: int) -> str:
    """The size of the code of such an image, as part of a sentence."""
    shape = model.latent_shape
    if model.is_free and shape:
        shape = height // model.downsampling, width // model.downsampling, shape[2]
    spatial = f" ({'x'.join(map(str, shape))})" if len(shape) > 1 else ""
    return f", a code of {prod(shape):,} numbers{spatial}" if shape else ""


def _table(config: Config, trained: Checkpoint) -> list[str]:
    """Lines of the table of measures; on the recipe's own data set next to what it promises there."""
    metrics = sorted(trained.meta["metrics"].items())
    if trained.meta["data"]["name"] != config.expected.on:
        return ["| measure | value |", "| --- | --- |", *(f"| {name} | {value:.5g} |" for name, value in metrics)]
    rows = (f"| {name} | {value:.5g} | {goal(config.expected, name)} |" for name, value in metrics)
    reference = ["", f"Reference: {config.expected.reference}."] if config.expected.reference else []
    return ["| measure | value | expected |", "| --- | --- | --- |", *rows, *reference]


def goal(expected: Expected, name: str) -> str:
    """What a recipe promises of a measure, as text."""
    if name in expected.at_most:
        return f"≤ {expected.at_most[name]:g}"
    return f"≥ {expected.at_least[name]:g}" if name in expected.at_least else ""
