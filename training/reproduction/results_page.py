"""The results page docs/results.md: figures reached against those expected, cost, and reasons for shortfalls."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.config import Config
from training.evaluation import attributes
from training.figures.report import goal
from training.reproduction import records
from training.reproduction.records import Cost, Record
from training.reproduction.runs import RUNS

_RESULTS = Path("docs/results.md")
PICTURES = Path("docs/results")
_SHOWN = ("reconstructions", "samples", "latents", "plane", "attribute-thickness", "attribute-slant")
_HEAD = """# Results on MNIST

Written by `python -m training.reproduction` from runs that really took place. Figures are means over the 10,000 test
images; the epoch was chosen on 5,000 validation images out of the training files. BCE in nats per pixel, ELBO,
reconstruction and NLL in nats per image. What export made of the models (size, distance from float64, batch invariance)
stands in [export-results.md](export-results.md).

| recipe | measure | reached | expected | reference |
| --- | --- | --- | --- | --- |
"""
_MISSED = """
## What was missed, and why

"""
_RUNS_SECTION = """
## The runs

Wall times are of a machine shared with other work, which often had the larger part of it: read them as upper bounds,
and the CPU time as what a run needs. Both are of the whole process, measures and pictures included.

| run | figures | command | seed | epoch kept | wall time | CPU time | peak memory | date | machine | revision |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
_TOGETHER = """
Together the {count} runs whose CPU time is known took {minutes:.0f} minutes of it, which is {half:.0f} for each of two
cores: `python -m training.reproduction` trains as many runs side by side as there are cores, the longest first, each
with its share of the cores. A whole reproduction in one go on a quiet machine has not been timed yet.
"""
_ATTRIBUTES = """
## Attributes

From `python -m training attributes RUN --data-dir DIR`, on 500 test images: Spearman between amounts asked and changes
measured, over all images together, and as the mean of each image's own; gain, 1 where one standard deviation asked is
one got; leakage into the other property; classes kept at one standard deviation; for pairs of classes, the share that
our classifier takes for the other class after the whole way.

| run | attribute | scores |
| --- | --- | --- |
"""


def publish(runs: Path, results: Path = _RESULTS, pictures: Path = PICTURES) -> None:
    """Writes the page; keeps the records and pictures of `runs` in the folder `pictures`."""
    known = records.collect(runs, pictures)
    planned = {each.name: each.config for each in RUNS}
    text = _HEAD + "".join(_rows(name, recipe, known.get(name)) for name, recipe in planned.items())
    text += _shortfalls({name: recipe for name, recipe in planned.items() if missing(recipe, known.get(name))})
    text += _RUNS_SECTION + "".join(
        _run_row(name, recipe, known[name]) for name, recipe in planned.items() if name in known
    )
    text += "".join(f"\n`{name}`: {record.remark}.\n" for name, record in known.items() if record.remark)
    text += _together([known[each.name].cost for each in RUNS if each.on_cpu and each.name in known])
    text += _attribute_table(known)
    for name in planned:
        if name in known:
            text += shown(name, runs / name, pictures, results.parent)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(text, encoding="utf-8")


def _rows(run: str, recipe: Config, record: Record | None) -> str:
    """A row for each measure that a recipe promises, or shows next to a published one."""
    return "".join(
        f"| `{run}` | {name} | {_reached(recipe, record, name)} | {goal(recipe.expected, name)} "
        f"| {recipe.expected.reference} |\n"
        for name in [*_promised(recipe), *recipe.expected.shown]
    )


def _promised(recipe: Config) -> list[str]:
    """The measures that a recipe has goals for."""
    return [*recipe.expected.at_most, *recipe.expected.at_least]


def _reached(recipe: Config, record: Record | None, name: str) -> str:
    """A figure, bold where it is as good as promised; or that there is none."""
    if record is None:
        return "not yet run"
    if name not in record.metrics:
        return "not measured"
    value = record.metrics[name]
    if name not in _promised(recipe):
        return f"{value:.4g}"
    return f"**{value:.4g}**" if _good(recipe, value, name) else f"{value:.4g} (missed)"


def _good(recipe: Config, value: float, name: str) -> bool:
    """Whether a figure is as good as promised."""
    expected = recipe.expected
    return value <= expected.at_most.get(name, value) and value >= expected.at_least.get(name, value)


def missing(recipe: Config, record: Record | None) -> bool:
    """Whether any promise of a recipe, or of attributes on it, is not kept, be it that nothing has run."""
    if record is None:
        return True
    scores = [score for found in record.attributes.values() for score in found.items()]
    return any(value < attributes.WANTED.get(name, value) for name, value in scores) or any(
        name not in record.metrics or not _good(recipe, record.metrics[name], name) for name in _promised(recipe)
    )


def _shortfalls(recipes: Mapping[str, Config]) -> str:
    """Why each of these runs falls short, in its recipe's own words."""
    lines = (f"- `{run}`: {recipe.expected.shortfall or 'not looked into yet'}.\n" for run, recipe in recipes.items())
    return _MISSED + "".join(lines) if recipes else ""


def figures(recipe: Config, record: Record) -> str:
    """Results of the measures that a recipe promises."""
    return ", ".join(f"{each} {record.metrics[each]:.4g}" for each in _promised(recipe) if each in record.metrics)


def _run_row(run: str, recipe: Config, record: Record) -> str:
    """How a run was made, and what it took."""
    cells = [
        f"`{run}`",
        figures(recipe, record),
        f"`{record.command}`",
        str(record.seed),
        str(record.epoch),
        *spent(record.cost),
        record.date,
        record.machine,
        record.revision,
    ]
    return "| " + " | ".join(cells) + " |\n"


def spent(cost: Cost) -> list[str]:
    """Wall time, CPU time and peak memory, where they were measured."""
    least = "at least " if cost.resumed else ""
    times = [f"{least}{seconds / 60:.1f} min" if seconds else "?" for seconds in (cost.wall_seconds, cost.cpu_seconds)]
    return [*times, f"{cost.peak_memory_bytes / 2**20:.0f} MiB" if cost.peak_memory_bytes else "?"]


def _together(costs: Sequence[Cost]) -> str:
    """What all runs took, one after the other."""
    known = [cost.cpu_seconds / 60 for cost in costs if cost.cpu_seconds]
    return _TOGETHER.format(count=len(known), minutes=sum(known), half=sum(known) / 2) if known else ""


def _attribute_table(known: Mapping[str, Record]) -> str:
    """The scores of every run whose attributes were fitted."""
    text = ""
    for name, record in known.items():
        for attribute, scores in record.attributes.items():
            cells = ", ".join(_attribute_score(score, value) for score, value in scores.items())
            text += f"| `{name}` | {attribute} | {cells} |\n"
    return text and _ATTRIBUTES + text


def _attribute_score(name: str, value: float) -> str:
    """A score, with what was expected where that is missed."""
    wanted = attributes.WANTED.get(name, value)
    return f"{name} {value:.3f}" + ("" if value >= wanted else f" (missed: ≥ {wanted:g})")


def shown(name: str, run: Path, pictures: Path, base: Path) -> str:
    """Copies the pictures of a run, where it is at hand; a section with those that there are."""
    text = f"\n## {name}\n\n"
    for each in _SHOWN:
        source, target = run / f"{each}.png", pictures / f"{name}-{each}.png"
        if source.exists():
            shutil.copyfile(source, target)
        if target.exists():
            text += f"![{name}: {each}]({target.relative_to(base).as_posix()})\n"
    return text
