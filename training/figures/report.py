"""report.md: what a run was, what it reached, how to do it again."""

from pathlib import Path

from training.checkpoint import Checkpoint
from training.config import Config, Expected

PICTURES = ("reconstructions", "samples", "latents", "plane", "interpolations", "kl", "losses")


def write(workdir: Path, config: Config, trained: Checkpoint) -> None:
    """Write report.md next to the images that it shows."""
    metrics, data = trained.meta["metrics"], trained.meta["data"]
    lines = [
        f"# {config.name}",
        "",
        f"{config.summary}.",
        "",
        f"Data: {data['name']}, SHA-256 {data['sha256'][:16]};",
        f"{data['train']} train, {data['validation']} validation, {data['test']} test images.",
        f"Seed {config.run.seed}, epoch {trained.meta['epoch']} of {config.run.epochs}.",
        "",
        "| measure | value | expected on MNIST |",
        "| --- | --- | --- |",
        *(f"| {name} | {value:.5g} | {goal(config.expected, name)} |" for name, value in sorted(metrics.items())),
        "",
        f"Reference: {config.expected.reference}." if config.expected.reference else "",
        "",
        *(f"![{name}]({name}.png)" for name in PICTURES if (workdir / f"{name}.png").exists()),
    ]
    (workdir / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def goal(expected: Expected, name: str) -> str:
    """What a recipe promises of a measure, as text."""
    if name in expected.at_most:
        return f"≤ {expected.at_most[name]:g}"
    return f"≥ {expected.at_least[name]:g}" if name in expected.at_least else ""
