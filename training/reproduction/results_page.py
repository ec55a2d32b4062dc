"""The results page docs/results.md: figures reached against those expected, cost, and reasons for shortfalls."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.config import Config
from training.evaluation import attributes, classifier
from training.figures.report import goal
from training.reproduction import records
from training.reproduction.records import Cost, Record
from training.reproduction.runs import RUNS, run_name
from training.reproduction.spread import Spread, significant
from training.reproduction.spread import of as spread_of

_RESULTS = Path("docs/results.md")
PICTURES = Path("docs/results")
_SHOWN = ("reconstructions", "samples", "latents", "plane", "attribute-thickness", "attribute-slant")
_HEAD = """# Results on MNIST

Written by `python -m training.reproduction` from runs that really took place. Figures are means over the 10,000 test
images; the epoch was chosen on 5,000 validation images out of the training files. BCE in nats per pixel, ELBO,
reconstruction and NLL in nats per image. What export made of the models (size, distance from float64, batch invariance)
stands in [export-results.md](export-results.md). Fréchet distances are between features of the
classifier `mnist.safetensors` in `training/evaluation/classifiers/`, SHA-256
`{judge}`.

Every figure is mean ± standard deviation (n - 1) over so many seeds, with the best and the worst of them; n = 1 is one
run, whose scatter is not known. Whether a new run departs from these figures is judged by the interval in which
99 % of new runs lie (Student's t, from three seeds on):
`python -m training.reproduction --data-dir DIR --runs NEW --check`.

| recipe | measure | reached | best | worst | expected | reference |
| --- | --- | --- | --- | --- | --- | --- |
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
one got; leakage into the other property; classes kept at one standard deviation; for pairs of classes, the share of
500 test images of the one that our classifier takes for the other after the whole way. How directions are found:
[training.md](training.md#attributes).

| run | attribute | scores |
| --- | --- | --- |
"""


def publish(runs: Path, results: Path = _RESULTS, pictures: Path = PICTURES) -> None:
    """Writes the page; keeps the records and pictures of `runs` in the folder `pictures`."""
    known = by_run(records.collect(runs, pictures))
    planned = {each.name: each.config for each in RUNS}
    text = _HEAD.format(judge=_judge()) + "".join(
        _rows(name, recipe, known.get(name, [])) for name, recipe in planned.items()
    )
    text += _shortfalls({name: recipe for name, recipe in planned.items() if missing(recipe, known.get(name, []))})
    text += _RUNS_SECTION + "".join(
        _run_row(name, recipe, record) for name, recipe in planned.items() for record in known.get(name, [])
    )
    text += "".join(
        f"\n`{name}`: {record.remark}.\n" for name, found in known.items() for record in found if record.remark
    )
    text += _together([found.cost for each in RUNS if each.on_cpu for found in known.get(each.name, [])])
    text += _attribute_table(known)
    for name in planned:
        if name in known:
            text += shown(name, runs / name, pictures, results.parent)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(text, encoding="utf-8")


def _judge() -> str:
    """The hash of the network whose features Fréchet distances are of."""
    return hashlib.sha256((classifier.FOLDER / "mnist.safetensors").read_bytes()).hexdigest()


def by_run(known: Mapping[str, Record]) -> dict[str, list[Record]]:
    """Records by folder to those of each run, in the order of their seeds."""
    grouped: dict[str, list[Record]] = {}
    for folder, record in sorted(known.items(), key=lambda each: each[1].seed):
        grouped.setdefault(run_name(folder), []).append(record)
    return grouped


def _rows(run: str, recipe: Config, found: Sequence[Record]) -> str:
    """A row for each measure that a recipe promises, or shows next to a published one."""
    return "".join(
        f"| `{run}` | {name} | {' | '.join(_reached(recipe, found, name))} | {goal(recipe.expected, name)} "
        f"| {recipe.expected.reference} |\n"
        for name in [*promised(recipe), *recipe.expected.shown]
    )


def promised(recipe: Config) -> list[str]:
    """The measures that a recipe has goals for."""
    return [*recipe.expected.at_most, *recipe.expected.at_least]


def _reached(recipe: Config, found: Sequence[Record], name: str) -> tuple[str, str, str]:
    """A figure over seeds, bold where its mean is as good as promised, the best and the worst of them."""
    if not found:
        return "not yet run", "", ""
    spread = _spreads(found).get(name)
    if spread is None:
        return "not measured", "", ""
    low, high = min(spread.values), max(spread.values)
    best, worst = (high, low) if name in recipe.expected.at_least else (low, high)
    text = spread.text()
    if name in promised(recipe):
        text = f"**{text}**" if _good(recipe, spread.mean, name) else f"{text} (missed)"
    return text, significant(best), significant(worst)


def _spreads(found: Sequence[Record]) -> dict[str, Spread]:
    """Each measure over the seeds of a run."""
    return spread_of([dict(each.metrics) for each in found])


def _attribute_spreads(found: Sequence[Record]) -> dict[str, dict[str, Spread]]:
    """Each score of each attribute over the seeds of a run."""
    names = {name: None for record in found for name in record.attributes}
    return {
        name: spread_of([dict(each.attributes[name]) for each in found if name in each.attributes]) for name in names
    }


def _good(recipe: Config, value: float, name: str) -> bool:
    """Whether a figure is as good as promised."""
    expected = recipe.expected
    return value <= expected.at_most.get(name, value) and value >= expected.at_least.get(name, value)


def missing(recipe: Config, found: Sequence[Record]) -> bool:
    """Whether any promise of a recipe, or of attributes on it, is not kept on average, be it that nothing has run."""
    if not found:
        return True
    spreads = _spreads(found)
    scores = [score for each in _attribute_spreads(found).values() for score in each.items()]
    return any(value.mean < attributes.WANTED.get(name, value.mean) for name, value in scores) or any(
        name not in spreads or not _good(recipe, spreads[name].mean, name) for name in promised(recipe)
    )


def _shortfalls(recipes: Mapping[str, Config]) -> str:
    """Why each of these runs falls short, in its recipe's own words."""
    lines = (f"- `{run}`: {recipe.expected.shortfall or 'not looked into yet'}.\n" for run, recipe in recipes.items())
    return _MISSED + "".join(lines) if recipes else ""


def figures(recipe: Config, record: Record) -> str:
    """Results of the measures that a recipe promises."""
    return ", ".join(
        f"{each} {significant(record.metrics[each])}" for each in promised(recipe) if each in record.metrics
    )


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


def _attribute_table(known: Mapping[str, Sequence[Record]]) -> str:
    """The scores of every run whose attributes were fitted."""
    text = ""
    for name, found in known.items():
        for attribute, scores in _attribute_spreads(found).items():
            cells = ", ".join(_attribute_score(score, value) for score, value in scores.items())
            text += f"| `{name}` | {attribute} | {cells} |\n"
    return text and _ATTRIBUTES + text


def _attribute_score(name: str, spread: Spread) -> str:
    """A score, with what was expected where that is missed."""
    wanted = attributes.WANTED.get(name, spread.mean)
    scatter = f" ± {spread.deviation:.3f} (n = {len(spread.values)})" if len(spread.values) > 1 else ""
    return f"{name} {spread.mean:.3f}{scatter}" + ("" if spread.mean >= wanted else f" (missed: ≥ {wanted:g})")


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
