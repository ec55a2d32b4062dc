"""Figures of anomaly detection: images, masks, heat maps with boxes of what is above the threshold."""

import numpy as np
from autoencoder.v1 import regions
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bundle.images import element_types
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset
from training.errors import UnavailableError
from training.evaluation import detection
from training.figures.style import INK, WARM, legible, show

_COLUMNS = 8
_FADED = 0.35
# Neither is visible on every picture, both on none.
_BOXED = 12


def found_defects(name: str, dataset: Dataset, trained: Checkpoint) -> Figure:
    """Test images of every kind above their masks and the maps, each with the boxes of what is above the threshold."""
    judged = dataset.inspection
    if judged is None or judged.test is None or trained.held_out_scores is None:
        raise UnavailableError("there are no test images")
    rows = _spread(judged.kinds, len(judged.test))
    images = judged.test[rows]
    found = detection.find(trained.model, images, trained.held_out_scores)
    lines = 2 + (judged.masks is not None)
    figure = Figure(figsize=(_COLUMNS * 1.35 + 0.9, lines * 1.45 + 0.6), layout="constrained")
    axes = figure.subplots(lines, len(rows), squeeze=False)
    low, high = trained.held_out_scores.map_low, found.map_threshold or float(found.maps.max())
    for column, (row, image, heat) in enumerate(zip(rows, images, found.maps, strict=True)):
        show(axes[0, column], element_types.floats(image))
        if judged.kinds:
            axes[0, column].set_title(legible(judged.kinds[row]), fontsize=10)
        if judged.masks is not None:
            show(axes[1, column], judged.masks[row][..., np.newaxis].astype(float))
        _overlay(axes[-1, column], image, np.clip((heat - low) / max(2 * (high - low), 1e-12), 0, 1))
        if found.map_threshold is not None:
            _boxes(axes[-1, column], heat, found.map_threshold)
            alarm = found.scores[column] > np.float32(found.threshold or 0)
            axes[-1, column].set_xlabel("alarm" if alarm else "normal", fontsize=10, color=WARM if alarm else INK)
    for axis, label in zip(axes[:, 0], ("image", "mask", "map") if lines > 2 else ("image", "map"), strict=True):  # noqa: PLR2004 (with masks)
        axis.set_ylabel(label)
    figure.suptitle(f"{name}: test images of {dataset.name}")
    return figure


def _spread(kinds: tuple[str, ...], count: int) -> np.ndarray:
    """Positions of up to eight images, of as many kinds as there are."""
    if not kinds:
        return np.linspace(0, count - 1, min(_COLUMNS, count)).astype(np.intp)
    names = sorted(set(kinds))
    by_kind = [[row for row, kind in enumerate(kinds) if kind == name] for name in names]
    order = [rows[turn] for turn in range(max(map(len, by_kind))) for rows in by_kind if turn < len(rows)]
    return np.array(sorted(order[:_COLUMNS], key=lambda row: (names.index(kinds[row]), row)), np.intp)


def _overlay(axis: Axes, image: np.ndarray, heat: np.ndarray) -> None:
    """The image in grey under its map, 0 to 1: where that is 0 nothing is seen of it."""
    grey = element_types.floats(image).mean(-1, keepdims=True)
    colour = np.stack([np.ones_like(heat), 1 - heat, np.zeros_like(heat)], -1)
    shown = grey * _FADED + 0.3
    show(axis, shown * (1 - heat[..., np.newaxis]) + colour * heat[..., np.newaxis])


def _boxes(axis: Axes, heat: np.ndarray, threshold: float) -> None:
    for region in regions.find(heat[np.newaxis], threshold)[:_BOXED]:
        corner = region.left - 1.5, region.top - 1.5
        axis.add_patch(Rectangle(corner, region.width + 2, region.height + 2, fill=False, edgecolor=WARM, linewidth=1))
