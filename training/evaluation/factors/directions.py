"""Directions in latent space along which one property of the image changes (Larsen et al. 2016).

A vector is found by regression of codes on properties. Where a direction depends on where one stands, it is a matrix
too: the code follows dz/dt = matrix z + vector, as `bundle.density.moves` does.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.linalg import logm

from bundle.density.latent_arrays import MAX_COMPONENTS
from bundle.density.moves import Move
from training.cpu import one_blas_thread
from training.evaluation import inference
from training.evaluation.factors import shape_measures
from training.models.families import Network

AMOUNTS = (-1.0, -0.5, 0.5, 1.0)
# Standard deviations between the middles of two classes: that of as many zeros as ones is a half.
ACROSS = 2.0
_LEAST_GAIN = 0.2
_CALIBRATED_IMAGES = 2_000
# Classes are no Gaussians: in the tails of one are codes of other classes. Chosen on validation images of MNIST: of 1,
# 0.9, 0.8 and 0.7 the largest with which at least 90 % of every class arrive.
_NARROWED = 0.8
# Codes of a class for each number of a code: fewer say too little about its covariance.
_CODES_PER_AXIS = 3
# Of the mean variance, so that a unit that is dead in a class has an inverse.
_RIDGE = 1e-3


@dataclasses.dataclass(frozen=True)
class Direction:
    """`vector` (D,) and `matrix` (D, D) move an attribute by one standard deviation; `mean`, `spread`: of training."""

    name: str
    vector: np.ndarray
    mean: float
    spread: float
    matrix: np.ndarray | None = None

    def moved(self, codes: np.ndarray, amount: float) -> np.ndarray:
        """Codes float32 (N, D) or (N, h, w, c) moved by an amount; a direction of c channels everywhere."""
        matrix = None if self.matrix is None else amount * self.matrix
        rows = codes.reshape(-1, len(self.vector))
        return Move(amount * self.vector, matrix).of(rows).astype(np.float32).reshape(codes.shape)

    def scaled(self, factor: float) -> "Direction":
        """The same in steps so many times as long."""
        matrix = None if self.matrix is None else factor * self.matrix
        return dataclasses.replace(self, vector=factor * self.vector, matrix=matrix)

    def values(self, pictures: torch.Tensor) -> np.ndarray:
        """(N, C, H, W) to (N,): the property, in its own unit."""
        return shape_measures.MEASURES[self.name](pictures.mean(1).numpy())

    def change(self, before: np.ndarray, after: torch.Tensor) -> np.ndarray:
        """Values (N,) before and pictures (N, C, H, W) after: by how many standard deviations the property changed."""
        return (self.values(after) - before) / self.spread


@one_blas_thread
def regress(codes: np.ndarray, values: Mapping[str, np.ndarray], labels: np.ndarray | None) -> list[Direction]:
    """Codes (N, D) on attributes (N,) each, all at once and within classes: partial effects, not mixtures.

    So properties that occur together are separated, and the class does not change.
    """
    table = np.stack(list(values.values()), 1)
    spreads = table.std(0)
    scaled = _centred(table / np.where(spreads > 0, spreads, 1), labels)
    vectors, *_ = np.linalg.lstsq(scaled, _centred(codes, labels), rcond=None)
    columns = zip(values, vectors, table.mean(0), spreads, strict=True)
    return [Direction(name, vector, float(mean), float(spread)) for name, vector, mean, spread in columns]


def follow(model: Network, codes: np.ndarray, direction: Direction, others: Sequence[Direction]) -> Direction:
    """The direction, at each place, in which codes (N, D) go when their decoded pictures are changed as pictures.

    By least squares of where the encoder then puts them, less the code, on the code; what that changes other measured
    properties by is taken back along their directions. A property that no operation on pictures changes, or that hardly
    moves along what was found, coloured pictures, wide codes and spatial ones keep their vector.
    """
    change = shape_measures.CHANGES.get(direction.name)
    if change is None or not _is_small(codes) or model.image_shape[2] != 1:
        return direction
    answers, rows = np.zeros(codes.shape), inference.rows_at_once(model.image_shape)
    for first in range(0, len(codes), rows):
        part = codes[first : first + rows]
        pictures = inference.decode(model, part)[:, 0].numpy()
        for amount in AMOUNTS:
            changed = torch.from_numpy(change(pictures, amount * direction.spread)[:, np.newaxis]).float()
            answers[first : first + rows] += amount * (inference.codes(model, changed).numpy() - part)
    matrix, vector = _affine(codes, answers / np.dot(AMOUNTS, AMOUNTS))
    followed = dataclasses.replace(direction, vector=vector, matrix=matrix)
    leaks = sum(_response(model, codes, followed, other) * other.vector for other in others)
    followed = dataclasses.replace(followed, vector=vector - leaks)
    length = _response(model, codes, followed, followed)
    return followed.scaled(1 / length) if length > _LEAST_GAIN else direction


@one_blas_thread
def _affine(codes: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, D) to the matrix (D, D) and vector (D,) that come closest to answers (N, D), by least squares."""
    starts = np.pad(codes.astype(np.float64), ((0, 0), (0, 1)), constant_values=1)
    found, *_ = np.linalg.lstsq(starts.T @ starts, starts.T @ answers, rcond=None)
    return found[:-1].T, found[-1]


def calibrate(model: Network, codes: np.ndarray, direction: Direction) -> Direction:
    """The direction in steps that change the decoded property by one standard deviation on training codes (N, D).

    A regression falls short of that by as much as the code leaves the property unexplained. A property that is not
    measured on images, or hardly moves, keeps its regression.
    """
    if direction.name not in shape_measures.MEASURES:
        return direction
    length = _response(model, codes, direction, direction)
    return direction.scaled(1 / length) if length > _LEAST_GAIN else direction


def _response(model: Network, codes: np.ndarray, moved: Direction, measured: Direction) -> float:
    """By how many of its standard deviations one property changes for each that codes (N, D) move along another."""
    codes = codes[:_CALIBRATED_IMAGES]
    before = measured.values(inference.decode(model, codes))
    return gain([measured.change(before, inference.decode(model, moved.moved(codes, amount))) for amount in AMOUNTS])


def gain(changes: Sequence[np.ndarray]) -> float:
    """Changes (N,) measured at each of the amounts to the slope of change on amount: 1 where one asked is one got."""
    return float(np.dot(AMOUNTS, [each.mean() for each in changes]) / np.dot(AMOUNTS, AMOUNTS))


@one_blas_thread
def class_pairs(
    codes: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...], *, straight: bool = False
) -> list[Direction]:
    """From each class towards the one whose codes lie nearest, as `4-to-9`.

    The whole way takes the Gaussian of the one's codes (N, D) to that of the other's, but a fifth narrower; `straight`,
    or where codes are wide, few or all the same, it is the difference of their means.
    """
    if labels is None or len(set(labels.tolist())) < 2:  # noqa: PLR2004 (a pair)
        return []
    present = sorted(set(labels.tolist()))
    members = [codes[labels == label] for label in present]
    means = np.stack([each.mean(0) for each in members])
    gaps = np.linalg.norm(means[:, np.newaxis] - means, axis=2) + np.diag(np.full(len(present), np.inf))
    return [
        _towards(
            f"{classes[present[one]]}-to-{classes[present[other]]}", members[one], members[other], straight=straight
        )
        for one, other in enumerate(gaps.argmin(1))
    ]


def _towards(name: str, start: np.ndarray, end: np.ndarray, *, straight: bool) -> Direction:
    """Codes (N, D) and (M, D) of two classes to the direction whose whole way carries the one to the other."""
    vector, matrix = (end.mean(0) - start.mean(0)) / ACROSS, None
    enough = min(len(start), len(end)) >= _CODES_PER_AXIS * start.shape[1]
    spreads = any(np.ptp(each, axis=0).any() for each in (start, end))
    if not straight and _is_small(start) and enough and spreads:
        size = start.shape[1]
        middle = end.mean(0)
        generator = _logarithm(transport(start, middle + _NARROWED * (end - middle))) / ACROSS
        vector, matrix = generator[:size, size], generator[:size, :size]
    return Direction(name, vector, 0.5, 0.5, matrix)


def transport(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Codes (N, D) and (M, D) to the affine map (D + 1, D + 1), in homogeneous coordinates, between their Gaussians.

    Of all maps that carry the one Gaussian to the other it moves codes least (optimal transport; Gelbrich 1990). One of
    them at least must have some spread.
    """
    size = start.shape[1]
    before, after = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (start, end))
    ridge = _RIDGE * np.trace(before + after) / (2 * size) * np.eye(size)
    root = _root(before + ridge)
    inverse = np.linalg.inv(root)
    found = np.eye(size + 1)
    found[:size, :size] = inverse @ _root(root @ (after + ridge) @ root) @ inverse
    found[:size, size] = end.mean(0) - found[:size, :size] @ start.mean(0)
    return found


def _root(matrix: np.ndarray) -> np.ndarray:
    """Of a symmetric, non-negative matrix (D, D)."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def _logarithm(matrix: np.ndarray) -> np.ndarray:
    """Of a map whose linear part is symmetric and positive: it is real."""
    return np.real(np.asarray(logm(matrix)))


def _is_small(codes: np.ndarray) -> bool:
    """Whether there is a matrix for codes: vectors (N, D) of at most 64 numbers."""
    return codes.ndim == 2 and codes.shape[1] <= MAX_COMPONENTS  # noqa: PLR2004 (vectors)


def _centred(values: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """(N, A) minus the mean of each image's class; without classes, minus the mean."""
    if labels is None:
        return values - values.mean(0)
    centred_values = values.astype(np.float64).copy()
    for label in np.unique(labels):
        centred_values[labels == label] -= centred_values[labels == label].mean(0)
    return centred_values
