"""Figures of a latent space: scatter of codes, decoded plane, interpolations, KL by unit, attribute sweeps."""

from collections.abc import Callable

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from bundle.latents import LatentStatistics
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset
from training.errors import UnavailableError
from training.evaluation import classifier, inference
from training.figures.style import INK, PALE, PALETTE, legible, show, strip
from training.models.families import Network

_SCATTERED = 5_000
GRID = 15
# How much of each axis of the plane is cut off at each end; less where a class lies further out. Between them steps are
# of equal probability (Kingma & Welling 2013, appendix A).
TAILS = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
# A class has a region if this share of the reconstructions is of it.
_REGION = 0.01
# Between the names of two classes, as a share of the picture.
_LABEL_GAP = 0.04
WAYS, STEPS = 5, 12
TRAVERSED, PLACES = 10, np.linspace(-3, 3, 11)
EDITED, AMOUNTS = 6, np.linspace(-2, 2, 9)


def scatter(name: str, dataset: Dataset, trained: Checkpoint) -> Figure:
    """Test codes by class; of a code with more than two values, its two leading principal components.

    Raises:
        UnavailableError: those components are not known.
    """
    images = dataset.test.take(slice(_SCATTERED))
    codes = inference.all_codes(trained.model, images)
    plane = _on_plane(inference.vectors(trained.model, codes), trained.latents)
    figure = Figure(figsize=(7.5, 6.2), layout="constrained")
    axis = figure.subplots()
    if images.labels is None:
        axis.scatter(*plane.T, s=4, color=INK, alpha=0.5, linewidths=0)
    else:
        _by_class(axis, plane, images.labels, dataset.classes)
    what = "latent" if plane.shape[1] == trained.model.latent_size else "principal component"
    axis.set(xlabel=f"{what} 1", ylabel=f"{what} 2", title=f"{name}: codes of {len(images):,} test images")
    axis.set_aspect("equal", "datalim")
    return figure


def _on_plane(codes: np.ndarray, latents: LatentStatistics | None) -> np.ndarray:
    """Codes (N, D) to (N, 2)."""
    if codes.shape[1] == 2:  # noqa: PLR2004 (a plane)
        return codes
    if latents is None:
        raise UnavailableError("principal components need the latent statistics")
    return (codes - latents.mean) @ latents.components[:2].T


def _by_class(axis: Axes, plane: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    size = float(np.clip(8_000 / len(plane), 4, 28))
    if (rest := labels >= len(PALETTE)).any():
        axis.scatter(*plane[rest].T, s=size, color=PALE, alpha=0.6, linewidths=0, label="others")
    titles = [legible(title) for title in classes[: len(PALETTE)]]
    for label, title in enumerate(titles):
        chosen = plane[labels == label]
        axis.scatter(*chosen.T, s=size, color=PALETTE[label], alpha=0.6, linewidths=0, label=title)
    # Names in the middle of each cloud too, for readers who cannot distinguish the colours.
    present = [label for label in range(min(len(classes), len(PALETTE))) if (labels == label).any()]
    middles = np.stack([np.median(plane[labels == label], 0) for label in present])
    for label, place in zip(present, apart(middles, _LABEL_GAP * np.ptp(plane, 0).max()), strict=True):
        text = axis.text(place[0], place[1], titles[label], weight="bold", ha="center", va="center", fontsize=13)
        text.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])
    axis.legend(frameon=False, markerscale=4, loc="center left", bbox_to_anchor=(1, 0.5))


def apart(places: np.ndarray, gap: float) -> np.ndarray:
    """Places (N, 2), moved away from each other until no two are much closer than the gap."""
    # Two labels in the same place need a direction to part in.
    places = places + 1e-6 * gap * np.arange(len(places))[:, np.newaxis]
    for _ in range(100):
        ways = places[:, np.newaxis] - places
        distances = np.linalg.norm(ways, axis=2)
        pushes = np.maximum(gap - distances, 0) / 4 / np.maximum(distances, np.finfo(float).tiny)
        places += (ways * pushes[..., np.newaxis]).sum(1)
    return places


def plane(name: str, dataset: Dataset, model: Network) -> Figure:
    """What a two-dimensional code decodes to, on a grid of equal probability that shows every class with a region."""
    codes = inference.all_codes(model, dataset.test.take(slice(_SCATTERED)))

    def decoded(tail: float) -> torch.Tensor:
        return inference.decode(model, _grid(None if model.variational else codes, tail))

    tail, network = TAILS[0], classifier.find(dataset)
    if network is not None:
        reconstructed = np.bincount(classifier.classify(network, inference.decode(model, codes)))
        regions = set(np.flatnonzero(reconstructed >= _REGION * len(codes)).tolist())
        tail = widest_tail(lambda each: set(classifier.classify(network, decoded(each)).tolist()), regions)
    pictures = decoded(tail).numpy()
    figure = Figure(figsize=(7.5, 7.8), layout="constrained")
    show(figure.subplots(), np.concatenate([strip(row) for row in np.split(pictures, GRID)]))
    figure.suptitle(
        f"{name}: the decoded plane\n{tail:.3g} to {1 - tail:.3g} of each latent, in steps of equal probability"
    )
    return figure


def widest_tail(classes_seen: Callable[[float], set[int]], regions: set[int]) -> float:
    """The largest share that may be cut off at each end of the axes, so that as many regions as possible are seen."""
    seen = {tail: len(regions & classes_seen(tail)) for tail in TAILS}
    return max(TAILS, key=lambda tail: (seen[tail], tail))


def _grid(codes: np.ndarray | None, tail: float) -> np.ndarray:
    """Points (GRID * GRID, 2), row by row from the top: quantiles of codes (N, 2), or of N(0, 1) without them."""
    probabilities = np.linspace(tail, 1 - tail, GRID)
    if codes is None:
        across = down = norm.ppf(probabilities)
    else:
        across, down = np.quantile(codes, probabilities, axis=0).T
    return np.array([[x, y] for y in down[::-1] for x in across], np.float32)


def interpolations(name: str, dataset: Dataset, trained: Checkpoint) -> Figure:
    """Straight ways between the codes of test images; both ends are reconstructions."""
    codes = inference.all_codes(trained.model, dataset.test.take(inference.spread(dataset.test, 2 * WAYS)))
    shares = np.linspace(0, 1, STEPS, dtype=np.float32).reshape(STEPS, *[1] * (codes.ndim - 1))
    # A small test split has fewer pairs; a single image goes nowhere.
    half = len(codes) // 2
    ways = [codes[i] + shares * (codes[i + half] - codes[i]) for i in range(max(half, 1))]
    figure = Figure(figsize=(STEPS * 0.8, len(ways) * 0.8 + 0.5), layout="constrained")
    show(figure.subplots(), np.concatenate([strip(inference.decode(trained.model, way).numpy()) for way in ways]))
    figure.suptitle(f"{name}: from one test image to another, in a straight line through latent space")
    return figure


def divergences(name: str, dataset: Dataset, model: Network) -> Figure:
    """The KL divergence of each latent, largest first: units that stay near 0 carry nothing.

    Of a spatial code, that of each channel, over its positions together.
    """
    with torch.no_grad():
        found = [model.encode(images).kl() for images in inference.batches(dataset.test)]
    divergence = torch.cat([each.flatten(2).sum(2) if each.ndim > 2 else each for each in found])  # noqa: PLR2004 ((N, D))
    nats = np.sort(divergence.mean(0).numpy())[::-1]
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.bar(np.arange(1, len(nats) + 1), nats, color=INK)
    what = "channel" if found[0].ndim > 2 else "latent"  # noqa: PLR2004 ((N, D))
    axis.set(xlabel=f"{what}, by rank", ylabel="KL from N(0, 1), nats", title=f"{name}: {nats.sum():.1f} nats in all")
    axis.grid(axis="y", alpha=0.25)
    return figure


def traversals(name: str, dataset: Dataset, model: Network) -> Figure:
    """The code of a test image with one latent at a time from -3 to 3: those with the largest KL divergence."""
    with torch.no_grad():
        found = [model.encode(images).kl().numpy() for images in inference.batches(dataset.test)]
    order = np.argsort(-np.concatenate(found).mean(0))[:TRAVERSED]
    codes = inference.all_codes(model, dataset.test.take(inference.spread(dataset.test, 1)))
    ways = np.tile(codes[0], (len(order), len(PLACES), 1))
    for way, latent in zip(ways, order, strict=True):
        way[:, latent] = PLACES
    figure = Figure(figsize=(len(PLACES) * 0.8, len(order) * 0.8 + 0.5), layout="constrained")
    show(figure.subplots(), np.concatenate([strip(inference.decode(model, way).numpy()) for way in ways]))
    figure.suptitle(f"{name}: one latent a row, from {PLACES[0]:g} to {PLACES[-1]:g}; the largest KL divergence on top")
    return figure


def sweep(name: str, dataset: Dataset, trained: Checkpoint, attribute: int) -> Figure:
    """Test images moved along an attribute by -2 to 2 standard deviations; the middle column is the reconstruction."""
    model, statistics = trained.model, trained.latents
    assert statistics is not None  # noqa: S101 (attributes are theirs)
    codes = inference.all_codes(model, dataset.test.take(inference.spread(dataset.test, EDITED)))
    rows = codes.reshape(-1, statistics.latent_size)
    ways = [statistics.move([(attribute, amount)]).of(rows).reshape(codes.shape) for amount in AMOUNTS]
    figure = Figure(figsize=(len(AMOUNTS) * 0.9, EDITED * 0.9 + 0.8), layout="constrained")
    axis = figure.subplots()
    show(axis, np.concatenate([strip(inference.decode(model, each).numpy()) for each in np.stack(ways, 1)]))
    width = dataset.image_shape[1]
    titles = [f"{amount:+g}" if amount else "0" for amount in AMOUNTS]
    axis.set_xticks((np.arange(len(AMOUNTS)) + 0.5) * width - 0.5, titles)
    axis.tick_params(length=0)
    axis.set_xlabel("standard deviations")
    figure.suptitle(name)
    return figure
