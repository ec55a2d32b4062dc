"""Attributes of a model as directions: thickness, slant, pairs of classes and columns of the user's; their scores."""

import csv
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from bundle.density import latent_arrays
from bundle.errors import BundleError
from bundle.latents import LatentStatistics
from training import checkpoint
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset
from training.errors import CheckpointError, DataError, one_line, short_repr
from training.evaluation import classifier, inference
from training.evaluation.classifier import Classifier
from training.evaluation.factors import shape_measures
from training.evaluation.factors.directions import (
    ACROSS,
    AMOUNTS,
    Direction,
    calibrate,
    class_pairs,
    follow,
    gain,
    regress,
)
from training.models.families import Network

_FITTED_IMAGES = 10_000
_SCORED_IMAGES = 500
_NAME = re.compile(r"[\w.][\w .-]*")
# A picture is named after each: file names have at most 255 bytes, and a character up to four.
_LONGEST_NAME = 50
# What a direction should reach.
WANTED = {"spearman": 0.9, "class_kept": 0.9, "class_reached": 0.9}

Scores = dict[str, dict[str, float]]


def fit(trained: Checkpoint, dataset: Dataset, table: Path | None = None) -> tuple[Checkpoint, Scores]:
    """The checkpoint with directions, and the scores of each.

    Raises:
        CheckpointError: the model has no latent space, or was trained on other data.
        DataError: the table is unusable, or what was found cannot be stored.
    """
    if not trained.model.latent_shape:
        raise CheckpointError(f"{trained.meta['name']} has no latent space: attributes need an autoencoder with a code")
    if trained.latents is None:
        raise CheckpointError(
            f"{trained.meta['name']} has no latent statistics, which attributes need; report.md says why"
        )
    checkpoint.refuse_other_data(trained.meta["name"], dataset, trained.meta["data"]["sha256"])
    sample = dataset.train.take(slice(_FITTED_IMAGES))
    codes = inference.all_codes(trained.model, sample)
    vectors = inference.vectors(trained.model, codes)
    measured = {name: measure(shape_measures.grey(sample.images)) for name, measure in shape_measures.MEASURES.items()}
    # What is the same of all images has no direction.
    varying = {name: values for name, values in measured.items() if np.ptp(values)}
    columns = read_table(table, dataset) if table else {}
    regressed = regress(vectors, varying | columns, sample.labels) if varying or columns else []
    straight = [calibrate(trained.model, codes, each) for each in regressed]
    known = [each for each in straight if each.name in varying]
    found = [
        *(follow(trained.model, codes, each, [one for one in known if one is not each]) for each in straight),
        *class_pairs(vectors, sample.labels, dataset.classes, straight=trained.model.is_free),
    ]
    if not found:
        raise DataError(f"{dataset.name}: no property of the images varies, and there are no two classes: give --csv")
    statistics = _with_directions(trained.latents, found)
    return dataclasses.replace(trained, latents=statistics), _score(trained.model, dataset, found)


def _with_directions(known: LatentStatistics, found: list[Direction]) -> LatentStatistics:
    """The latent statistics with these directions in place of others.

    Raises:
        DataError: what a checkpoint with them would hold could not be read again.
    """
    size, curved = len(found[0].vector), any(each.matrix is not None for each in found)
    maps = [np.zeros((size, size)) if each.matrix is None else each.matrix for each in found] if curved else None
    statistics = dataclasses.replace(
        known,
        attribute_names=np.array([each.name for each in found], np.str_),
        attribute_directions=np.stack([each.vector for each in found]),
        attribute_maps=None if maps is None else np.stack(maps),
        attribute_means=np.array([each.mean for each in found]),
        attribute_spreads=np.array([each.spread for each in found]),
    )
    try:
        latent_arrays.check(statistics.to_arrays())
    except BundleError as error:
        raise DataError(
            f"the directions found cannot be stored: {one_line(error)}; change columns or class names"
        ) from error
    return statistics


def _score(model: Network, dataset: Dataset, found: list[Direction]) -> Scores:
    """What moving test images along each direction does, as far as it can be measured on images."""
    images = dataset.test.take(slice(_SCORED_IMAGES))
    codes = inference.all_codes(model, images)
    network = classifier.find(dataset)
    measured = [each for each in found if each.name in shape_measures.MEASURES]
    scores = {each.name: _property_scores(model, codes, each, measured, network) for each in measured}
    pairs = [each for each in found if "-to-" in each.name and each.name not in scores]
    if network is not None and images.labels is not None:
        scores |= {each.name: {"class_reached": _reached(model, each, dataset, network)} for each in pairs}
    return scores


def _property_scores(
    model: Network, codes: np.ndarray, direction: Direction, measured: list[Direction], network: Classifier | None
) -> dict[str, float]:
    """Spearman between amounts asked and measured; gain; leakage into other properties and class kept at 1 sd."""
    still = inference.decode(model, codes)
    pictures = {amount: inference.decode(model, direction.moved(codes, amount)) for amount in AMOUNTS}
    before = {each.name: each.values(still) for each in measured}
    changes = {
        each.name: {amount: each.change(before[each.name], picture) for amount, picture in pictures.items()}
        for each in measured
    }
    answers = list(changes[direction.name].values())
    asked, answered = np.repeat(AMOUNTS, len(codes)), np.concatenate(answers)
    scores = {
        "spearman": _spearman(asked, answered),
        "spearman_per_image": float(np.mean([_spearman(AMOUNTS, each) for each in np.transpose(answers)])),
        "gain": gain(answers),
    }
    others = [each.name for each in measured if each is not direction]
    if others:
        scores["leakage"] = float(max(np.abs(np.mean(changes[name][1.0] - changes[name][-1.0])) / 2 for name in others))
    if network is not None:
        classes = classifier.classify(network, still)
        kept = [classifier.classify(network, pictures[amount]) == classes for amount in (-1.0, 1.0)]
        scores["class_kept"] = float(np.mean(kept))
    return scores


def _reached(model: Network, pair: Direction, dataset: Dataset, network: Classifier) -> float:
    """The share of test images of the first class that the judge takes for the second after the whole way."""
    start, end = ends(pair, dataset.classes)
    assert dataset.test.labels is not None  # noqa: S101 (there are no pairs without)
    images = dataset.test.take(np.flatnonzero(dataset.test.labels == start)[:_SCORED_IMAGES])
    if not len(images):
        return 0.0
    arrived = inference.decode(model, pair.moved(inference.all_codes(model, images), ACROSS))
    return float((classifier.classify(network, arrived) == end).mean())


def ends(pair: Direction, classes: Sequence[str]) -> tuple[int, int]:
    """The classes that a direction between classes leads from and to; their names may hold `-to-` themselves."""
    places = itertools.permutations(range(len(classes)), 2)
    return next((one, other) for one, other in places if pair.name == f"{classes[one]}-to-{classes[other]}")


def read_table(path: Path, dataset: Dataset) -> dict[str, np.ndarray]:
    """The columns of numbers of a CSV with a header and a row for every image of the source, in its order.

    Raises:
        DataError: no such file, another number of rows, names that are unfit or not distinct, a value that is not a
            finite number, or a column whose mean and spread are not finite or that does not vary.
    """
    try:
        # Spreadsheets put a byte order mark first.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, names = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from None
    if len(rows) != dataset.source_count:
        raise DataError(
            f"{path} needs a row for each of the {dataset.source_count} images of the source, got {len(rows)}"
        )
    _refuse_names(names, path)
    try:
        columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} needs a number in every cell: {error}") from None
    bad = [name for name, values in columns.items() if not np.isfinite(values).all()]
    if bad:
        raise DataError(f"{path} needs finite numbers; not so in {', '.join(bad)}")
    found = {name: values[dataset.train.positions][:_FITTED_IMAGES] for name, values in columns.items()}
    _refuse_spreads(found, path)
    return found


def _refuse_spreads(columns: Mapping[str, np.ndarray], table: Path) -> None:
    """Raise if a column has a mean or a spread that is no number, or no spread."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        spreads = {name: values.std() for name, values in columns.items()}
        wide = [name for name, values in columns.items() if not np.isfinite((values.mean(), spreads[name])).all()]
    if wide:
        raise DataError(
            f"{table} needs numbers whose mean and spread are finite, got too large ones in {', '.join(wide)}: "
            "divide these columns by a constant"
        )
    if still := [name for name, values in columns.items() if not (np.ptp(values) and spreads[name])]:
        raise DataError(f"{table} needs numbers that differ between training images; not so in {', '.join(still)}")


def _refuse_names(columns: Sequence[str], table: Path) -> None:
    """Raise if a column has the name of another or of a built-in direction, or cannot name a picture."""
    expected = f"{table} needs columns named in letters, digits, '.', '_', '-' and spaces, unlike ours"
    for name in columns:
        if not _NAME.fullmatch(name) or name in shape_measures.MEASURES or "-to-" in name:
            raise DataError(f"{expected} ({', '.join(shape_measures.MEASURES)}, A-to-B); got {short_repr(name)}")
        if len(name) > _LONGEST_NAME:
            raise DataError(
                f"{table} needs column names of at most {_LONGEST_NAME} characters, got one of {len(name)}: "
                f"shorten {name[:_LONGEST_NAME]!r}…"
            )
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(f"{table} needs columns of different names, got several of {', '.join(twice)}: rename them")


def _spearman(asked: Sequence[float] | np.ndarray, answered: np.ndarray) -> float:
    """The rank correlation; 0 where nothing changes, which has none."""
    if not np.ptp(answered):
        return 0.0
    result: Any = spearmanr(asked, answered)
    return float(result.statistic)
