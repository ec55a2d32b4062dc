"""The demo's picture: inputs and answers, row by row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK, FAINT, EDGE = "#1f2430", "#7b8494", "#d9dde5"
TILE, GAP, AIR, LABELS, HEAD, MARGIN = 0.74, 0.07, 0.24, 2.45, 1.05, 0.4  # inches
DOTS_PER_INCH = 160


@dataclass(frozen=True)
class Row:
    """Images (N, H, W, C) in 0…1 with a label and a note; rows of one group are drawn close together."""

    group: str
    label: str
    note: str
    images: NDArray[np.float32]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows under a title into a PNG file."""
    columns = max(len(row.images) for row in rows)
    tops = list(_tops(rows))
    width = LABELS + columns * (TILE + GAP) + MARGIN
    height = tops[-1] + TILE + MARGIN
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white")
    _title(figure, width, height)
    for row, top in zip(rows, tops, strict=True):
        _label(figure, row, top, width, height)
        for column, image in enumerate(row.images):
            box = (LABELS + column * (TILE + GAP), height - top - TILE, TILE, TILE)
            _tile(figure, image, (box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    FigureCanvasAgg(figure).print_png(str(path))


def _tops(rows: Sequence[Row]) -> Iterator[float]:
    """Distance of each row from the top edge, in inches."""
    top = HEAD
    yield top
    for before, after in pairwise(rows):
        top += TILE + (GAP if before.group == after.group else AIR)
        yield top


def _title(figure: Figure, width: float, height: float) -> None:
    at = MARGIN / width
    figure.text(at, 1 - 0.42 / height, "Hourglass", color=INK, fontsize=19, fontweight="bold", va="center")
    figure.text(
        at,
        1 - 0.75 / height,
        "trained in PyTorch, exported to ONNX, answered over gRPC",
        color=FAINT,
        fontsize=10.5,
        va="center",
    )


def _label(figure: Figure, row: Row, top: float, width: float, height: float) -> None:
    middle = height - top - TILE / 2
    figure.text(MARGIN / width, (middle + 0.11) / height, row.label, color=INK, fontsize=11, va="center")
    figure.text(MARGIN / width, (middle - 0.12) / height, row.note, color=FAINT, fontsize=9, va="center")


def _tile(figure: Figure, image: NDArray[np.float32], box: tuple[float, float, float, float]) -> None:
    axes = figure.add_axes(box, xticks=[], yticks=[])
    shown = image[..., 0] if image.shape[-1] == 1 else image
    axes.imshow(shown, cmap="gray_r" if shown.ndim == 2 else None, vmin=0, vmax=1, interpolation="nearest")  # noqa: PLR2004 (H, W)
    axes.spines[:].set_color(EDGE)
    axes.spines[:].set_linewidth(0.6)
