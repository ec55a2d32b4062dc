"""The matplotlib style of all figures: colours, type, tiles, and reproducible PNG files."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 13,
}
# Okabe & Ito's palette, distinguishable for colour-blind readers, and two more colours for ten classes.
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#000000",
    "#B8A800",
    "#7F3C8D",
    "#8C8C8C",
)
INK, WARM, PALE = PALETTE[0], PALETTE[3], "#D0D0D0"
_DOTS_PER_INCH = 120


def strip(pictures: np.ndarray) -> np.ndarray:
    """(N, C, H, W) side by side: (H, N W, C)."""
    return np.concatenate(list(pictures.transpose(0, 2, 3, 1)), axis=1)


def show(axis: Axes, picture: np.ndarray) -> None:
    """(H, W, C) in 0 to 1, grey or colour, without ticks."""
    axis.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; the same figure, the same bytes."""
    FigureCanvasAgg(figure).print_figure(path, dpi=_DOTS_PER_INCH, metadata={"Software": None})
