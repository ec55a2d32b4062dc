"""Trains every recipe on MNIST and writes docs/results.md from what really ran.

`python -m training.reproduce --data-dir DIR`; runs that are finished are kept, an interrupted one goes on.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from training import checkpoint, config
from training.config import Config
from training.report import goal

RECORD = "record.json"
RESULTS = Path("docs/results.md")
PICTURES = Path("docs/results")
SHOWN = ("reconstructions", "samples", "latents", "plane", "attribute-thickness", "attribute-slant")
# Weeks of CPU time: these are for a GPU.
GPU_RECIPES = ("iwae",)
HEAD = """# Results on MNIST

Written by `python -m training.reproduce` from runs that really took place. Figures are means over the 10,000 test
images; the epoch was chosen on 5,000 validation images out of the training files. BCE in nats per pixel, ELBO and NLL
in nats per image.

| recipe | measure | reached | wanted | reference |
| --- | --- | --- | --- | --- |
"""
RUNS = """
## The runs

Wall times are of shared machines: read them as upper bounds.

| run | figures | command | seed | epoch kept | wall time | date | machine | revision |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
ATTRIBUTES = """
## Attributes

From `python -m training attributes RUN --data-dir DIR`, on 500 test images: Spearman between amounts asked and changes
measured; gain, 1 where one standard deviation asked is one got; leakage into the other property; classes kept at one
standard deviation; for pairs of classes, the share that our classifier takes for the other class after the whole way.

| run | attribute | scores |
| --- | --- | --- |
"""


@dataclass(frozen=True)
class Record:
    """What a reader needs to do a run again, and how long it took."""

    recipe: str
    command: str
    seed: int
    epoch: int
    wall_seconds: float
    date: str
    machine: str
    revision: str
    metrics: Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder of the MNIST files; without it only the page is written")
    parser.add_argument("--runs", type=Path, default=Path("runs/mnist"), help="where runs go (default: %(default)s)")
    on_cpu = [name for name in config.recipe_names() if name not in GPU_RECIPES]
    parser.add_argument("--recipes", nargs="*", default=on_cpu, help="default: all that a CPU can train")
    flags = parser.parse_args(arguments)
    for recipe in flags.recipes if flags.data_dir else ():
        if not (flags.runs / recipe / RECORD).exists():
            run(recipe, flags.runs / recipe, flags.data_dir)
    publish(flags.runs)
    return 0


def run(recipe: str, out: Path, data_dir: Path) -> None:
    """Trains a recipe in a process of its own and notes what it took."""
    words = ["-m", "training", recipe, "--data", "mnist", "--data-dir", str(data_dir), "--out", str(out), "--resume"]
    started = time.monotonic()
    subprocess.run([sys.executable, *words], check=True)  # noqa: S603  our own program
    write_record(out, f"python -m training {recipe} --data mnist --data-dir DIR --out DIR", time.monotonic() - started)


def write_record(out: Path, command: str, wall_seconds: float) -> None:
    """Notes a finished run beside its checkpoint."""
    meta = checkpoint.read_meta(out / "best")
    record = Record(
        recipe=meta["name"],
        command=command,
        seed=meta["config"]["run"]["seed"],
        epoch=meta["epoch"],
        wall_seconds=wall_seconds,
        date=datetime.now(UTC).date().isoformat(),
        machine=machine(),
        revision=meta["git_revision"][:12],
        metrics=meta["metrics"],
    )
    (out / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def machine() -> str:
    """The processor and how many of its cores there are; no name of a host."""
    names = [line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return f"{len(names) or '?'} x {names[0] if names else platform.machine()}"


def publish(runs: Path, results: Path = RESULTS, pictures: Path = PICTURES) -> None:
    """Writes the page and copies its pictures."""
    records = {name: _read(runs / name / RECORD) for name in config.recipe_names()}
    text = HEAD + "".join(rows(config.load(name, "mnist"), record) for name, record in records.items())
    text += RUNS + "".join(run_row(path.parent.name, _read(path)) for path in sorted(runs.glob(f"*/{RECORD}")))
    text += attribute_table(runs)
    for name, record in records.items():
        if record:
            text += _copied(name, runs / name, pictures, results.parent)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(text, encoding="utf-8")


def rows(recipe: Config, record: Record | None) -> str:
    """A row for each measure that a recipe promises."""
    wanted = [*recipe.expected.at_most, *recipe.expected.at_least]
    return "".join(
        f"| `{recipe.name}` | {name} | {reached(recipe, record, name)} | {goal(recipe.expected, name)} "
        f"| {recipe.expected.reference} |\n"
        for name in wanted
    )


def reached(recipe: Config, record: Record | None, name: str) -> str:
    """A figure, bold where it is as good as promised; or that there is none."""
    if record is None:
        return "not yet run"
    if name not in record.metrics:
        return "not measured"
    value = record.metrics[name]
    good = value <= recipe.expected.at_most.get(name, value) and value >= recipe.expected.at_least.get(name, value)
    return f"**{value:.4g}**" if good else f"{value:.4g} (missed)"


def run_row(name: str, record: Record | None) -> str:
    """How a run was made, and what its recipe's own measures came to."""
    if record is None:
        return ""
    expected = config.load(record.recipe, "mnist").expected
    names = [each for each in (*expected.at_most, *expected.at_least) if each in record.metrics]
    cells = [
        f"`{name}`",
        ", ".join(f"{each} {record.metrics[each]:.4g}" for each in names),
        f"`{record.command}`",
        str(record.seed),
        str(record.epoch),
        f"{record.wall_seconds / 60:.1f} min",
        record.date,
        record.machine,
        record.revision,
    ]
    return "| " + " | ".join(cells) + " |\n"


def attribute_table(runs: Path) -> str:
    """The scores of every run whose attributes were fitted."""
    text = ""
    for path in sorted(runs.glob(f"*/{RECORD}")):
        scores = checkpoint.read_meta(path.parent / "best").get("attributes", {})
        for attribute, found in scores.items():
            cells = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
            text += f"| `{path.parent.name}` | {attribute} | {cells} |\n"
    return text and ATTRIBUTES + text


def _copied(name: str, run_folder: Path, pictures: Path, base: Path) -> str:
    pictures.mkdir(parents=True, exist_ok=True)
    text = f"\n## {name}\n\n"
    for shown in SHOWN:
        source, target = run_folder / f"{shown}.png", pictures / f"{name}-{shown}.png"
        if source.exists():
            shutil.copyfile(source, target)
            text += f"![{name}: {shown}]({target.relative_to(base).as_posix()})\n"
    return text


def _read(path: Path) -> Record | None:
    return Record(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
