"""The matplotlib style of all figures: colours, type, tiles, and reproducible PNG files."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    # Names of classes are the user's: a dollar in them is no formula.
    "text.parse_math": False,
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
_LONGEST_NAME = 24
_BOX = "\N{WHITE SQUARE}"


def strip(pictures: np.ndarray) -> np.ndarray:
    """(N, C, H, W) side by side: (H, N W, C)."""
    return np.concatenate(list(pictures.transpose(0, 2, 3, 1)), axis=1)


def show(axis: Axes, picture: np.ndarray) -> None:
    """(H, W, C) in 0 to 1, grey or colour, without ticks."""
    axis.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def legible(name: str) -> str:
    """The name of a class as a picture shows it: cut where it is long, with a box for what the font lacks.

    A space comes before an underscore, which matplotlib takes for a wish to be left out.
    """
    known = get_font(findfont(STYLE["font.family"])).get_charmap()
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    drawn = "".join(each if ord(each) in known else _BOX for each in short)
    return f" {drawn}" if drawn.startswith("_") else drawn


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; the same figure, the same bytes."""
    FigureCanvasAgg(figure).print_figure(path, dpi=_DOTS_PER_INCH, metadata={"Software": None})
