"""Directions in latent space: move a code along one, and one property of the image changes (Larsen et al. 2016).

A direction comes from a regression of codes on all properties at once, within classes: so properties that occur
together are separated, and the class does not change.
"""

import csv
import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from bundle.latents import LatentStatistics
from training import checkpoint
from training.checkpoint import Checkpoint
from training.cpu import one_blas_thread
from training.data.dataset import Dataset
from training.errors import CheckpointError, DataError
from training.evaluation import classifier, inference, shape_measures
from training.evaluation.classifier import Classifier
from training.models.families import Network

_FITTED_IMAGES = 10_000
_CALIBRATED_IMAGES = 2_000
_SCORED_IMAGES = 500
_AMOUNTS = (-1.0, -0.5, 0.5, 1.0)
_LEAST_GAIN = 0.2
# Standard deviations between the middles of two classes: that of as many zeros as ones is a half.
ACROSS = 2.0
_NAME = re.compile(r"[\w.][\w .-]*")
# What a direction of a measured property should reach.
WANTED = {"spearman": 0.9, "class_kept": 0.9}

Scores = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Direction:
    """`vector` (D,) moves an attribute by one standard deviation; `mean` and `spread` are those of training images."""

    name: str
    vector: np.ndarray
    mean: float
    spread: float


def fit(trained: Checkpoint, dataset: Dataset, table: Path | None = None) -> tuple[Checkpoint, Scores]:
    """The checkpoint with directions, and the scores of each.

    Raises:
        CheckpointError: the model has no latent space, or was trained on other data.
        DataError: the table is unusable.
    """
    if not trained.model.latent_shape:
        raise CheckpointError(f"{trained.meta['name']} has no latent space: attributes need an autoencoder with a code")
    if trained.latents is None:
        raise CheckpointError(
            f"{trained.meta['name']} has no latent statistics, which attributes need; report.md says why"
        )
    if not checkpoint.is_data_of(dataset, trained.meta["data"]["sha256"]):
        raise CheckpointError(f"{trained.meta['name']} was trained on other data: give the data that it was trained on")
    sample = dataset.train.take(slice(_FITTED_IMAGES))
    codes = inference.all_codes(trained.model, sample)
    vectors = _vectors(trained.model, codes)
    measured = {name: measure(shape_measures.grey(sample.images)) for name, measure in shape_measures.MEASURES.items()}
    # What is the same of all images has no direction.
    varying = {name: values for name, values in measured.items() if np.ptp(values)}
    columns = read_table(table, dataset) if table else {}
    regressed = regress(vectors, varying | columns, sample.labels) if varying or columns else []
    found = [
        *(_calibrated(trained.model, codes[:_CALIBRATED_IMAGES], each) for each in regressed),
        *class_pairs(vectors, sample.labels, dataset.classes),
    ]
    if not found:
        raise DataError(f"{dataset.name}: no property of the images varies, and there are no two classes: give --csv")
    scores = _score(trained.model, dataset, found)
    return dataclasses.replace(trained, latents=_with_directions(trained, found)), scores


@one_blas_thread
def regress(codes: np.ndarray, values: Mapping[str, np.ndarray], labels: np.ndarray | None) -> list[Direction]:
    """Codes (N, D) on attributes (N,) each, all at once and within classes: partial effects, not mixtures."""
    table = np.stack(list(values.values()), 1)
    spreads = table.std(0)
    scaled = _centred(table / np.where(spreads > 0, spreads, 1), labels)
    vectors, *_ = np.linalg.lstsq(scaled, _centred(codes, labels), rcond=None)
    columns = zip(values, vectors, table.mean(0), spreads, strict=True)
    return [Direction(name, vector, float(mean), float(spread)) for name, vector, mean, spread in columns]


def _calibrated(model: Network, codes: np.ndarray, direction: Direction) -> Direction:
    """The direction in steps that change the decoded property by one standard deviation on training codes (N, D).

    A regression falls short of that by as much as the code leaves the property unexplained. A property that is not
    measured on images, or hardly moves, keeps its regression.
    """
    if direction.name not in shape_measures.MEASURES:
        return direction
    before = values(direction, inference.decode(model, codes))
    changes = [
        _change(direction, before, inference.decode(model, _moved(codes, direction, amount))) for amount in _AMOUNTS
    ]
    length = _gain(changes)
    return dataclasses.replace(direction, vector=direction.vector / length) if length > _LEAST_GAIN else direction


def _gain(changes: Sequence[np.ndarray]) -> float:
    """Changes (N,) measured at each of the amounts to the slope of change on amount: 1 where one asked is one got."""
    return float(np.dot(_AMOUNTS, [each.mean() for each in changes]) / np.dot(_AMOUNTS, _AMOUNTS))


def _moved(codes: np.ndarray, direction: Direction, amount: float) -> np.ndarray:
    """Codes float32 (N, D) or (N, h, w, c) moved by an amount; a direction of c channels everywhere."""
    vector = direction.vector.astype(np.float32)
    step = vector if vector.size == codes.shape[-1] else vector.reshape(codes.shape[1:])
    return codes + np.float32(amount) * step


def _vectors(model: Network, codes: np.ndarray) -> np.ndarray:
    """Codes to float64 (N, D), what directions are found in: of free sizes their mean over positions."""
    wide = codes.astype(np.float64)
    return wide.mean((1, 2)) if model.is_free else wide.reshape(len(wide), -1)


def class_pairs(codes: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...]) -> list[Direction]:
    """From each class towards the one whose codes lie nearest, as `4-to-9`: the difference of their mean codes."""
    if labels is None or len(set(labels.tolist())) < 2:  # noqa: PLR2004 (a pair)
        return []
    present = sorted(set(labels.tolist()))
    means = np.stack([codes[labels == label].mean(0) for label in present])
    gaps = np.linalg.norm(means[:, np.newaxis] - means, axis=2) + np.diag(np.full(len(present), np.inf))
    return [
        Direction(
            f"{classes[present[one]]}-to-{classes[present[other]]}", (means[other] - means[one]) / ACROSS, 0.5, 0.5
        )
        for one, other in enumerate(gaps.argmin(1))
    ]


def _centred(values: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """(N, A) minus the mean of each image's class; without classes, minus the mean."""
    if labels is None:
        return values - values.mean(0)
    centred_values = values.astype(np.float64).copy()
    for label in np.unique(labels):
        centred_values[labels == label] -= centred_values[labels == label].mean(0)
    return centred_values


def _with_directions(trained: Checkpoint, found: list[Direction]) -> LatentStatistics | None:
    """The latent statistics with these directions in place of others."""
    return trained.latents and dataclasses.replace(
        trained.latents,
        attribute_names=np.array([each.name for each in found], np.str_),
        attribute_directions=np.stack([each.vector for each in found]),
        attribute_means=np.array([each.mean for each in found]),
        attribute_spreads=np.array([each.spread for each in found]),
    )


def _score(model: Network, dataset: Dataset, found: list[Direction]) -> Scores:
    """What moving test images along each direction does, as far as it can be measured on images."""
    images = dataset.test.take(slice(_SCORED_IMAGES))
    codes = inference.all_codes(model, images)
    network = classifier.find(dataset)
    measured = [each for each in found if each.name in shape_measures.MEASURES]
    scores = {each.name: _property_scores(model, codes, each, measured, network) for each in measured}
    pairs = [each for each in found if "-to-" in each.name and each.name not in scores]
    if network is not None and images.labels is not None:
        labels = images.labels
        scores |= {
            each.name: {"class_reached": _reached(model, codes, labels, each, dataset, network)} for each in pairs
        }
    return scores


def _property_scores(
    model: Network, codes: np.ndarray, direction: Direction, measured: list[Direction], network: Classifier | None
) -> dict[str, float]:
    """Spearman between amounts asked and measured; gain; leakage into other properties and class kept at 1 sd."""
    still = inference.decode(model, codes)
    pictures = {amount: inference.decode(model, _moved(codes, direction, amount)) for amount in _AMOUNTS}
    before = {each.name: values(each, still) for each in measured}
    changes = {
        each.name: {amount: _change(each, before[each.name], picture) for amount, picture in pictures.items()}
        for each in measured
    }
    answers = list(changes[direction.name].values())
    asked, answered = np.repeat(_AMOUNTS, len(codes)), np.concatenate(answers)
    scores = {
        "spearman": _spearman(asked, answered),
        "spearman_per_image": float(np.mean([_spearman(_AMOUNTS, each) for each in np.transpose(answers)])),
        "gain": _gain(answers),
    }
    others = [each.name for each in measured if each is not direction]
    if others:
        scores["leakage"] = float(max(np.abs(np.mean(changes[name][1.0] - changes[name][-1.0])) / 2 for name in others))
    if network is not None:
        classes = classifier.classify(network, still)
        kept = [classifier.classify(network, pictures[amount]) == classes for amount in (-1.0, 1.0)]
        scores["class_kept"] = float(np.mean(kept))
    return scores


def values(measured: Direction, pictures: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) to (N,): a property, in its own unit."""
    return shape_measures.MEASURES[measured.name](pictures.mean(1).numpy())


def _change(measured: Direction, before: np.ndarray, after: torch.Tensor) -> np.ndarray:
    """Values (N,) before and pictures (N, C, H, W) after: by how many standard deviations a property changed."""
    return (values(measured, after) - before) / measured.spread


def _reached(
    model: Network, codes: np.ndarray, labels: np.ndarray, pair: Direction, dataset: Dataset, network: Classifier
) -> float:
    """The share of images of the first class that the judge takes for the second after the whole way."""
    start, end = ends(pair, dataset.classes)
    arrived = _moved(codes[labels == start], pair, ACROSS)
    return (
        float((classifier.classify(network, inference.decode(model, arrived)) == end).mean()) if len(arrived) else 0.0
    )


def ends(pair: Direction, classes: Sequence[str]) -> tuple[int, int]:
    """The classes that a direction between classes leads from and to; their names may hold `-to-` themselves."""
    places = itertools.permutations(range(len(classes)), 2)
    return next((one, other) for one, other in places if pair.name == f"{classes[one]}-to-{classes[other]}")


def read_table(path: Path, dataset: Dataset) -> dict[str, np.ndarray]:
    """The columns of numbers of a CSV with a header and a row for every image of the source, in its order.

    Raises:
        DataError: no such file, another number of rows, or a value that is not a finite number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from None
    if len(rows) != dataset.source_count:
        raise DataError(
            f"{path} needs a row for each of the {dataset.source_count} images of the source, got {len(rows)}"
        )
    try:
        columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} needs a number in every cell: {error}") from None
    _refuse_names(columns, path)
    bad = [name for name, values in columns.items() if not np.isfinite(values).all()]
    if bad:
        raise DataError(f"{path} needs finite numbers; not so in {', '.join(bad)}")
    found = {name: values[dataset.train.positions][:_FITTED_IMAGES] for name, values in columns.items()}
    if still := [name for name, values in found.items() if not np.ptp(values)]:
        raise DataError(f"{path} needs numbers that differ between training images; not so in {', '.join(still)}")
    return found


def _refuse_names(columns: Iterable[str], table: Path) -> None:
    """Raise if a column has the name of a built-in direction, or cannot name a picture."""
    expected = f"{table} needs columns named in letters, digits, '.', '_', '-' and spaces, unlike ours"
    for name in columns:
        if not _NAME.fullmatch(name) or name in shape_measures.MEASURES or "-to-" in name:
            raise DataError(f"{expected} ({', '.join(shape_measures.MEASURES)}, A-to-B); got {name!r}")


def _spearman(asked: Sequence[float] | np.ndarray, answered: np.ndarray) -> float:
    """The rank correlation; 0 where nothing changes, which has none."""
    if not np.ptp(answered):
        return 0.0
    result: Any = spearmanr(asked, answered)
    return float(result.statistic)
