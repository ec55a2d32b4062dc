"""The photo demo's picture: a row of panels for each photograph."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from examples.demo_picture import DOTS_PER_INCH, FAINT, INK

PANEL, GAP, LABEL, MARGIN, HEAD = (3.2, 2.56), 0.12, 0.34, 0.4, 0.75  # inches


@dataclass(frozen=True)
class Panel:
    """An image (H, W, 3) with its label and a note."""

    label: str
    note: str
    image: NDArray[np.float32]


def draw(rows: Sequence[Sequence[Panel]], path: Path) -> None:
    """Draw the rows under a title into a PNG file."""
    width = 2 * MARGIN + len(rows[0]) * (PANEL[0] + GAP) - GAP
    height = HEAD + len(rows) * (PANEL[1] + LABEL + GAP) + MARGIN / 2
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white")
    at = MARGIN / width
    figure.text(at, 1 - 0.36 / height, "Hourglass", color=INK, fontsize=19, fontweight="bold", va="center")
    summary = "photographs it never saw, denoised over gRPC by a network of a few minutes"
    figure.text(at + 1.75 / width, 1 - 0.38 / height, summary, color=FAINT, fontsize=11, va="center")
    for row, panels in enumerate(rows):
        top = HEAD + row * (PANEL[1] + LABEL + GAP)
        for column, panel in enumerate(panels):
            left = MARGIN + column * (PANEL[0] + GAP)
            _panel(figure, panel, (left, top), (width, height))
    FigureCanvasAgg(figure).print_png(str(path))


def _panel(figure: Figure, panel: Panel, corner: tuple[float, float], size: tuple[float, float]) -> None:
    """An image below its label; the corner and the figure's size are in inches from the top left."""
    (left, top), (width, height) = corner, size
    line = 1 - (top + LABEL / 2) / height
    figure.text(left / width, line, panel.label, color=INK, fontsize=11, va="center")
    figure.text((left + PANEL[0]) / width, line, panel.note, color=FAINT, fontsize=10, va="center", ha="right")
    bottom = 1 - (top + LABEL + PANEL[1]) / height
    axes = figure.add_axes((left / width, bottom, PANEL[0] / width, PANEL[1] / height), xticks=[], yticks=[])
    axes.imshow(panel.image.clip(0, 1), interpolation="nearest")
    axes.spines[:].set_visible(False)
